"""The resolution pyramid: each level is the 2x2 mean of the one before; an odd last row or column is dropped.

Level k has `size >> k` pixels, and a shard of level 0 becomes `shard >> k` pixels of it, which no other shard shares. The same numbers
as ngff-zarr's ITKWASM_BIN_SHRINK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.tiles import Shard

BAND_BYTES = 2**17
"""Sums of rows are made in bands of this size, which stay in the processor's own cache until their columns are summed."""


def levels(shape_yx: tuple[int, int], chunk: int, shard: int) -> int:
    """Return the number of pyramid levels of a plane: until it fits one chunk, or cannot be halved further.

    Parameters
    ----------
    shape_yx
        Rows and columns of the plane at level 0.
    chunk, shard
        Edges, in pixels; a shard of level 0 keeps at least one pixel, so there are at most log2(shard) + 1 levels.
    """
    count = 1
    while max(shape_yx) >> (count - 1) > chunk and min(shape_yx) >> count > 0 and shard >> count > 0:
        count += 1
    return count


def level_shape(shape_yx: tuple[int, int], level: int) -> tuple[int, int]:
    """Return rows and columns of the plane at a level."""
    return shape_yx[0] >> level, shape_yx[1] >> level


def level_region(shard: Shard, level: int) -> tuple[slice, slice]:
    """Return the rows and columns of a level that a piece of whole level-0 shards covers; empty where odd pixels are dropped."""
    return slice(shard.y.start >> level, shard.y.stop >> level), slice(shard.x.start >> level, shard.x.stop >> level)


def pyramid(plane: NDArray[Any], count: int) -> Iterator[NDArray[Any]]:
    """Yield the levels 0 to `count` − 1 of a plane `(Y, X)`, all in the plane's data type.

    Sums of integers are carried, and means of floats in float64: every level is exact, and rounded (half up) only where it is stored.
    """
    yield plane
    exact = plane.dtype.kind in "iu"
    carried = plane
    for level in range(1, count):
        carried = _halve(carried, _wide(plane.dtype, level) if exact else np.dtype(np.float64))
        if exact:
            yield _rounded(carried, level).astype(plane.dtype)
        else:
            carried *= 0.25
            yield carried.astype(plane.dtype)


def _wide(dtype: np.dtype[Any], level: int) -> np.dtype[Any]:
    """Return an integer type that holds the sum of 4^level pixels, and half of that many more."""
    bits = 8 * dtype.itemsize + 2 * level + 1
    return np.dtype(f"{dtype.kind}{4 if bits <= 32 else 8}")


def _rounded(sums: NDArray[Any], level: int) -> NDArray[Any]:
    """Return sums over 4^level pixels divided by their number, rounded half up."""
    means: NDArray[Any] = sums + (1 << (2 * level - 1))
    means >>= 2 * level
    return means


def _halve(plane: NDArray[Any], wide: np.dtype[Any]) -> NDArray[Any]:
    """Return sums over 2x2 pixels, first of two rows and then of two columns."""
    rows, columns = plane.shape[0] // 2, plane.shape[1] // 2
    halved = np.empty((rows, columns), wide)
    band = max(1, BAND_BYTES // (2 * wide.itemsize * max(1, columns)))
    pairs = np.empty((min(band, rows), 2 * columns), wide)
    for top in range(0, rows, band):
        bottom = min(top + band, rows)
        sums = pairs[: bottom - top]
        np.add(plane[2 * top : 2 * bottom : 2, : 2 * columns], plane[2 * top + 1 : 2 * bottom : 2, : 2 * columns], out=sums, dtype=wide)
        np.add(sums[:, 0::2], sums[:, 1::2], out=halved[top:bottom])
    return halved
