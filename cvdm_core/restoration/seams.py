"""Measuring seams: is the image steeper, or flatter, across the borders of shards than beside them?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.tiles import Shard, shards

Read = Callable[[int, int, int, slice, slice], NDArray[np.generic]]
Border = tuple[int, int, int, int]
"""Channel, axis across, and the first pixel (y, x) of the shard behind it; the same for all time points and z."""

NEIGHBOURS = 4
"""Positions compared on each side of a border."""
SEGMENT = 64
"""Pixels along a border that count as one place, because neighbouring pixels are not independent [pixels]."""
MOST_STRIPS = 512
"""Borders looked at in a large image, spread evenly over it."""
PERMUTATIONS = 999


def measure_seams(read: Read, shape: Sequence[int], shard: int, period: int) -> dict[str, Any]:
    """Compare the absolute gradient across shard borders with that beside them.

    Every shard is computed by itself, so every shard border is a possible seam, and the borders of blocks are among them.
    Gradients are compared at equal phase of the network's grid (`period`), which has a texture of its own. The p-value is that of
    a permutation test, two-sided (a blended seam is flatter): without seams, the border may trade places with its neighbours. What
    lies at one place is averaged over time and z first, because the same structure lies there in all of them.

    Parameters
    ----------
    read
        `read(t, c, z, y, x)` returns the pixels `(Y, X)` of one piece of level 0.
    shape
        Shape of the image, `(T, C, Z, Y, X)`.
    shard
        Edge of a shard, in pixels.
    period
        Distance between the compared positions, in pixels: a multiple of the network's stride and of the upscaling factor.

    Returns
    -------
    dict
        `ratio` (mean absolute gradient across over beside; 1 without seams), `p` (p-value), `segments` (of borders, in all
        channels), and `reason`: why `ratio` and `p` are null, or null.
    """
    places = defaultdict(list)
    for border, strip, at in _strips(read, shape, shard, period):
        for number, row in enumerate(_observations(strip, at, period)):
            places[border, number].append(row)
    if not places:
        return _null("no shard of this image has a neighbour, so there is no border", 0)
    values = np.stack([np.mean(rows, axis=0) for rows in places.values()])
    held = np.isfinite(values)
    usable = held[:, 0] & (held.sum(axis=1) > 1)
    values, held = values[usable], held[usable]
    if not values.size or not (values[held] > 0).any():
        return _null("the image is constant around its borders", len(values))
    across = np.zeros(len(values), int)
    measured = _ratio(values, held, across)
    generator = np.random.default_rng(0)
    extreme = 1
    for _ in range(PERMUTATIONS):
        keys = np.where(held, generator.random(values.shape), 2)
        extreme += _distance(_ratio(values, held, keys.argmin(axis=1))) >= _distance(measured)
    finite = measured if np.isfinite(measured) else None
    reason = None if finite is not None else "the image is constant beside its borders"
    return {"ratio": finite, "p": extreme / (PERMUTATIONS + 1), "segments": len(values), "reason": reason}


def _null(reason: str, segments: int) -> dict[str, Any]:
    return {"ratio": None, "p": None, "segments": segments, "reason": reason}


def _ratio(values: NDArray[np.float64], held: NDArray[np.bool_], across: NDArray[np.int_]) -> float:
    picked = values[np.arange(len(values)), across]
    beside = (np.where(held, values, 0).sum(axis=1) - picked) / (held.sum(axis=1) - 1)
    below = beside.sum()
    return float(picked.sum() / below) if below > 0 else float("inf")


def _distance(ratio: float) -> float:
    return max(ratio, 1 / ratio) if ratio > 0 else float("inf")


def _strips(read: Read, shape: Sequence[int], shard: int, period: int) -> Iterator[tuple[Border, NDArray[np.float64], int]]:
    """Yield shard borders, the strip `(border direction, gradient direction)` around each, and where the border lies in the strip."""
    parts = shards(shape, shard)
    count = len(parts)
    chosen = range(count) if count <= MOST_STRIPS else np.unique(np.linspace(0, count - 1, MOST_STRIPS).astype(int)).tolist()
    reach = NEIGHBOURS * period
    for part in (parts[number] for number in chosen):
        for axis, pixels in ((1, part.x), (0, part.y)):
            if pixels.start == 0:
                continue
            around = slice(max(0, pixels.start - reach - 1), min(shape[3 + axis], pixels.start + reach + 1))
            strip = _read_strip(read, part, axis, around)
            yield (part.c, axis, part.y.start, part.x.start), (strip if axis else strip.T), pixels.start - around.start


def _read_strip(read: Read, part: Shard, axis: int, around: slice) -> NDArray[np.float64]:
    y, x = (part.y, around) if axis else (around, part.x)
    return read(part.t, part.c, part.z, y, x).astype(np.float64)


def _observations(strip: NDArray[np.float64], border: int, period: int) -> Iterator[NDArray[np.float64]]:
    """Yield one row for each segment of a border: the gradient across it, then beside it (NaN outside the image)."""
    gradient = np.abs(np.diff(strip, axis=1))
    steps = [step for step in range(-NEIGHBOURS, NEIGHBOURS + 1) if step]
    places = [border - 1, *(border - 1 + step * period for step in steps)]
    for begin in range(0, len(gradient), SEGMENT):
        piece = gradient[begin : begin + SEGMENT].mean(axis=0)
        yield np.array([piece[place] if 0 <= place < len(piece) else np.nan for place in places])
