"""Geometry of an image in pieces: shards (what is stored), blocks (what one job writes), tiles (what the network sees).

Pure arithmetic on shapes, standard library only: the Snakefile counts blocks with it each time it is parsed. Shapes are always
`(T, C, Z, Y, X)`; slices have a start and a stop, in pixels, and a step of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, overload

from cvdm_core.errors import UserError

Shape = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Shard:
    """One stored piece of one plane.

    `index` numbers the shards of an image row-major over (t, c, z, y, x); `y` and `x` are the pixels it holds, cut at the image's edge.
    """

    index: int
    t: int
    c: int
    z: int
    y: slice
    x: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that the shard holds."""
        return self.y.stop - self.y.start, self.x.stop - self.x.start


class Tile(NamedTuple):
    """One piece of a region that the network sees: `inner` is what it is responsible for, `outer` what it is shown."""

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def crop(self) -> tuple[slice, slice]:
        """Return where `inner` lies within `outer`."""
        (inner_y, inner_x), (outer_y, outer_x) = self
        return _shift(inner_y, -outer_y.start), _shift(inner_x, -outer_x.start)


class Shards(Sequence[Shard]):
    """All shards of an image, computed when they are asked for: an image of millions of shards costs nothing.

    Parameters
    ----------
    shape
        Shape of the image, `(T, C, Z, Y, X)`.
    shard
        Edge of a shard, in pixels.
    """

    def __init__(self, shape: Sequence[int], shard: int) -> None:
        """Check the sizes and count the shards along each axis."""
        if len(shape) != 5 or min(shape) < 1 or shard < 1:
            raise ValueError(f"an image of shape {tuple(shape)} has no shards of {shard} pixels")
        self._size = (shape[3], shape[4])
        self._shard = shard
        self._grid = (shape[0], shape[1], shape[2], _ceil_div(shape[3], shard), _ceil_div(shape[4], shard))

    @property
    def grid(self) -> Shape:
        """Number of shards along each axis."""
        return self._grid

    def __len__(self) -> int:
        """Return the number of shards."""
        return prod(self._grid)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | list[Shard]:
        """Return one shard by its number, or several by a slice of numbers."""
        if isinstance(index, slice):
            return [self._shard_at(number) for number in range(*index.indices(len(self)))]
        return self._shard_at(range(len(self))[index])

    def __iter__(self) -> Iterator[Shard]:
        """Walk over the shards in the order of their numbers."""
        return map(self._shard_at, range(len(self)))

    def _shard_at(self, index: int) -> Shard:
        rest, x = divmod(index, self._grid[4])
        rest, y = divmod(rest, self._grid[3])
        rest, z = divmod(rest, self._grid[2])
        t, c = divmod(rest, self._grid[1])
        return Shard(index, t, c, z, self._pixels(y, self._size[0]), self._pixels(x, self._size[1]))

    def _pixels(self, number: int, size: int) -> slice:
        return slice(number * self._shard, min(size, (number + 1) * self._shard))


def shards(shape: Sequence[int], shard: int) -> Shards:
    """Return the shards of an image of shape `(T, C, Z, Y, X)`, row-major, computed lazily."""
    return Shards(shape, shard)


def n_blocks(shape: Sequence[int], shard: int, shards_per_job: int) -> int:
    """Return how many block jobs an image of shape `(T, C, Z, Y, X)` needs: a few multiplications, whatever its size."""
    planes = shape[0] * shape[1] * shape[2]
    return _ceil_div(planes * _ceil_div(shape[3], shard) * _ceil_div(shape[4], shard), shards_per_job)


def block_shards(shape: Sequence[int], shard: int, shards_per_job: int, block: int) -> list[Shard]:
    """Return the shards of one block: `shards_per_job` neighbours in row-major order, fewer in the last block.

    Raises
    ------
    UserError
        If there is no such block.
    """
    blocks = n_blocks(shape, shard, shards_per_job)
    if not 0 <= block < blocks:
        raise UserError(
            f"block {block} does not exist: an image of shape {tuple(shape)} (T, C, Z, Y, X) has the blocks 0 to {blocks - 1} "
            f"({shards_per_job} shards of {shard} pixels each); give one of those."
        )
    return shards(shape, shard)[block * shards_per_job : (block + 1) * shards_per_job]


def padded(size: int, stride: int) -> int:
    """Return `size` rounded up to a multiple of `stride`: the length to which an image's bottom and right edges are repeated."""
    return _ceil_div(size, stride) * stride


def with_halo(pixels: slice, halo: int, size: int, stride: int) -> slice:
    """Return `pixels` with at least `halo` more on both sides, its ends multiples of `stride`, cut at the padded image's edges.

    Parameters
    ----------
    pixels
        Start and stop along one axis.
    halo
        Context wanted on each side, in pixels.
    size
        Length of the image along the axis; the last stride may reach over it (see `padded`).
    stride
        Stride of the network, in pixels.
    """
    start = max(0, (pixels.start - halo) // stride * stride)
    return slice(start, min(padded(size, stride), padded(pixels.stop + halo, stride)))


def tiles(shape: tuple[int, int], tile: int, margin: int, stride: int) -> list[Tile]:
    """Cut a region into tiles with context.

    The inner parts cover the region once, begin at multiples of `stride`, are as equal as that allows and at most `tile` long
    (`stride`, where that is more). The outer parts are larger by at least `margin` and end where the region ends. They all have one
    shape, and regions of similar size share it: freed memory then fits the next tile (else it grew by a fifth over a few shards).

    Parameters
    ----------
    shape
        Rows and columns of the region, multiples of `stride`.
    tile
        Largest inner length, in pixels.
    margin
        Context on each side, in pixels: the network's receptive field makes the tiles equal to the whole region.
    stride
        Stride of the network, in pixels.

    Returns
    -------
    list of Tile
        Row by row.
    """
    if shape[0] % stride or shape[1] % stride:
        raise ValueError(f"a region of {shape[0]} x {shape[1]} pixels is no multiple of the network's stride, {stride}")
    longest = max(stride, tile // stride * stride)
    rows, columns = (_spans(length, longest, margin, stride) for length in shape)
    return [Tile((y, x), (seen_y, seen_x)) for y, seen_y in rows for x, seen_x in columns]


def _spans(length: int, longest: int, margin: int, stride: int) -> list[tuple[slice, slice]]:
    """Return the inner and outer slices of the tiles along one axis."""
    edge = padded(_ceil_div(length, _ceil_div(length, longest)), stride)
    inner = [slice(start, min(length, start + edge)) for start in range(0, length, edge)]
    seen = [with_halo(pixels, margin, length, stride) for pixels in inner]
    shown = min(length, max(pixels.stop - pixels.start for pixels in seen) + longest - edge)
    starts = [min(pixels.start, length - shown) for pixels in seen]
    return [(pixels, slice(start, start + shown)) for pixels, start in zip(inner, starts, strict=True)]


def _shift(pixels: slice, by: int) -> slice:
    return slice(pixels.start + by, pixels.stop + by)


def _ceil_div(value: int, by: int) -> int:
    return -(-value // by)
