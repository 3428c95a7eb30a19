"""What a stored image looks like on disk: which file holds which pixels. Arithmetic, and reading it back from a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvdm_core.errors import UserError
from cvdm_core.images.pyramid import level_shape, levels
from cvdm_core.images.tiles import Shape

MOST_OPEN = 8
"""Channels of a time series whose planes share files: the planes come channel by channel, and one file of each is open meanwhile."""


@dataclass(frozen=True)
class Layout:
    """What a stored image looks like on disk. `shape` is (T, C, Z, Y, X) at level 0; edges are in pixels.

    `grouped`: planes of which several fit in one shard share one (0.5 only).
    """

    format: Literal["0.5", "0.4"]
    shape: Shape
    dtype: np.dtype[Any]
    chunk: int
    shard: int
    compressor: Literal["zstd", "lz4"]
    grouped: bool = False

    @property
    def levels(self) -> int:
        """Number of pyramid levels."""
        return levels(self.shape[3:], self.chunk, self.shard)

    @property
    def own_attributes(self) -> dict[str, Any]:
        """What the attribute "cvdm" of the image's group says about its layout."""
        return {"chunk": self.chunk, "shard": self.shard, "compressor": self.compressor, "grouped": self.grouped}

    def level_shape(self, level: int) -> Shape:
        """Return the shape of a level, (T, C, Z, Y, X)."""
        return *self.shape[:3], *level_shape(self.shape[3:], level)

    @property
    def file_edge(self) -> int:
        """Edge of what one file holds: a shard (0.5) or a chunk (0.4)."""
        return self.shard if self.format == "0.5" else self.chunk

    def planes(self, level: int) -> tuple[int, int]:
        """Return how many planes along t and z share the files of a level: powers of two, along z before t."""
        return self._planes[level]

    @cached_property
    def _planes(self) -> list[tuple[int, int]]:
        return [self._planes_of(level) for level in range(self.levels)]

    def _planes_of(self, level: int) -> tuple[int, int]:
        across = self.shard // self.chunk
        rows, columns = (-(-size // self.chunk) for size in self.level_shape(level)[3:])
        if not self.grouped or self.format == "0.4" or max(rows, columns) > across:
            return 1, 1
        frames, channels, depth = self.shape[:3]
        room = _power_below(across**2 // (rows * columns))
        along_z = min(room, _power_above(depth))
        return (min(room // along_z, _power_above(frames)) if along_z >= depth and channels <= MOST_OPEN else 1), along_z

    def place(self, level: int, plane: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int]]:
        """Return which file along (t, c, z) holds a plane (t, c, z), and which of its planes along (t, z) that is."""
        (t, c, z), (along_t, along_z) = plane, self.planes(level)
        return (t // along_t, c, z // along_z), (t % along_t, z % along_z)

    def held(self, level: int, file: tuple[int, int, int]) -> tuple[int, int]:
        """Return how many planes along (t, z) a file holds; the last one of an axis may have fewer than `planes`."""
        along_t, along_z = self.planes(level)
        return min(along_t, self.shape[0] - file[0] * along_t), min(along_z, self.shape[2] - file[2] * along_z)

    def files(self, level: int) -> Shape:
        """Return the number of files of a level along (t, c, z, y, x)."""
        (along_t, along_z), (frames, channels, depth, rows, columns) = self.planes(level), self.level_shape(level)
        edge = self.file_edge
        return -(-frames // along_t), channels, -(-depth // along_z), -(-rows // edge), -(-columns // edge)

    def file_name(self, level: int, index: Sequence[int]) -> str:
        """Return the name of one file, relative to the image's group; `index` counts files along (t, c, z, y, x)."""
        return "/".join([str(level), *(["c"] if self.format == "0.5" else []), *map(str, index)])


def _power_below(number: int) -> int:
    """Return the largest power of two that is not above a positive number."""
    return 1 << (number.bit_length() - 1)


def _power_above(number: int) -> int:
    """Return the smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()


def read_layout(folder: Path, path_in_store: str = "") -> Layout:
    """Read back what `create_image` was given.

    Raises
    ------
    UserError
        If there is no image, or one that this package has not written.
    """
    image = folder / path_in_store
    new = (image / "zarr.json").is_file()
    try:
        group = json.loads((image / ("zarr.json" if new else ".zattrs")).read_bytes())
        array = json.loads((image / "0" / ("zarr.json" if new else ".zarray")).read_bytes())
        own = (group["attributes"] if new else group)["cvdm"]
        dtype = np.dtype(array["data_type" if new else "dtype"])
        time, channel, z, y, x = array["shape"]
        facts = own["chunk"], own["shard"], own["compressor"], own["grouped"]
        return Layout("0.5" if new else "0.4", (time, channel, z, y, x), dtype, *facts)
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        raise UserError(f"{image}: this is not an image that cvdm has written; run the stage that writes it again.") from None
