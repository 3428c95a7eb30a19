"""Small stores and acquisitions for the tests of images, ingest and verify."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvdm_core.config import Config, StoreSettings, parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, display_windows, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiff import read_header
from cvdm_core.images.tiles import shards
from cvdm_core.sheet import Acquisition, write_sheet

SETTINGS = {"chunk": 16, "shard": 32}


def settings(**changes: Any) -> StoreSettings:
    return StoreSettings(**(SETTINGS | changes))


def pixels(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Pixels over the whole range of the type."""
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def info(channels: int = 1, **changes: Any) -> ImageInfo:
    values: dict[str, Any] = {
        "name": "cells",
        "pixel_size_um": (0.1, 0.1),
        "channels": tuple(f"channel {number}" for number in range(channels)),
        "windows": ((0.0, 1000.0),) * channels,
    }
    return ImageInfo(**(values | changes))


def fill(folder: Path, array: np.ndarray, store: StoreSettings, path_in_store: str = "", grouped: bool = False, **changes: Any) -> Path:
    """A complete image, not published."""
    create_image(folder, array.shape, array.dtype, store, path_in_store, grouped)
    writer = PyramidWriter(folder, path_in_store)
    for shard in shards(array.shape, store.shard):
        writer.write(shard, array[shard.t, shard.c, shard.z, shard.y, shard.x])
    windows = display_windows(folder, path_in_store)
    write_metadata(folder, path_in_store, info(array.shape[1], windows=windows, **changes))
    return folder


def digests(folder: Path) -> dict[str, str]:
    """What a folder holds, byte for byte."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_ome_tiff(path: Path, array: np.ndarray, pixel_size_um: float = 0.1, **options: Any) -> Path:
    """An OME-TIFF of an array (T, C, Z, Y, X), as a microscope writes it."""
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 0.3,
        "PhysicalSizeZUnit": "µm",
        "TimeIncrement": 2.5,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": [f"channel {number}" for number in range(array.shape[1])]},
    }
    tifffile.imwrite(path, array, ome=True, metadata=metadata, **options)
    return path


def row_of(name: str, path: Path, target: Path | None = None) -> Acquisition:
    """The row that `cvdm register` writes for a file that knows its pixel size."""
    header = read_header(path)
    size_t, size_c, size_z, size_y, size_x = header.shape
    return Acquisition(
        acquisition=name, specimen=name, split="predict", input=str(path), target=str(target or ""), dtype=header.dtype.name,
        size_t=size_t, size_c=size_c, size_z=size_z, size_y=size_y, size_x=size_x, channels=header.channels,
        pixel_size_um=header.pixel_size_um and header.pixel_size_um[0], pixel_size_source="metadata",
        z_step_um=header.z_step_um if size_z > 1 else None, time_step_s=header.time_step_s if size_t > 1 else None,
    )  # fmt: skip


def config_of(folder: Path, *rows: Acquisition, **store: Any) -> Config:
    """A configuration with everything below `folder`, and the sheet with these rows."""
    write_sheet(folder / "acquisitions.tsv", {row.acquisition: row for row in rows})
    values = {"acquisitions": str(folder / "acquisitions.tsv"), "results": str(folder / "results"), "models": str(folder / "models")}
    return parse(values | {"store": SETTINGS | store}, "the test")
