"""The resolution pyramid: each level is the 2x2 mean of the one before; an odd last row or column is dropped.

One rule for every level: level k has `size >> k` pixels and shards of `shard >> k` pixels, so that a piece of whole shards at level 0
is a piece of whole shards at every level, and its writer owns them all. The same numbers as ngff-zarr's ITKWASM_BIN_SHRINK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.tiles import Shard


def levels(shape_yx: tuple[int, int], chunk: int, shard: int) -> int:
    """Return the number of pyramid levels of a plane: until it fits one chunk, or cannot be halved further.

    Parameters
    ----------
    shape_yx
        Rows and columns of the plane at level 0.
    chunk, shard
        Edges at level 0, in pixels; a shard is halved from level to level, so there are at most log2(shard) + 1 levels.
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

    The means are carried in float64, so that integers are exact at every level, and rounded (half up) only where a level is stored.
    """
    yield plane
    mean = plane
    for _ in range(1, count):
        mean = _halve(mean)
        yield np.floor(mean + 0.5).astype(plane.dtype) if plane.dtype.kind in "iu" else mean.astype(plane.dtype)


def _halve(plane: NDArray[Any]) -> NDArray[np.float64]:
    rows, columns = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    pairs = np.add(plane[0:rows:2, :columns], plane[1:rows:2, :columns], dtype=np.float64)
    halved: NDArray[np.float64] = (pairs[:, 0::2] + pairs[:, 1::2]) * 0.25
    return halved
