"""The bytes of a shard, without zarr's machinery.

zarr-python reads the old shard before it writes a new one (and fails if that one is damaged), does not sync, and needs three times
the processor time of what is really to be done for a shard of 1024 x 1024 pixels: compress each chunk, add a checksum, list where the
chunks lie. The format is the codec `sharding_indexed` (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/),
index at the end; the tests read everything back with zarr-python.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, blosc
from numpy.typing import NDArray

# With several threads blosc stores its blocks in the order in which they get ready: other bytes in every run.
blosc.use_threads = False

NO_CHUNK = int(np.iinfo(np.uint64).max)
CHECKSUM_BYTES = 4
INDEX_ENTRY_BYTES = 16
BLOSC_HEADER_BYTES = 16
LARGEST_BLOCK = 2**20
LEVEL = 1


def block_bytes(chunk: int, dtype: np.dtype[Any]) -> int:
    """Return the size of the pieces in which blosc compresses a chunk of `chunk` x `chunk` pixels: one, unless the chunk is very large.

    Left to itself, blosc cuts for zstd at 32 KiB; a whole chunk of 256 x 256 takes 25 % (uint16) to 40 % (float32) less time and 1 to
    3 % less space, and every reader decodes whole chunks anyway (docs/speed.md).
    """
    return min(chunk**2 * dtype.itemsize, LARGEST_BLOCK)


@cache
def codec(compressor: str, chunk: int, dtype: np.dtype[Any]) -> Blosc:
    """Return the compressor of all stores: blosc with bitshuffle around "zstd" or "lz4", level 1."""
    return Blosc(cname=compressor, clevel=LEVEL, shuffle=Blosc.BITSHUFFLE, blocksize=block_bytes(chunk, dtype))


def chunks(pixels: NDArray[Any], edge: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield row, column and pixels of each chunk of a piece that begins at a chunk border; chunks at its end are filled up.

    Parameters
    ----------
    pixels
        (Y, X).
    edge
        Edge of a chunk, in pixels.
    """
    fill = fill_value(pixels.dtype)
    for row, top in enumerate(range(0, pixels.shape[0], edge)):
        for column, left in enumerate(range(0, pixels.shape[1], edge)):
            part = pixels[top : top + edge, left : left + edge]
            if part.shape == (edge, edge):
                yield row, column, np.ascontiguousarray(part, pixels.dtype.newbyteorder("<"))
                continue
            whole = np.full((edge, edge), fill, pixels.dtype.newbyteorder("<"))
            whole[: part.shape[0], : part.shape[1]] = part
            yield row, column, whole


def fill_value(dtype: np.dtype[Any]) -> float:
    """Return what stands where nothing was written: NaN in floats, so that it shows, 0 in integers."""
    return float("nan") if dtype.kind == "f" else 0


def encode_shard(pixels: NDArray[Any], planes: tuple[int, int], shard: int, chunk: int, compressor: str) -> bytes:
    """Return the bytes of one shard of `planes` planes of `shard` x `shard` pixels, in chunks of `chunk` x `chunk`.

    Every chunk ends with its CRC-32C, and so does the index; chunks that lie beyond `pixels` (at the image's ends) are left out.

    Parameters
    ----------
    pixels
        (T, Z, Y, X), at most the shard.
    planes
        Planes of the shard along t and z.
    shard, chunk
        Edges, in pixels.
    compressor
        "zstd" or "lz4".
    """
    name, block = compressor.encode(), block_bytes(chunk, pixels.dtype)
    index = np.full((*planes, shard // chunk, shard // chunk, 2), NO_CHUNK, "<u8")
    parts: list[bytes] = []
    offset = 0
    for t, z in np.ndindex(*pixels.shape[:2]):
        for row, column, part in chunks(pixels[t, z], chunk):
            packed = blosc.compress(part, name, LEVEL, blosc.BITSHUFFLE, block)  # as `codec` does, without its checks of every chunk
            index[t, z, row, column] = offset, len(packed) + CHECKSUM_BYTES
            offset += len(packed) + CHECKSUM_BYTES
            parts += packed, _checksum(packed)
    listed = index.tobytes()
    return b"".join([*parts, listed, _checksum(listed)])


def _checksum(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(CHECKSUM_BYTES, "little")


def shard_problem(path: str | Path, planes: tuple[int, int], held: tuple[int, int, int, int], shard: int, chunk: int) -> str:
    """Return what is wrong with a stored shard as its index tells it, or nothing. No pixel is read.

    Parameters
    ----------
    path
        The file.
    planes
        Planes of a shard along t and z.
    held
        Planes along t and z, rows and columns of the image that lie in this one: fewer than in a whole shard at the image's ends.
    shard, chunk
        Edges, in pixels.
    """
    across = shard // chunk
    length = planes[0] * planes[1] * across**2 * INDEX_ENTRY_BYTES + CHECKSUM_BYTES
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        body = os.fstat(descriptor).st_size - length
        if body <= 0:
            return "is empty or cut off"
        index = os.pread(descriptor, length, body)
    finally:
        os.close(descriptor)
    if _checksum(index[:-CHECKSUM_BYTES]) != index[-CHECKSUM_BYTES:]:
        return "is cut off or damaged: its index does not match its checksum"
    entries = np.frombuffer(index[:-CHECKSUM_BYTES], "<u8").reshape(*planes, across, across, 2).tolist()
    frames, depth, rows, columns = held
    for t, z, row, column in product(range(frames), range(depth), range(-(-rows // chunk)), range(-(-columns // chunk))):
        offset, size = entries[t][z][row][column]
        if offset == NO_CHUNK or offset + size > body:
            what = "lacks" if offset == NO_CHUNK else "has no place for"
            plane = f" of its plane {t * planes[1] + z}" if planes != (1, 1) else ""
            return f"{what} the chunk in row {row} and column {column}{plane}"
    return ""


def chunk_problem(path: str | Path, chunk: int, dtype: np.dtype[Any]) -> str:
    """Return what is wrong with a file that holds one chunk (OME-Zarr 0.4), as the header of blosc tells it, or nothing."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        return packed_problem(stream.read(BLOSC_HEADER_BYTES), size, chunk, dtype)


def packed_problem(header: bytes, size: int, chunk: int, dtype: np.dtype[Any]) -> str:
    """Return what is wrong with `size` compressed bytes that begin with `header`: decoding believes it and would read beyond their end."""
    if len(header) < BLOSC_HEADER_BYTES:
        return "is empty or cut off"
    unpacked, _, packed = np.frombuffer(header, "<u4", offset=4).tolist()
    if packed != size:
        return f"has {size} bytes instead of the {packed} that it announces"
    return "" if unpacked == chunk**2 * dtype.itemsize else f"holds {unpacked} bytes of pixels instead of {chunk**2 * dtype.itemsize}"
