"""What is compared, read block by block: every image as float32 in real units on the grid of the restored image.

No more than a block with its halo is in memory, so that metrics of an image of any size fit in little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from cvdm_core.images.intensity import input_window, upsample
from cvdm_core.images.mosaic import ATTRIBUTE as MOSAIC
from cvdm_core.images.mosaic import covered
from cvdm_core.images.reading import open_image
from cvdm_core.quality.resolution import central_square

Float32 = NDArray[np.float32]

BLOCK = 1024  # edge; a multiple of 16, which MS-SSIM needs [pixels]
SLIVER = 256  # what is left at the border joins its neighbour if it is narrower than this [pixels]


class Plane(NamedTuple):
    """One plane of an image: time point, channel, z."""

    t: int
    c: int
    z: int


def middle_plane(planes: list[Plane]) -> Plane:
    """Return the plane at the middle time point and the middle z, of all the planes of one channel."""
    last = max(planes)
    return Plane((last.t + 1) // 2, last.c, (last.z + 1) // 2)


class Source(Protocol):
    """An image that can be read piece by piece."""

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return a piece (Y, X) on the grid of the restored image, float32, in real units."""


class Stored:
    """An image of a store; integers that stand for real numbers are turned back into them.

    Parameters
    ----------
    store
        Path of the OME-Zarr store.
    image
        Name of the image in it; "" is the one at its root.
    """

    def __init__(self, store: Path, image: str = "") -> None:
        """Open the image; nothing is read."""
        self.array: xr.DataArray = open_image(store, image=image)
        self._map = self.array.attrs["cvdm"].get("intensity_map")
        self.mosaic: dict[str, Any] | None = self.array.attrs["cvdm"].get(MOSAIC)

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return a piece of one plane."""
        piece = self.array.isel(t=plane.t, c=plane.c, z=plane.z, y=y, x=x).data
        pixels: Float32 = np.asarray(piece.compute(scheduler="synchronous"), np.float32)
        if self._map:
            pixels = pixels * np.float32(self._map["scale"]) + np.float32(self._map["offset"])
        return pixels

    def acquired(self, y: slice, x: slice, away: int) -> NDArray[np.bool_]:
        """Return which pixels of an input were acquired and lie `away` pixels from any that was not: all, unless a mosaic has gaps."""
        if self.mosaic is None:
            return np.ones((y.stop - y.start, x.stop - x.start), bool)
        mask: NDArray[np.bool_] = minimum_filter(covered(self.mosaic, y, x), 2 * away + 1, mode="nearest")
        return mask

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X)."""
        return self.array.shape[3], self.array.shape[4]


def acquired_square(stored: Stored, edge: int) -> tuple[slice, slice]:
    """Return a square at the centre of an input; at that of the field nearest to it where the input is a mosaic, which may have gaps."""
    if stored.mosaic is None:
        return central_square(stored.shape, edge)
    rows, columns = stored.mosaic["field_shape"]
    corners = [(field["y"], field["x"]) for field in stored.mosaic["fields"]]
    nearest = min(corners, key=lambda at: math.hypot(at[0] + (rows - stored.shape[0]) / 2, at[1] + (columns - stored.shape[1]) / 2))
    y, x = central_square((rows, columns), edge)
    return slice(y.start + nearest[0], y.stop + nearest[0]), slice(x.start + nearest[1], x.stop + nearest[1])


class Upsampled:
    """The input on the grid of the restored image, by cubic interpolation (`images.intensity.upsample`)."""

    def __init__(self, stored: Stored, scale: int) -> None:
        """Take the input and how many pixels of the restored image lie along each of its own."""
        self.stored, self.scale = stored, scale

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return a piece of one plane; the same pixels whatever piece they are read with."""
        windows, insides = [], []
        for part, size in zip((y, x), self.stored.shape, strict=True):
            whole = slice(part.start // self.scale * self.scale, -(-part.stop // self.scale) * self.scale)
            window, inside = input_window(whole, self.scale, size)
            windows.append(window)
            insides.append(slice(inside.start + part.start - whole.start, inside.stop + part.stop - whole.stop))
        return upsample(self.stored.read(plane, *windows), self.scale)[tuple(insides)]


class Scratch:
    """An image that is computed once, kept in a file, and read in pieces.

    Parameters
    ----------
    path
        Of a new file, (planes, Y, X) float32.
    planes
        The planes that it holds.
    shape
        (Y, X).
    """

    def __init__(self, path: Path, planes: list[Plane], shape: tuple[int, int]) -> None:
        """Make the file; it takes room as it is filled."""
        self._path, self._shape = path, (len(planes), *shape)
        self._number = {plane: number for number, plane in enumerate(planes)}
        np.memmap(path, np.float32, "w+", shape=self._shape)

    def write(self, plane: Plane, y: slice, x: slice, pixels: Float32) -> None:
        """Fill a piece of one plane."""
        np.memmap(self._path, np.float32, "r+", shape=self._shape)[self._number[plane], y, x] = pixels

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return a piece of one plane. The file is mapped for each piece, so that its pages do not add up in memory."""
        return np.array(np.memmap(self._path, np.float32, "r", shape=self._shape)[self._number[plane], y, x])


class Rescaled:
    """slope * source + intercept."""

    def __init__(self, source: Source, intercept: float, slope: float) -> None:
        """Keep what is rescaled on reading."""
        self._source, self._intercept, self._slope = source, np.float32(intercept), np.float32(slope)

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return rescaled pixels."""
        return self._slope * self._source.read(plane, y, x).astype(np.float32) + self._intercept


class Nothing:
    """An image without any content, for the reference row."""

    def read(self, plane: Plane, y: slice, x: slice) -> Float32:
        """Return zeros."""
        return np.zeros((y.stop - y.start, x.stop - x.start), np.float32)


def blocks(shape: tuple[int, int], edge: int = BLOCK) -> Iterator[tuple[slice, slice]]:
    """Cut a plane into blocks (y, x) that begin at multiples of `edge`; a sliver at the border joins its neighbour."""
    rows, columns = (_cuts(size, edge) for size in shape)
    for y in rows:
        for x in columns:
            yield y, x


def _cuts(size: int, edge: int) -> list[slice]:
    starts = list(range(0, size, edge))
    if len(starts) > 1 and size - starts[-1] < min(SLIVER, edge):
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], size], strict=True)]


def with_halo(block: tuple[slice, slice], halo: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the block with its context, cut at the plane's border."""
    y, x = (slice(max(part.start - halo, 0), min(part.stop + halo, size)) for part, size in zip(block, shape, strict=True))
    return y, x


def inside(block: tuple[slice, slice], region: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return where a block lies within a region that contains it."""
    y, x = (slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(block, region, strict=True))
    return y, x


def grid_step(pixels: int, wanted: int) -> int:
    """Return the step along y and x that thins `pixels` out to about `wanted` at most."""
    return max(1, math.ceil(math.sqrt(pixels / wanted)))


def thin(block: tuple[slice, slice], step: int) -> tuple[slice, slice]:
    """Return the slices, within a block, of those pixels whose absolute position is a multiple of `step`."""
    y, x = (slice(-part.start % step, None, step) for part in block)
    return y, x
