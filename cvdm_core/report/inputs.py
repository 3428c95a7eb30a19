"""Whether the input looks like those that the model was trained on, as `cvdm evaluate` found it: a sentence and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cvdm_core.quality.gate import MOST
from cvdm_core.report.page import clean

WORDS = {
    "brightness": ("mean of a window, counts", "darker", "brighter"),
    "contrast": ("standard deviation of a window, counts", "of less contrast", "of more contrast"),
    "roughness": ("noise from pixel to pixel, counts", "smoother (less noise, or blurred)", "rougher (more noise)"),
    "softness": (
        "twice the roughness of 2 × 2 means over that of pixels; 1 for white noise",
        "harder from pixel to pixel (sampled more coarsely, or sharpened)",
        "softer from pixel to pixel (blurred, or sampled more finely)",
    ),
}


@dataclass(frozen=True)
class Line:
    """One feature of one channel: of the training inputs, of this one, and the shares of it that lie outside [%]."""

    feature: str
    meaning: str
    low: str
    high: str
    median: str
    below: float
    above: float

    @property
    def wrong(self) -> bool:
        """Whether most of the image lies outside on one side."""
        return max(self.below, self.above) > 100 * MOST


def input_tables(evaluated: Mapping[str, Any]) -> list[tuple[str, list[Line]]]:
    """Return a table for each channel, from the receipt of `cvdm evaluate`; none where the model does not tell what it was trained on."""
    return [
        (str(channel["channel"]), [_line(feature, channel["inputs"][feature]) for feature in WORDS])
        for channel in evaluated.get("details", {}).get("channels", [])
        if channel.get("inputs")
    ]


def _line(feature: str, found: Mapping[str, float]) -> Line:
    low, high, median = (f"{found[key]:.4g}" for key in ("low", "high", "median"))
    return Line(feature, WORDS[feature][0], low, high, median, 100 * found["below"], 100 * found["above"])


def unlike(evaluated: Mapping[str, Any]) -> str:
    """Return a sentence if the input looks like nothing that the model was trained on; empty if it does, or if unknown."""
    tables = input_tables(evaluated)
    said = []
    for channel, lines in tables:
        different = [
            f"{max(line.below, line.above):.0f} % of it is {WORDS[line.feature][1 if line.below > line.above else 2]}"
            for line in lines
            if line.wrong
        ]
        if different:
            said.append(f"{f'in the channel {clean(channel)} ' if len(tables) > 1 else ''}{' and '.join(different)}")
    start = "This input looks like nothing that the model was trained on"
    return f"{start}: {'; '.join(said)} than 99.5 % of the training data." if said else ""
