"""Tiny TIFFs of every dialect that tifffile can write, for the tests of reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvdm_core.images.tiff import TiffPlanes


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(dtype)


def read_all(planes: TiffPlanes) -> np.ndarray[Any, Any]:
    t, c, z, y, x = planes.header.shape
    whole = [planes.read(i, j, k, slice(0, y), slice(0, x)) for i in range(t) for j in range(c) for k in range(z)]
    return np.stack(whole).reshape(planes.header.shape)


# name: (array as written, options of tifffile.imwrite, order of its axes that gives (T, C, Z, Y, X))
DIALECTS: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any], str]] = {
    "ome": (pixels(2, 3, 4, 20, 30), {"ome": True, "metadata": {"axes": "TCZYX"}}, "TCZYX"),
    "ome, z outside c": (pixels(4, 2, 20, 30), {"ome": True, "metadata": {"axes": "ZCYX"}}, "ZCYX"),
    "imagej": (pixels(2, 4, 3, 20, 30), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "TZCYX"),
    "imagej, compressed pages": (pixels(4, 20, 30), {"imagej": True, "compression": "zlib", "metadata": {"axes": "ZYX"}}, "ZYX"),
    "bigtiff": (pixels(3, 20, 30), {"bigtiff": True, "ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
    "big-endian": (pixels(3, 20, 30), {"byteorder": ">", "metadata": {"axes": "ZYX"}}, "ZYX"),
    "tiles": (pixels(2, 70, 90), {"tile": (32, 48), "ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
    "tiles, lzw": (pixels(70, 90), {"tile": (16, 16), "compression": "lzw", "predictor": True}, "YX"),
    "strips, zstd": (pixels(70, 90), {"rowsperstrip": 7, "compression": "zstd"}, "YX"),
    "strips": (pixels(3, 70, 90), {"rowsperstrip": 9, "metadata": None}, "TYX"),
    "pages": (pixels(5, 20, 30), {"metadata": None}, "TYX"),
    "rgb": (pixels(20, 30, 3, dtype="uint8"), {"photometric": "rgb", "metadata": None}, "YXC"),
    "rgb, planar": (pixels(3, 20, 30, dtype="uint8"), {"photometric": "rgb", "planarconfig": "separate", "metadata": None}, "CYX"),
    "rgb in time": (pixels(4, 20, 30, 3, dtype="uint8"), {"ome": True, "photometric": "rgb", "metadata": {"axes": "TYXS"}}, "TYXC"),
    "float32": (pixels(20, 30, dtype="float32") / 7, {"compression": "zlib", "predictor": 3}, "YX"),
    "signed": (pixels(20, 30, dtype="int16") - 2000, {}, "YX"),
}


def write(path: Path, dialect: str) -> np.ndarray[Any, Any]:
    """Write a file of a dialect and return its pixels as (T, C, Z, Y, X)."""
    array, options, axes = DIALECTS[dialect]
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    ordered = array.transpose([axes.index(axis) for axis in "TCZYX" if axis in axes])
    return ordered[tuple(slice(None) if axis in axes else None for axis in "TCZYX")]


def write_ome(path: Path, **metadata: Any) -> None:
    tifffile.imwrite(path, pixels(2, 3, 8, 8), ome=True, metadata={"axes": "CZYX", **metadata})
