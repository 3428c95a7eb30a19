"""Pixels of a stored level, read back without zarr's machinery: what `shards` writes, and nothing else.

zarr-python needs three to five times the processor time of what is really to be done (read, check, decode), and takes a missing shard
for the fill value. Here every checksum is checked, and what is missing or damaged is a `DamagedInputError`.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import DamagedInputError
from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.shards import BLOSC_HEADER_BYTES, CHECKSUM_BYTES, INDEX_ENTRY_BYTES, NO_CHUNK, codec, packed_problem


class StoredLevel:
    """One level of an image that this package has written.

    Attributes
    ----------
    shape : (T, C, Z, Y, X) of the level.
    dtype : of its pixels.
    """

    def __init__(self, folder: Path, path_in_store: str = "", level: int = 0) -> None:
        """Read how the image is stored; `path_in_store` as in `create_image`."""
        self._image = folder / path_in_store
        self._layout: Layout = read_layout(folder, path_in_store)
        self._level = level
        self.shape = self._layout.level_shape(level)
        self.dtype = self._layout.dtype

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return one region of one plane, (rows, columns); `y` and `x` have bounds inside the plane and no step.

        Raises
        ------
        DamagedInputError
            If a file that holds a part of it is missing or damaged.
        """
        pixels = np.empty((y.stop - y.start, x.stop - x.start), self._layout.dtype)
        edge = self._layout.file_edge
        file, place = self._layout.place(self._level, (t, c, z))
        for row, column in product(*(range(part.start // edge, -(-part.stop // edge)) for part in (y, x))):
            path = self._image / self._layout.file_name(self._level, (*file, row, column))
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise DamagedInputError(f"{path}: this part of the image is missing; run the stage that writes it again.") from None
            try:
                self._read_file(descriptor, place, row * edge, column * edge, (y, x), pixels)
            except ValueError as error:
                raise DamagedInputError(f"{path}: it is damaged ({error}); run the stage that writes it again.") from None
            finally:
                os.close(descriptor)
        return pixels

    def _read_file(
        self, descriptor: int, place: tuple[int, int], top: int, left: int, region: tuple[slice, slice], pixels: NDArray[Any]
    ) -> None:
        """Copy what a file holds of a region, (y, x), to its place in `pixels`; `place` tells its plane, as in `Layout.place`."""
        chunk = self._layout.chunk
        index = _read_index(descriptor, self._layout, self._level)[place] if self._layout.format == "0.5" else None
        (y, x), end = region, self._layout.file_edge
        rows = range((max(y.start, top) - top) // chunk, -(-(min(y.stop, top + end) - top) // chunk))
        columns = range((max(x.start, left) - left) // chunk, -(-(min(x.stop, left + end) - left) // chunk))
        for row, column in product(rows, columns):
            packed = _whole_file(descriptor) if index is None else _checked(descriptor, *index[row, column].tolist())
            part = self._decoded(packed)
            first_y, first_x = top + row * chunk, left + column * chunk
            inside_y, inside_x = _overlap(y, first_y, chunk), _overlap(x, first_x, chunk)
            pixels[inside_y.start - y.start : inside_y.stop - y.start, inside_x.start - x.start : inside_x.stop - x.start] = part[
                inside_y.start - first_y : inside_y.stop - first_y, inside_x.start - first_x : inside_x.stop - first_x
            ]

    def _decoded(self, packed: bytes) -> NDArray[Any]:
        chunk, dtype = self._layout.chunk, self._layout.dtype
        if problem := packed_problem(packed[:BLOSC_HEADER_BYTES], len(packed), chunk, dtype):
            raise ValueError(f"a chunk {problem}")
        try:
            plain = codec(self._layout.compressor, chunk, dtype).decode(packed)
        except RuntimeError as error:  # how blosc says that a file of 0.4, which has no checksum, is damaged
            raise ValueError(str(error)) from None
        return np.frombuffer(plain, dtype.newbyteorder("<")).reshape(chunk, chunk)


def _overlap(pixels: slice, first: int, length: int) -> slice:
    return slice(max(pixels.start, first), min(pixels.stop, first + length))


def _read_index(descriptor: int, layout: Layout, level: int) -> NDArray[np.uint64]:
    """Return offset and length of every chunk of a shard, (t, z, row, column, 2)."""
    planes, across = layout.planes(level), layout.shard // layout.chunk
    length = planes[0] * planes[1] * across**2 * INDEX_ENTRY_BYTES + CHECKSUM_BYTES
    start = os.fstat(descriptor).st_size - length
    if start < 0:
        raise ValueError("cut off")
    return np.frombuffer(_checked(descriptor, start, length), "<u8").reshape(*planes, across, across, 2)


def _whole_file(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _checked(descriptor: int, offset: int, length: int) -> bytes:
    """Read a piece of a file that ends with its CRC-32C; return it without."""
    if offset == NO_CHUNK:
        raise ValueError("a chunk is missing")
    piece = os.pread(descriptor, length, offset)
    content, checksum = piece[:-CHECKSUM_BYTES], piece[-CHECKSUM_BYTES:]
    if len(piece) != length or int(google_crc32c.value(content)).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        raise ValueError("a checksum does not match")
    return content
