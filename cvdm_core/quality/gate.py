"""Whether a model can be asked about an image at all: how much of its input looks like nothing that the model was trained on.

A network answers whatever it is shown, and samples that agree with each other say nothing about an input of another exposure, focus or
camera. So windows of the input are compared with the windows of the training inputs, feature by feature (`images.appearance`). Where
structures differ but the image quality does not, nothing is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cvdm_core.images.appearance import FEATURES, SMALLEST, Bounds, appearance
from cvdm_core.quality.planes import Plane, Stored
from cvdm_core.quality.table import Row, make_row

MOST = 0.5
"""An image of which more than this share lies outside, on one side, is called unlike the training data."""
PLANES = 4
ALONG = 8
"""Windows along each side of a plane at most."""


def compare_inputs(channel: str, raw: Stored, planes: list[Plane], edge: int, known: Bounds) -> tuple[list[Row], dict[str, Any]]:
    """Compare windows of an input with those of the training inputs.

    Parameters
    ----------
    raw
        The input.
    planes
        All planes of the channel; up to four of them are looked at, with up to 64 windows each.
    edge
        Of a window [pixels], as in the training: other sizes have another contrast and scatter otherwise.
    known
        Between which values the windows of the training lie.

    Returns
    -------
    rows
        The row `unlike_training`: the largest share of windows, over all features, that lie on one side of the bounds.
    details
        For each feature `low`, `high`, the `median` of the windows, and which shares of them lie `below` and `above`.
    """
    found = np.array([appearance(raw.read(plane, y, x)) for plane in _spread(planes) for y, x in _windows(raw, edge)])
    if not len(found):
        return [
            make_row(channel, "input", "unlike_training", np.nan, f"no window of {edge} pixels, as the model tells of, was acquired")
        ], {}
    details = {}
    for number, feature in enumerate(FEATURES):
        low, high = known[feature]
        values = found[:, number]
        shares = {"below": float(np.mean(values < low)), "above": float(np.mean(values > high))}
        details[feature] = {"low": low, "high": high, "median": float(np.median(values)), **shares}
    worst = max(max(feature["below"], feature["above"]) for feature in details.values())
    return [make_row(channel, "input", "unlike_training", worst)], details


def _spread(planes: list[Plane]) -> list[Plane]:
    """Return up to `PLANES` planes, the first and the last among them."""
    return [planes[number] for number in np.unique(np.linspace(0, len(planes) - 1, PLANES).round().astype(int))]


def _windows(raw: Stored, edge: int) -> Iterator[tuple[slice, slice]]:
    """Return windows spread evenly over the image, as many as cover it, where all pixels were acquired."""
    if not SMALLEST <= edge <= min(raw.shape):
        return
    rows, columns = (np.linspace(0, size - edge, min(ALONG, -(-size // edge))).astype(int) for size in raw.shape)
    for first_y in rows:
        for first_x in columns:
            y, x = slice(int(first_y), int(first_y) + edge), slice(int(first_x), int(first_x) + edge)
            if raw.acquired(y, x, 0).all():
                yield y, x
