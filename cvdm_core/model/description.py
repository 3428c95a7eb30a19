"""What a model says about itself, in the `model.yaml` of its folder; reading it needs no torch, which takes seconds to import."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cvdm_core.errors import UserError
from cvdm_core.model.spec import ModelSpec
from cvdm_core.yaml_text import load_yaml

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.yaml"
FORMAT = 1
ANY_CHANNEL = "*"

ChannelMaps = dict[str, dict[str, float]]
"""`{"input": {"offset": .., "scale": ..}, "target": {"offset": .., "scale": ..}}`, in counts; model = (stored - offset) / scale."""


@dataclass(frozen=True)
class DescribedModel:
    """A trained model, all but its weights.

    Parameters
    ----------
    name : str
        That of the folder: a copy may lie under another name than it was trained under.
    spec : ModelSpec
    normalisation : dict
        The linear maps between counts and model units, by channel name; `"*"` serves every channel.
    weights_sha256 : str
    info : dict
        The rest of `model.yaml`: scale, pixel size, training settings, data, numbers, versions.
    """

    name: str
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


def read_description(folder: str | Path) -> tuple[DescribedModel, bytes]:
    """Read `model.yaml`, and the weights as they lie on disk, which are those that it names.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the weights are not those that `model.yaml` names.
    """
    content = _read_yaml(Path(folder, DESCRIPTION))
    path = Path(folder, WEIGHTS)
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be read ({error.strerror}); run `cvdm train` again, or restore the file.") from None
    digest = hashlib.sha256(weights).hexdigest()
    if digest != content["weights_sha256"]:
        raise UserError(f"{path}: these are not the weights that {DESCRIPTION} names (sha256 differs); run `cvdm train` again.")
    try:
        spec = ModelSpec.from_dict(content["spec"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unusable(folder, error) from None
    known = {"format", "weights_sha256", "spec", "normalisation"}
    info = {key: value for key, value in content.items() if key not in known}
    return DescribedModel(Path(folder).name, spec, content["normalisation"], digest, info), weights


def unusable(folder: str | Path, error: Exception) -> UserError:
    """Return what is said of a model that this version cannot build."""
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{folder}: spec and weights do not fit this version of cvdm ({reason}); run `cvdm train` again.")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
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
