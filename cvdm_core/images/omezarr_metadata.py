"""What an OME-Zarr image says about itself: axes and units, where its pixels lie, channel names and display windows.

Written last, because it is what makes a Zarr group an OME-Zarr image. Extra facts stand in the attribute "cvdm" beside it.
Specifications: https://ngff.openmicroscopy.org/specifications/0.5/ and .../0.4/.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cvdm_core.errors import UserError
from cvdm_core.files import files_below, sync, write_file
from cvdm_core.images.layout import read_layout
from cvdm_core.images.omezarr import AXES
from cvdm_core.images.stored import StoredLevel

AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF8000", "8080FF")
WINDOW_PERCENTILES = (0.1, 99.9)
WINDOW_PLANES = 16


@dataclass(frozen=True)
class ImageInfo:
    """What an image says about itself.

    Attributes
    ----------
    name
        Shown by viewers.
    pixel_size_um
        (y, x) at level 0, in micrometres.
    z_step_um, time_step_s
        In micrometres and seconds; None where unknown or where there is one plane: the axis then has no unit.
    origin_um
        (y, x) of the centre of pixel (0, 0) at level 0, relative to the centre of the input's pixel (0, 0).
    channels
        Names.
    windows
        Intensities shown as black and as white, by channel.
    attributes
        Further facts for the attribute "cvdm", JSON-able.
    """

    name: str
    pixel_size_um: tuple[float, float]
    channels: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    z_step_um: float | None = None
    time_step_s: float | None = None
    origin_um: tuple[float, float] = (0.0, 0.0)
    attributes: dict[str, Any] = field(default_factory=dict)

    def scale(self, level: int) -> list[float]:
        """Return the pixel size along (t, c, z, y, x) at a level; 1 where an axis has no unit."""
        y, x = (size * 2**level for size in self.pixel_size_um)
        return [self.time_step_s or 1.0, 1.0, self.z_step_um or 1.0, y, x]

    def translation(self, level: int) -> list[float]:
        """Return the centre of the first pixel at a level: 2x2 means lie half a pixel further in with every level."""
        y, x = (origin + (2**level - 1) / 2 * size for origin, size in zip(self.origin_um, self.pixel_size_um, strict=True))
        return [0.0, 0.0, 0.0, y, x]


def target_origin_um(pixel_size_um: tuple[float, float], scale: int) -> tuple[float, float]:
    """Return the origin of an image with `scale` pixels for each input pixel, of the given (finer) pixel size (y, x)."""
    y, x = (-(scale - 1) / 2 * size for size in pixel_size_um)
    return y, x


def write_metadata(folder: Path, path_in_store: str, info: ImageInfo) -> None:
    """Write the OME metadata of an image whose pixels are complete."""
    layout = read_layout(folder, path_in_store)
    if not layout.shape[1] == len(info.channels) == len(info.windows):
        raise ValueError(f"{layout.shape[1]} channels, but {len(info.channels)} names and {len(info.windows)} windows")
    units = {"y": "micrometer", "x": "micrometer"}
    if info.time_step_s:
        units["t"] = "second"
    if info.z_step_um:
        units["z"] = "micrometer"
    axes = [{"name": name, "type": AXIS_TYPES[name]} | ({"unit": units[name]} if name in units else {}) for name in AXES]
    datasets: list[dict[str, Any]] = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": info.scale(level)},
                {"type": "translation", "translation": info.translation(level)},
            ],
        }
        for level in range(layout.levels)
    ]
    multiscale: dict[str, Any] = {"name": info.name, "axes": axes, "datasets": datasets, "type": "2x2 mean"}
    omero: dict[str, Any] = {"name": info.name, "channels": _channels(info, layout.dtype)}
    own: dict[str, Any] = {"cvdm": info.attributes | layout.own_attributes}
    if layout.format == "0.5":
        own["ome"] = {"version": "0.5", "multiscales": [multiscale], "omero": omero}
    else:
        own |= {"multiscales": [{"version": "0.4", **multiscale}], "omero": {"version": "0.4", **omero}}
    path, content = folder / path_in_store / ".zattrs", own
    if layout.format == "0.5":
        path = path.with_name("zarr.json")
        content = {**json.loads(path.read_bytes()), "attributes": own}
    # Not by zarr, which does not sync: without this file nothing in the store can be read.
    write_file(path, json.dumps(content, indent=2))


def _channels(info: ImageInfo, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    colours = ("FFFFFF",) if len(info.channels) == 1 else COLOURS
    channels = []
    for number, (label, (low, high)) in enumerate(zip(info.channels, info.windows, strict=True)):
        least, most = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (low, high)
        window = {"min": float(least), "max": float(most), "start": float(low), "end": float(high)}
        channels.append({"label": label, "color": colours[number % len(colours)], "active": True, "window": window})
    return channels


def display_windows(folder: Path, path_in_store: str = "") -> tuple[tuple[float, float], ...]:
    """Return the intensities to show as black and white, by channel: percentiles 0.1 and 99.9 of the coarsest level.

    Where these are the same, white is the largest value. At most 16 planes of each channel are read, evenly spread over t and z.
    """
    layout = read_layout(folder, path_in_store)
    coarsest = StoredLevel(folder, path_in_store, layout.levels - 1)
    y, x = (slice(0, size) for size in coarsest.shape[3:])
    frames, _, depth = layout.shape[:3]
    planes = sorted({round(number) for number in np.linspace(0, frames * depth - 1, min(WINDOW_PLANES, frames * depth)).tolist()})
    windows = []
    for channel in range(layout.shape[1]):
        pixels = np.concatenate([np.ravel(coarsest.read(number // depth, channel, number % depth, y, x)) for number in planes])
        low, high = np.percentile(finite, WINDOW_PERCENTILES) if (finite := pixels[np.isfinite(pixels)]).size else (0.0, 1.0)
        if high == low:
            high = finite.max()  # a few bright pixels on a flat ground
        windows.append((float(low), float(high) if high > low else float(low) + 1.0))
    return tuple(windows)


def write_ome_xml(folder: Path, xml: str) -> None:
    """Keep the OME-XML of the original file as `OME/METADATA.ome.xml` in the store, where bioformats2raw puts it."""
    zarr.open_group(folder / "OME", mode="w", zarr_format=3 if read_layout(folder).format == "0.5" else 2)
    for name in files_below(folder / "OME"):
        sync(folder / "OME" / name)
    write_file(folder / "OME" / "METADATA.ome.xml", xml)


def read_metadata(folder: Path, path_in_store: str = "") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the multiscale description, the channel description and the "cvdm" attribute of an image, of either version.

    Raises
    ------
    UserError
        If the group is missing or is no OME-Zarr 0.4 or 0.5 image with the axes t, c, z, y, x.
    """
    image = folder / path_in_store
    try:
        attributes: dict[str, Any] = zarr.open_group(image, mode="r").attrs.asdict()
        ome: dict[str, Any] = attributes.get("ome", attributes)
        multiscale: dict[str, Any] = ome["multiscales"][0]
        axes = tuple(axis["name"] for axis in multiscale["axes"])
    except (FileNotFoundError, KeyError, IndexError, TypeError, ValueError):
        raise UserError(f"{image}: there is no finished OME-Zarr image here; check the path, or run the stage that makes it.") from None
    if axes != AXES:
        raise UserError(f"{image}: the axes are {axes}, not {AXES}; write it again with cvdm.")
    return multiscale, ome.get("omero", {}), attributes.get("cvdm", {})
