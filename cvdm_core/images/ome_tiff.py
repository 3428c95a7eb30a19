"""One image of a store as a pyramidal OME-TIFF: tiles, levels as SubIFDs, zlib; written tile by tile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.omezarr_metadata import read_metadata

CLASSIC_BYTES = 4_000_000_000  # above, offsets of 32 bits might not do, should nothing be compressible
PAGE_BYTES = 500  # what a page needs beside its pixels: a long series of small planes is mostly that
CENTIMETRE_UM = 1e4


def write_ome_tiff(store: Path, image: str, path: Path) -> None:
    """Write an image of any data type that a store has, `(T, C, Z, Y, X)`, with all levels, into a new file.

    Pixel size, z step and time step are written where they are known, channel names, and what "cvdm" says about the image as its
    description. TIFF has no place for the half-pixel shift of a finer grid or of a level, so it is left out.

    Raises
    ------
    UserError
        If stored pixels cannot be decoded.
    """
    layout = read_layout(store, image)
    multiscale, omero, extra = read_metadata(store, image)
    planes = int(np.prod(layout.shape[:3]))
    planes_yx = (layout.level_shape(level)[3:] for level in range(layout.levels))
    size = planes * sum(rows * columns * layout.dtype.itemsize + PAGE_BYTES for rows, columns in planes_yx)
    common: dict[str, Any] = {"tile": (layout.chunk, layout.chunk), "compression": "zlib", "maxworkers": 1, "photometric": "minisblack"}
    common["predictor"] = layout.dtype.kind in "iu"
    with tifffile.TiffWriter(path, bigtiff=size > CLASSIC_BYTES, ome=True) as tiff:
        for level in range(layout.levels):
            y, x = multiscale["datasets"][level]["coordinateTransformations"][0]["scale"][3:]
            tiff.write(
                _tiles(store, image, layout, level),
                shape=layout.level_shape(level),
                dtype=layout.dtype,
                subifds=0 if level else layout.levels - 1,
                subfiletype=1 if level else 0,
                metadata=None if level else _description(multiscale, omero, extra),
                resolution=(CENTIMETRE_UM / x, CENTIMETRE_UM / y),
                resolutionunit="CENTIMETER",
                **common,
            )


def _tiles(store: Path, image: str, layout: Layout, level: int) -> Iterator[NDArray[Any]]:
    array = zarr.open_array(store / image / str(level), mode="r")
    *outer, rows, columns = layout.level_shape(level)
    tile, band = layout.chunk, layout.shard  # tiles of one shard are read together: a third of the time
    for t, c, z in np.ndindex(*outer):
        for top in range(0, rows, tile):
            for left in range(0, columns, band):
                try:
                    pixels = np.asarray(array[t, c, z, top : top + tile, left : left + band])
                except (ValueError, RuntimeError) as error:
                    where = f"row {top} and column {left} of t = {t}, c = {c}, z = {z}, level {level}"
                    raise UserError(f"{store / image}: the pixels at {where} are damaged ({error}); run `cvdm verify`.") from error
                for start in range(0, pixels.shape[1], tile):
                    yield pixels[:, start : start + tile, None]  # with its one sample: tifffile takes a column for samples else


def _description(multiscale: dict[str, Any], omero: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    time, _, z, y, x = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    units = {axis["name"] for axis in multiscale["axes"] if "unit" in axis}
    found: dict[str, Any] = {
        "axes": "TCZYX",
        "Name": multiscale["name"],
        "Description": json.dumps({"cvdm": extra}, sort_keys=True),
        "Channel": {"Name": [channel["label"] for channel in omero["channels"]]},
        **{"PhysicalSizeX": x, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": y, "PhysicalSizeYUnit": "µm"},
    }
    if "z" in units:
        found |= {"PhysicalSizeZ": z, "PhysicalSizeZUnit": "µm"}
    if "t" in units:
        found |= {"TimeIncrement": time, "TimeIncrementUnit": "s"}
    return found
