"""Writing an image with its pyramid: pieces of level 0 come in one by one, whole shards of every level go out.

A shard of level k holds the means of 2^k x 2^k shards of level 0, and where planes are grouped those of several planes. It is kept in
memory until the last of them has come. In the order of `nested` at most one shard a level is open (of a grouped time series one of each
channel), whatever the size of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.omezarr import check_region, write_level
from cvdm_core.images.pyramid import level_region, pyramid
from cvdm_core.images.tiles import Shard, shards

Files = dict[str, list[int | str]]


@dataclass
class _Open:
    """A file that is not complete yet, with pixels (T, Z, Y, X); `missing` counts the shards of level 0 that have not come."""

    y: slice
    x: slice
    pixels: NDArray[Any]
    missing: int


class PyramidWriter:
    """Writes one image, made by `create_image`. One process writes all levels above 0; level 0 may have other writers.

    Both methods take a region made of whole shards and its pixels, `(Y, X)`, each region once and in any order, and return what
    `write_region` returns, of all files that they wrote.
    """

    def __init__(self, folder: Path, path_in_store: str = "") -> None:
        """Read what is to be written."""
        self._folder, self._image = folder, path_in_store
        self._layout: Layout = read_layout(folder, path_in_store)
        self._grid = shards(self._layout.shape, self._layout.shard).grid[3:]
        self._open: dict[tuple[int, ...], _Open] = {}

    def write(self, region: Shard, plane: NDArray[Any]) -> Files:
        """Write a region of level 0, and each file that it completes."""
        check_region(self._layout, region, plane)
        if self._layout.planes(0) != (1, 1):
            return self._collect(region, plane, 0)
        place = region.t, region.c, region.z
        written = write_level(self._folder, self._image, self._layout, 0, place, (region.y, region.x), plane[None, None])
        return written | self._collect(region, plane, 1)

    def add(self, region: Shard, plane: NDArray[Any]) -> Files:
        """Take a region whose level 0 is written already."""
        check_region(self._layout, region, plane)
        return self._collect(region, plane, 1)

    def _collect(self, region: Shard, plane: NDArray[Any], first: int) -> Files:
        """Put a region in its place in the files of the levels from `first` on, and write those that it completes."""
        written: Files = {}
        for inside in shards((1, 1, 1, *region.shape), self._layout.shard):
            piece = Shard(0, region.t, region.c, region.z, _moved(inside.y, region.y.start), _moved(inside.x, region.x.start))
            for level, pixels in enumerate(pyramid(plane[inside.y, inside.x], self._layout.levels)):
                if level >= first:
                    written |= self._place(level, piece, pixels)
        return written

    def _place(self, level: int, piece: Shard, pixels: NDArray[Any]) -> Files:
        edge = self._layout.shard
        row, column = (part.start // edge >> level for part in (piece.y, piece.x))
        file, (t, z) = self._layout.place(level, (piece.t, piece.c, piece.z))
        key = (level, *file, row, column)
        if key not in self._open:
            self._open[key] = self._opened(level, file, row, column)
        shard = self._open[key]
        y, x = level_region(piece, level)
        shard.pixels[t, z, y.start - shard.y.start : y.stop - shard.y.start, x.start - shard.x.start : x.stop - shard.x.start] = pixels
        shard.missing -= 1
        if shard.missing:
            return {}
        del self._open[key]
        return write_level(self._folder, self._image, self._layout, level, file, (shard.y, shard.x), shard.pixels)

    def _opened(self, level: int, file: tuple[int, int, int], row: int, column: int) -> _Open:
        edge = self._layout.shard
        y, x = (
            slice(number * edge, max(number * edge, min((number + 1) * edge, size)))  # empty where all its pixels are dropped
            for number, size in zip((row, column), self._layout.level_shape(level)[3:], strict=True)
        )
        below = zip((row, column), self._grid, strict=True)
        rows, columns = (min((number + 1) << level, count) - (number << level) for number, count in below)
        frames, depth = self._layout.held(level, file)
        pixels = np.empty((frames, depth, y.stop - y.start, x.stop - x.start), self._layout.dtype)
        return _Open(y, x, pixels, frames * depth * rows * columns)


def _moved(pixels: slice, by: int) -> slice:
    return slice(pixels.start + by, pixels.stop + by)


def nested(shape: tuple[int, ...], shard: int) -> Iterator[Shard]:
    """Yield the shards of an image of shape `(T, C, Z, Y, X)` plane by plane, in each plane along a Z-order curve.

    Four neighbours of level k follow each other, so that a shard of level k + 1 is complete as early as it can be.
    """
    every = shards(shape, shard)
    *_, rows, columns = every.grid
    curve = sorted(((row, column) for row in range(rows) for column in range(columns)), key=lambda place: _interleaved(*place))
    for first in range(0, len(every), rows * columns):
        for row, column in curve:
            yield every[first + row * columns + column]


def _interleaved(row: int, column: int) -> int:
    """Return the number whose binary digits are those of row and column in turn."""
    digits = range(max(row, column).bit_length())
    return sum((row >> digit & 1) << 2 * digit + 1 | (column >> digit & 1) << 2 * digit for digit in digits)
