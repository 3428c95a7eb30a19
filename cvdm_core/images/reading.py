"""Reading an OME-Zarr image back: a labelled array that loads what is looked at, and never takes a missing file for zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.omezarr import AXES
from cvdm_core.images.omezarr_metadata import read_metadata
from cvdm_core.images.stored import StoredLevel


def open_image(path: str | Path, level: int = 0, image: str = "") -> xr.DataArray:
    """Open an OME-Zarr image (0.5 or 0.4) without reading pixels.

    Parameters
    ----------
    path
        The store, for example `results/cells_1/raw.ome.zarr`.
    level
        Pyramid level; 0 is full resolution.
    image
        Name of an image inside the store, for example "std" or "sample_0" in `restored.ome.zarr`; "" is the one at its root.

    Returns
    -------
    xarray.DataArray
        Dimensions t, c, z, y, x over dask, one dask chunk a shard, in the stored data type. Coordinates are pixel centres in
        micrometres (y, x, z) and seconds (t), relative to the input's first pixel, and channel names (c); their attribute "units" is
        missing where the step is unknown and the coordinate counts from zero. Attributes: "pixel_size_um" (y, x); "z_step_um" and
        "time_step_s" where known; "windows" (display range by channel); "levels"; "cvdm", a dict with the facts recorded when it
        was written (an integer image of real numbers has "intensity_map" there: value = stored · scale + offset).

    Raises
    ------
    UserError
        If there is no such store, image or level. Later, when pixels are read, a `DamagedInputError` if a file is missing or damaged.

    Examples
    --------
    >>> raw = open_image("results/cells_1/raw.ome.zarr")  # doctest: +SKIP
    >>> raw.sel(c="actin").isel(t=0, z=0, y=slice(0, 512), x=slice(0, 512)).compute()  # doctest: +SKIP
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such OME-Zarr store; check the path, or run the stage that makes it.")
    multiscale, omero, extra = read_metadata(folder, image)
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise UserError(f"{folder / image}: there is no level {level}; the image has the levels 0 to {len(datasets) - 1}.")
    array = _Indexed(StoredLevel(folder, image, level))
    edge = extra["shard"]
    scale, translation = _transformation(datasets[level])
    channels = [channel.get("label", str(number)) for number, channel in enumerate(omero.get("channels", []))]
    coordinates: dict[str, Any] = {}
    units = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
    for number, axis in enumerate(AXES):
        size = array.shape[number]
        if axis == "c":
            coordinates["c"] = ("c", channels if len(channels) == size else [str(index) for index in range(size)])
        else:
            positions = np.arange(size) * scale[number] + translation[number]
            coordinates[axis] = (axis, positions, {"units": units[axis]} if units[axis] else {})
    attributes: dict[str, Any] = {"pixel_size_um": (scale[3], scale[4]), "levels": len(datasets), "cvdm": extra}
    if units["z"]:
        attributes["z_step_um"] = scale[2]
    if units["t"]:
        attributes["time_step_s"] = scale[0]
    windows = [channel["window"] for channel in omero.get("channels", []) if "window" in channel]
    attributes["windows"] = tuple((window["start"], window["end"]) for window in windows)
    lazy = da.from_array(array, chunks=(1, 1, 1, edge, edge), name=False)
    return xr.DataArray(lazy, coords=coordinates, dims=AXES, name=str(multiscale.get("name", folder.name)), attrs=attributes)


class _Indexed:
    """A stored level as dask indexes it: with one whole number or slice an axis."""

    def __init__(self, level: StoredLevel) -> None:
        self._level = level
        self.shape, self.dtype, self.ndim = level.shape, level.dtype, len(AXES)

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        asked = zip(index, self.shape, strict=True)
        picked = [range(size)[part] if isinstance(part, slice) else range(part, part + 1) for part, size in asked]
        pixels = np.empty([len(part) for part in picked], self.dtype)
        if pixels.size:
            y, x = (slice(min(part), max(part) + 1) for part in picked[3:])
            steps = tuple(slice(None, None, part.step) for part in picked[3:])
            for place in np.ndindex(*pixels.shape[:3]):
                t, c, z = (part[number] for part, number in zip(picked[:3], place, strict=True))
                pixels[place] = self._level.read(t, c, z, y, x)[steps]
        return pixels[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)]


def _transformation(dataset: dict[str, Any]) -> tuple[list[float], list[float]]:
    steps = {step["type"]: step[step["type"]] for step in dataset["coordinateTransformations"]}
    return steps["scale"], steps.get("translation", [0.0] * len(AXES))
