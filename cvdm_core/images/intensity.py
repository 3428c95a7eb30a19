"""Intensities: between stored counts and model units, and the one function that puts an input on the grid of its target.

Everything here depends on absolute positions only, never on the tile that is looked at: a window that brings `UPSAMPLE_REACH` pixels of
context gives the same bits as the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

UPSAMPLE_REACH = 2
"""Pixels of the input, on each side, that an upsampled pixel depends on."""


@dataclass(frozen=True)
class Normalisation:
    """A linear map between stored values and model units: model = (stored - offset) / scale.

    Parameters
    ----------
    offset, scale : float
        In stored units (counts); `scale` is positive.
    """

    offset: float
    scale: float

    def __post_init__(self) -> None:
        """Refuse a map that cannot be inverted."""
        if not (np.isfinite(self.offset) and np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"offset {self.offset} and scale {self.scale} make no invertible map")

    def to_model(self, stored: NDArray[np.generic]) -> Float32:
        """Return stored values in model units, as float32 of the same shape."""
        return (np.asarray(stored, np.float32) - np.float32(self.offset)) * np.float32(1 / self.scale)

    def from_model(self, model: NDArray[np.generic]) -> Float32:
        """Return values in model units as stored units, as float32 of the same shape."""
        return np.asarray(model, np.float32) * np.float32(self.scale) + np.float32(self.offset)


def upsample(array: NDArray[np.generic], scale: int) -> Float32:
    """Put an input on the grid of its target: separable cubic interpolation along y and x.

    Keys' cubic convolution with a = -1/2 (Catmull-Rom; Keys 1981, doi:10.1109/TASSP.1981.1163711), which reproduces polynomials of second
    degree. Half-pixel centres: output pixel o lies at (o + 1/2) / scale - 1/2 in pixels of the input. Beyond the border the edge pixel
    is repeated.

    Parameters
    ----------
    array : ndarray of shape (..., Y, X)
        Any real data type.
    scale : int
        Pixels of the output along y and x for each pixel of the input; 1 returns the input.

    Returns
    -------
    ndarray of shape (..., Y * scale, X * scale), float32
        Equal bit for bit for a whole image and for any window of it, `UPSAMPLE_REACH` input pixels away from the window's cut edges; and
        equal bit for bit under flips, because taps at equal distance are added first.
    """
    values = np.array(array, np.float32)
    if scale == 1:
        return values
    return _upsample_axis(_upsample_axis(values, scale, -2), scale, -1)


def input_window(region: slice, scale: int, length: int) -> tuple[slice, slice]:
    """Return which input pixels to read for a region of the target grid, and where the region lies once they are upsampled.

    Parameters
    ----------
    region : slice
        Start and stop along one axis of the target grid, multiples of `scale`.
    scale : int
        Target pixels for each input pixel.
    length : int
        Pixels of the whole input along this axis.

    Returns
    -------
    window : slice
        Pixels of the input, `UPSAMPLE_REACH` more on each side where there are any.
    inside : slice
        `upsample(input[window], scale)[inside]` is `upsample(input, scale)[region]`.
    """
    if region.start % scale or region.stop % scale:
        raise ValueError(f"the region {region.start}:{region.stop} does not begin and end on whole input pixels (scale {scale})")
    reach = UPSAMPLE_REACH if scale > 1 else 0
    first = max(region.start // scale - reach, 0)
    last = min(region.stop // scale + reach, length)
    return slice(first, last), slice(region.start - first * scale, region.stop - first * scale)


def _upsample_axis(values: Float32, scale: int, axis: int) -> Float32:
    axis += values.ndim
    shape = values.shape
    edges = np.take(values, [0], axis), np.take(values, [shape[axis] - 1], axis)
    padded = np.concatenate([edges[0]] * UPSAMPLE_REACH + [values] + [edges[1]] * UPSAMPLE_REACH, axis)
    before, after = (slice(None),) * axis, (slice(None),) * (values.ndim - axis - 1)
    result = np.empty((*shape[: axis + 1], scale, *shape[axis + 1 :]), np.float32)
    for phase in range(scale):
        # All output pixels with the same remainder modulo `scale` lie at the same distance from their input pixels.
        distance = (phase + 0.5) / scale - 0.5
        first = UPSAMPLE_REACH - 1 + int(np.floor(distance))
        near0, near1, far0, far1 = (padded[(*before, slice(first + tap, first + tap + shape[axis]), *after)] for tap in (1, 2, 0, 3))
        w_far0, w_near0, w_near1, w_far1 = _keys_weights(distance - np.floor(distance))
        where: tuple[slice | int, ...] = (*before, slice(None), phase, *after)
        result[where] = (near0 * w_near0 + near1 * w_near1) + (far0 * w_far0 + far1 * w_far1)
    return result.reshape(*shape[:axis], shape[axis] * scale, *shape[axis + 1 :])


def _keys_weights(fraction: float) -> Float32:
    """Return the weights of the four taps at distances 1 + f, f, 1 - f, 2 - f (Keys 1981, equation 4 with a = -1/2)."""
    distances = np.array([1 + fraction, fraction, 1 - fraction, 2 - fraction])
    near = 1.5 * distances**3 - 2.5 * distances**2 + 1
    far = -0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2
    return np.where(distances <= 1, near, far).astype(np.float32)
