"""Zeiss LSM files of a few bytes: planar pages, a thumbnail behind each, and the tag CZ_LSMINFO with the blocks it points to."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

MAGIC = 67_127_628  # LSM 1.5 and later
STRUCTURE: list[tuple[str, str]] = tifffile.TIFF.CZ_LSMINFO
SCAN_TYPES = {"ZCYX": 0, "TZCYX": 6}
Places = Sequence[tuple[float, float]]


def write_lsm(
    path: Path,
    array: np.ndarray[Any, Any],
    axes: str,
    *,
    names: Sequence[str] = (),
    pixel_um: float = 0.1,
    z_um: float = 0.3,
    seconds: float = 2.0,
    tiles_um: Places = (),
    positions_um: Places = (),
    compression: str | None = None,
) -> None:
    """Write an array whose axes end in ZCYX or TZCYX, behind M (tiles), P (positions), or MP; places are (x, y)."""
    sizes = dict(zip(axes, array.shape, strict=True))
    info = np.zeros(1, STRUCTURE)
    info["MagicNumber"], info["StructureSize"] = MAGIC, info.itemsize
    for axis, name in tifffile.TIFF.CZ_LSMINFO_DIMENSIONS.items():
        info[name] = sizes.get(axis, 0 if axis in "PM" else 1)
    info["VoxelSizeX"], info["VoxelSizeY"], info["VoxelSizeZ"] = pixel_um * 1e-6, pixel_um * 1e-6, z_um * 1e-6
    info["ScanType"], info["TimeIntervall"] = SCAN_TYPES[axes.lstrip("MP")], seconds
    planes = array.reshape(-1, *array.shape[-3:])
    thumbnail = np.zeros((3, 4, 4), np.uint8)
    with tifffile.TiffWriter(path, byteorder="<") as file:
        for number, channels in enumerate(planes):
            tags = [(34412, 1, info.nbytes, info.tobytes(), True)] if not number else []
            one = len(channels) == 1
            shape = {"planarconfig": None if one else "separate", "rowsperstrip": array.shape[-2], "compression": compression}
            file.write(channels[0] if one else channels, photometric="minisblack", metadata=None, extratags=tags, contiguous=False, **shape)
            file.write(thumbnail, photometric="rgb", planarconfig="separate", subfiletype=1, metadata=None, contiguous=False)
    blocks = {"OffsetChannelColors": _colors(names), "OffsetTilePositions": _places(tiles_um), "OffsetPositions": _places(positions_um)}
    content = bytearray(path.read_bytes())
    if array.shape[-3] == 2:
        _move_bits(content, 8 * array.dtype.itemsize)
    at = content.index(info.tobytes())
    for name, block in blocks.items():
        info[name] = len(content) if block else 0
        content += block
    content[at : at + info.nbytes] = info.tobytes()
    path.write_bytes(content)


def _move_bits(content: bytearray, bits: int) -> None:
    """Put the bits of two channels behind the file, as Zeiss does, although they fit in their tag: tifffile reads them there only."""
    tag = struct.pack("<HHI", 258, 3, 2)
    inline = struct.pack("<HH", bits, bits)
    while (at := content.find(tag + inline)) >= 0:
        struct.pack_into("<I", content, at + len(tag), len(content))
        content += inline


def _places(places_um: Places) -> bytes:
    return (
        b"".join([struct.pack("<I", len(places_um)), *(struct.pack("<3d", x * 1e-6, y * 1e-6, 0) for x, y in places_um)])
        if places_um
        else b""
    )


def _colors(names: Sequence[str]) -> bytes:
    if not names:
        return b""
    texts = b"".join(struct.pack("<I", len(name) + 1) + name.encode() + b"\0" for name in names)
    colors = bytes(4 * len(names))
    head = 24
    return struct.pack("<6I", head + len(colors) + len(texts), len(names), len(names), head, head + len(colors), 0) + colors + texts
