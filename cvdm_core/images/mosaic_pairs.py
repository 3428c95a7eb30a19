"""How two neighbouring fields of a mosaic lie to each other, from what both show where they overlap.

First coarsely, by multiview-stitcher's phase correlation on binned strips that reach over the overlap by the play allowed to the stage;
then finely, by the correlation coefficient of what overlaps exactly. Whether the result is believed depends on how well the two then
agree.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.mosaic import State

Float32 = NDArray[np.float32]
Read = Callable[[slice, slice], NDArray[np.generic]]
PLAY = 0.05  # of a field's edge, by which neighbours may lie off where the stage says: with 10 % overlap, half of it
LEAST_PLAY_PX = 16
LONGEST = 256  # side of a strip that is looked at coarsely [pixels after binning]
FINE, COARSE = 2.0, 16.0  # structure is what a Gaussian of the first sigma keeps and one of the second does not [pixels]
REACH = 2  # of the fine search, along y and x [pixels]
MOST_STEPS = 12  # of the fine search
SETTLED = 0.1  # beyond half a pixel, so that the search ends where two places are equally good [pixels]
LEAST_CORRELATION = 0.4  # a few bright points match by chance with more than what noise gives
SURE = 5.0  # standard deviations above what noise alone gives
LEAST_OVERLAP_PX = 4


@dataclass(frozen=True)
class Measured:
    """What was found of a pair: see `mosaic.Overlap`. `displacement` is (y, x) of the second field from the first [pixels]."""

    state: State
    correlation: float
    displacement: tuple[float, float] | None
    brightness: float | None


def overlap_of(displacement: NDArray[np.floating], shape: tuple[int, int]) -> tuple[float, float]:
    """Return rows and columns that two fields share; negative where they lie apart."""
    y, x = (size - abs(float(shift)) for size, shift in zip(shape, displacement, strict=True))
    return y, x


def measure_pair(first: Read, second: Read, expected: tuple[float, float], shape: tuple[int, int], thorough: bool = True) -> Measured:
    """Measure where the second of two neighbouring fields lies.

    Parameters
    ----------
    first, second
        Read a region (Y, X) of the two, in one and the same plane.
    expected
        (y, x) of the second from the first as the stage says [pixels].
    shape
        (Y, X) of a field.
    thorough
        Whether to look again from elsewhere before the two are said to disagree.
    """
    play = [max(LEAST_PLAY_PX, round(PLAY * size)) for size in shape]
    about = (round(expected[0]), round(expected[1]))
    best = 0.0
    for reach in (play, [0, 0], None):  # a strip that reaches further holds more that only one of the fields shows
        start = about if reach is None else _coarse(first, second, about, shape, reach)
        place, correlation, one, other = _settle(first, second, start, shape)
        near = all(abs(at - wanted) <= most for at, wanted, most in zip(place, expected, play, strict=True))
        if near and correlation >= max(LEAST_CORRELATION, SURE / math.sqrt(_independent(one))):
            light = float(one.mean())
            return Measured("measured", correlation, place, float(other.mean()) / light if light > 0 else None)
        best = max(best, correlation)
        if not thorough:
            break
        if reach is play and not all(map(_has_structure, _read(first, second, about, shape, (0, 0)))):
            return Measured("empty", best, None, None)
    return Measured("disagrees", best, None, None)


def _settle(
    first: Read, second: Read, start: tuple[int, int], shape: tuple[int, int]
) -> tuple[tuple[float, float], float, Float32, Float32]:
    """Follow the correlation uphill; return where it ends (y, x), the correlation (0: nowhere), and what overlaps there."""
    found, step = start, (0.0, 0.0)
    for _ in range(MOST_STEPS):
        found = (found[0] + round(step[0]), found[1] + round(step[1]))
        one, other = _read(first, second, found, shape, (0, 0))
        step, correlation = _fine(_structure(one), _structure(other))
        if max(abs(step[0]), abs(step[1])) <= 0.5 + SETTLED:
            return (found[0] + step[0], found[1] + step[1]), correlation, one, other
        if min(overlap_of(np.add(found, step), shape)) < LEAST_OVERLAP_PX:
            break
    return found, 0.0, one, other


def structure_share(pixels: Float32) -> float:
    """Return the variance of structure as a multiple of what white noise of the same total variance would have."""
    total = float((pixels - _smoothed(pixels, COARSE)).var())
    return float(_structure(pixels).var()) / total * 4 * math.pi * FINE**2 if total > 0 else 0.0


def _has_structure(pixels: Float32) -> bool:
    return structure_share(pixels) > 1 + 2 * SURE * math.sqrt(2 / _independent(pixels))


def _independent(pixels: Float32) -> float:
    """Return how many independent values smoothed pixels amount to."""
    return max(pixels.size / (4 * math.pi * FINE**2), 1.0)


def _structure(pixels: Float32) -> Float32:
    return np.asarray(_smoothed(pixels, FINE) - _smoothed(pixels, COARSE), np.float32)


def _smoothed(pixels: Float32, sigma: float) -> Float32:
    from scipy.ndimage import gaussian_filter  # half a second to import, and most acquisitions are no mosaic

    return np.asarray(gaussian_filter(pixels, sigma))


def _fine(one: Float32, other: Float32) -> tuple[tuple[float, float], float]:
    """Return how much further the second field lies than the regions were read for, (y, x) [pixels], and the correlation there.

    The correlation at every whole shift up to `REACH` is that of the same pixels of the first, so that no edge and no period of a
    Fourier transform favours one; a parabola through the best and its neighbours gives the fraction.
    """
    reach = [min(REACH, (size - 1) // 3) for size in one.shape]
    inner = one[reach[0] : one.shape[0] - reach[0], reach[1] : one.shape[1] - reach[1]]
    shifts = [range(-most, most + 1) for most in reach]
    inner = inner - inner.mean()
    table = np.array([[_correlation(inner, _moved(other, y, x, reach)) for x in shifts[1]] for y in shifts[0]])
    best = np.unravel_index(int(table.argmax()), table.shape)
    y, x = (_vertex(table.take(best[1 - axis], 1 - axis), int(best[axis])) - reach[axis] for axis in (0, 1))
    return (y, x), float(table[best])


def _moved(pixels: Float32, y: int, x: int, reach: list[int]) -> Float32:
    """Return the pixels that lie under the inner part of the other field if this one lies further by (y, x)."""
    rows, columns = (slice(most - shift, size - most - shift) for most, shift, size in zip(reach, (y, x), pixels.shape, strict=True))
    return pixels[rows, columns]


def _vertex(values: NDArray[np.float64], best: int) -> float:
    if not 0 < best < len(values) - 1:
        return float(best)
    before, here, after = values[best - 1 : best + 2]
    bend = before - 2 * here + after
    return best + float((before - after) / (2 * bend)) if bend < 0 else float(best)


def _correlation(one: Float32, other: Float32) -> float:
    """Return the correlation coefficient of two images, the first of which has the mean zero."""
    square = float(np.vdot(one, one)) * (float(np.vdot(other, other)) - float(other.mean()) ** 2 * other.size)
    return float(np.vdot(one, other)) / math.sqrt(square) if square > 0 else 0.0


def _read(
    first: Read, second: Read, displacement: tuple[int, int], shape: tuple[int, int], play: list[int] | tuple[int, int]
) -> tuple[Float32, Float32]:
    """Return what overlaps of both fields, with as much more of each as `play` allows; both of one shape."""
    regions = [_ranges(shift, size, most) for shift, size, most in zip(displacement, shape, play, strict=True)]
    one, other = ((regions[0][side], regions[1][side]) for side in (0, 1))
    return np.asarray(first(*one), np.float32), np.asarray(second(*other), np.float32)


def _ranges(shift: int, size: int, play: int) -> tuple[slice, slice]:
    """Return the rows (or columns) of the first and of the second field that overlap, or do after a move by `play` at most."""
    start, stop = max(0, shift - play), min(size, size + shift + play)
    return slice(start, stop), slice(size - stop, size - start)


def _coarse(first: Read, second: Read, displacement: tuple[int, int], shape: tuple[int, int], play: list[int]) -> tuple[int, int]:
    """Return where the second lies by multiview-stitcher's phase correlation; at most `play` from where it is thought to lie."""
    import xarray as xr
    from multiview_stitcher.registration import phase_correlation_registration  # takes seconds to import

    binning = max(1, -(-max(size - abs(shift) + most for size, shift, most in zip(shape, displacement, play, strict=True)) // LONGEST))
    one, other = (_binned(strip, binning) for strip in _read(first, second, displacement, shape, play))
    if min(one.shape) < LEAST_OVERLAP_PX or not one.std() > 0 or not other.std() > 0:
        return displacement
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of windows without any structure, which the correlation below tells
        result = phase_correlation_registration(xr.DataArray(_structure(one)), xr.DataArray(_structure(other)))
    if not isinstance(result, dict):  # no candidate was any good
        return displacement
    moved = np.asarray(result["affine_matrix"], float)[:2, 2] * binning
    starts = [_ranges(shift, size, most) for shift, size, most in zip(displacement, shape, play, strict=True)]
    y, x = (round(one.start - other.start - shift) for (one, other), shift in zip(starts, moved, strict=True))
    limits = [max(most, LEAST_PLAY_PX) for most in play]
    return (y, x) if abs(y - displacement[0]) <= limits[0] and abs(x - displacement[1]) <= limits[1] else displacement


def _binned(pixels: Float32, binning: int) -> Float32:
    rows, columns = (size // binning * binning for size in pixels.shape)
    shape = rows // binning, binning, columns // binning, binning
    return np.asarray(pixels[:rows, :columns].reshape(shape).mean((1, 3)), np.float32)
