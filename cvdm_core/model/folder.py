"""The model folder: what a training leaves behind and a restoration reads.

`weights.safetensors` holds the network's weights (the moving average), `model.yaml` everything else that is needed to use them, with
the sha256 of the weights. Neither can hold code, so a folder from anywhere may be loaded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from safetensors import SafetensorError

from cvdm_core.errors import UserError
from cvdm_core.model import ModelSpec, Restorer, build_model

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.yaml"
FORMAT = 1
ANY_CHANNEL = "*"

ChannelMaps = dict[str, dict[str, float]]
"""`{"input": {"offset": .., "scale": ..}, "target": {"offset": .., "scale": ..}}`, in counts; model = (stored - offset) / scale."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model as it lies in its folder.

    Parameters
    ----------
    name : str
        That of the folder: a copy may lie under another name than it was trained under.
    restorer : Restorer
        On the CPU, in evaluation mode.
    spec : ModelSpec
    normalisation : dict
        The linear maps between counts and model units, by channel name; `"*"` serves every channel.
    weights_sha256 : str
    info : dict
        The rest of `model.yaml`: scale, pixel size, training settings, data, numbers, versions.
    """

    name: str
    restorer: Restorer
    spec: ModelSpec
    normalisation: dict[str, ChannelMaps]
    weights_sha256: str
    info: dict[str, Any]

    def channel(self, name: str) -> ChannelMaps:
        """Return the linear maps of a channel.

        Raises
        ------
        UserError
            If the model was not trained on a channel of this name.
        """
        maps = self.normalisation.get(name) or self.normalisation.get(ANY_CHANNEL)
        if maps is None:
            known = ", ".join(sorted(self.normalisation))
            raise UserError(
                f"the model {self.name!r} knows no channel {name!r}, only {known}; rename the channel, or train on pairs that have it."
            )
        return maps


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
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in restorer.state_dict().items()}
    data = safetensors.torch.save(weights)
    digest = hashlib.sha256(data).hexdigest()
    Path(folder, WEIGHTS).write_bytes(data)
    content = {
        **info,
        "format": FORMAT,
        "weights_sha256": digest,
        "spec": spec.to_dict(),
        "normalisation": {name: dict(maps) for name, maps in normalisation.items()},
        "settings": dict(settings),
    }
    Path(folder, DESCRIPTION).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return digest


def load_model(folder: str | Path) -> LoadedModel:
    """Read a model folder.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the weights are not those that `model.yaml` names.
    """
    description = _read_description(Path(folder, DESCRIPTION))
    path = Path(folder, WEIGHTS)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read ({error.strerror}); run `cvdm train` again, or restore the file.") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != description["weights_sha256"]:
        raise UserError(f"{path}: these are not the weights that {DESCRIPTION} names (sha256 differs); run `cvdm train` again.")
    try:
        spec = ModelSpec.from_dict(description["spec"])
        restorer = build_model(spec, seed=0)
        restorer.load_state_dict(safetensors.torch.load(data))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: spec and weights do not fit this version of cvdm ({reason}); run `cvdm train` again.") from None
    restorer.eval().requires_grad_(False)
    known = {"format", "weights_sha256", "spec", "normalisation"}
    info = {key: value for key, value in description.items() if key not in known}
    return LoadedModel(Path(folder).name, restorer, spec, description["normalisation"], digest, info)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: this is no model folder ({path.name} is missing); run `cvdm train`.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        raise UserError(f"{path}: this file cannot be read as YAML; run `cvdm train` again.") from None
    for key in ("format", "name", "weights_sha256", "spec", "normalisation"):
        if not isinstance(content, dict) or key not in content:
            raise UserError(f"{path}: the entry {key!r} is missing; run `cvdm train` again.")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path}: this is format {content['format']!r} and this version of cvdm reads {FORMAT}; train anew or change version."
        )
    if not isinstance(content["normalisation"], dict):
        raise UserError(f"{path}: the entry 'normalisation' is damaged; run `cvdm train` again.")
    for name, maps in content["normalisation"].items():
        _check_maps(path, name, maps)
    return dict(content)


def _check_maps(path: Path, name: object, maps: Any) -> None:
    try:
        good = all(math.isfinite(maps[side]["offset"]) and 0 < maps[side]["scale"] < math.inf for side in ("input", "target"))
    except (TypeError, KeyError):
        good = False
    if not good:
        raise UserError(f"{path}: the normalisation of channel {name!r} is damaged; run `cvdm train` again.")
