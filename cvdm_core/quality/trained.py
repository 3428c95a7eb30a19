"""What the model was trained on: the range of its truth, what its inputs looked like, and whether what is measured was among its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from cvdm_core.errors import UserError
from cvdm_core.images.appearance import FEATURES, Bounds
from cvdm_core.quality.table import Row, make_row
from cvdm_core.sheet import Acquisition
from cvdm_core.yaml_text import load_yaml

SEEN = {"train": "trained_on", "val": "chosen_by"}  # metric by split of the training data


@dataclass(frozen=True)
class TrainedOn:
    """What the model's description says of its data.

    Attributes
    ----------
    ranges : range of the truth, by channel ("*": all).
    relative : whether every file has a gain of its own.
    files : the split of every file, by its sha256.
    window : edge of the windows whose features have the bounds of `inputs` [input pixels]; 0 if unknown.
    inputs : bounds of the features of the inputs, by channel ("*": all).
    """

    ranges: dict[str, float] = field(default_factory=dict)
    relative: bool = False
    files: dict[str, str] = field(default_factory=dict)
    window: int = 0
    inputs: dict[str, Bounds] = field(default_factory=dict)


def read_trained(path: Path) -> TrainedOn:
    """Read it from a `model.yaml`; nothing is known where there is none.

    Raises
    ------
    UserError
        If the file cannot be read as such a description.
    """
    if not path.is_file():
        return TrainedOn()
    try:
        description = load_yaml(path.read_text(encoding="utf-8"))
        ranges = {str(channel): float(value) for channel, value in description.get("truth_range", {}).items()}
        data = description.get("data", [])
        files = {str(digest): str(entry.get("split")) for entry in data for digest in entry.get("files", {}).values()}
        told = description.get("inputs", {"window": 0, "channels": {}})
        inputs = {
            str(channel): {feature: (float(known[feature][0]), float(known[feature][1])) for feature in FEATURES}
            for channel, known in told["channels"].items()
        }
        return TrainedOn(ranges, description.get("intensities") == "relative", files, int(told["window"]), inputs)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, LookupError, TypeError, ValueError):
        raise UserError(f"{path}: the description of the model cannot be read; run `cvdm train` again.") from None


def seen_rows(trained: TrainedOn, row: Acquisition, read: Mapping[str, str], channels: list[str]) -> list[Row]:
    """Return for each channel how many files of an acquisition the model was trained on or chosen by; no row where it is none.

    Parameters
    ----------
    read
        The sha256 of each file that was ingested. A flat field, which many acquisitions share, shows no specimen and does not count.
    """
    digests = {digest for file, digest in read.items() if not row.flat_field or Path(file) != Path(row.flat_field)}
    splits = [trained.files.get(digest, "") for digest in digests]
    counts = {metric: splits.count(split) for split, metric in SEEN.items() if split in splits}
    return [make_row(channel, "input", metric, float(count)) for channel in channels for metric, count in counts.items()]
