"""The model folder: what a training leaves behind and a restoration reads.

`weights.safetensors` holds the network's weights (the moving average), `model.yaml` everything else that is needed to use them, with
the sha256 of the weights. Neither can hold code, so a folder from anywhere may be loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from safetensors import SafetensorError

from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.model import ModelSpec, Restorer, build_model
from cvdm_core.model.description import DESCRIPTION, FORMAT, WEIGHTS, ChannelMaps, DescribedModel, read_description, unusable


@dataclass(frozen=True)
class LoadedModel(DescribedModel):
    """A trained model with its network, `restorer`: on the CPU, in evaluation mode."""

    restorer: Restorer


def save_model(
    folder: str | Path,
    restorer: Restorer,
    spec: ModelSpec,
    normalisation: Mapping[str, ChannelMaps],
    settings: Mapping[str, Any],
    info: Mapping[str, Any],
) -> str:
    """Write `weights.safetensors` and `model.yaml` into an existing folder, and return the sha256 of the weights.

    Parameters
    ----------
    folder : path
        Existing; the caller renames it into place once everything is in it.
    restorer : Restorer
        Its weights are stored in the precision that they have.
    spec : ModelSpec
        Builds the same network again.
    normalisation : mapping
        By channel name, see `ChannelMaps`.
    settings, info : mapping
        Plain values: the training's settings, and at least `name`; kept in `model.yaml` for people and provenance.

    Raises
    ------
    UserError
        If a weight is NaN or infinite.
    """
    _check_finite(folder, restorer)
    weights = {name: value.detach().cpu().contiguous() for name, value in restorer.state_dict().items()}
    data = safetensors.torch.save(weights)
    digest = hashlib.sha256(data).hexdigest()
    write_file(Path(folder, WEIGHTS), data)
    content = {
        **info,
        "format": FORMAT,
        "weights_sha256": digest,
        "spec": spec.to_dict(),
        "normalisation": {name: dict(maps) for name, maps in normalisation.items()},
        "settings": dict(settings),
    }
    write_file(Path(folder, DESCRIPTION), yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return digest


def load_model(folder: str | Path) -> LoadedModel:
    """Read a model folder.

    Raises
    ------
    UserError
        If a file is missing or damaged, the weights are not those that `model.yaml` names, or one is NaN or infinite.
    """
    described, weights = read_description(folder)
    try:
        restorer = build_model(described.spec, seed=0)
        restorer.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise unusable(folder, error) from None
    _check_finite(folder, restorer)
    restorer.eval().requires_grad_(False)
    return LoadedModel(**vars(described), restorer=restorer)


def _check_finite(folder: str | Path, restorer: Restorer) -> None:
    if not restorer.is_finite():
        raise UserError(f"{folder}: weights of this model are NaN or infinite, so it restores nothing; run `cvdm train` again.")
