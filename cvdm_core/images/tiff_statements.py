"""The raw statements of each dialect of TIFF about an image, before `tiff_metadata` judges them.

Only what a dialect has a place for is taken: nothing is guessed from file names, and a magnification or aperture is read from the
name of an objective only where the maker's names always hold both (Zeiss).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cvdm_core.images import stage
from cvdm_core.images.tiff_images import FileImage
from cvdm_core.images.units import length_um, number, time_s, unescape

LARGEST_TAG_PIXEL_UM = 5.0  # above, the resolution tag is a scanner's or printer's: 5080 dots an inch
_LSM_EPOCH = datetime(1899, 12, 30)
_LARGEST_METADATA = 2**20  # of one plane [bytes]
# By number: asked for a name, tifffile looks through all tags, a tenth of the time of opening a small file.
_WANTED_TAGS = {"ImageDescription": 270, "Make": 271, "Model": 272, "Software": 305, "DateTime": 306, "Artist": 315, "HostComputer": 316}
_X_RESOLUTION, _Y_RESOLUTION = 282, 283


@dataclass
class Found:
    """What a file says, unjudged. Lengths in micrometres, times in seconds, wavelengths in nanometres; lists by channel."""

    y_um: float | None = None
    x_um: float | None = None
    z_um: float | None = None
    time_s: float | None = None
    channels: list[str] = field(default_factory=list)
    emission_nm: list[float | None] = field(default_factory=list)
    exposure_s: list[float | None] = field(default_factory=list)
    na: float | None = None
    magnification: float | None = None
    instrument: str = ""
    objective: str = ""
    acquired: str = ""
    stage_um: stage.Stage | None = None
    planned: tuple[int, int, int] = (0, 0, 0)  # times, channels and planes that the microscope set out to acquire
    reason: str = "the file holds none"  # why there is no pixel size
    z_reason: str = "the file holds none"
    dialect: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)


def found_in(source: tifffile.TiffFile, image: FileImage, first: Any) -> Found:
    """Return the statements of the file's dialect; the tags for printing speak only where it is a plain TIFF.

    `first` is the page of the image's first plane.
    """
    kind, page = image.series.kind, image.series.keyframe
    if kind == "ome":
        place = next(place for place, series in enumerate(source.series) if series is image.series)
        return _from_ome(source.ome_metadata, place, len(source.series), image.name)
    if kind in ("mmstack", "ndtiff"):
        found = _from_micromanager(source, kind, page)
        found.stage_um = stage.from_micromanager(_own_metadata(kind, first), found.said["Summary"], image.position)
        return found
    if source.is_lsm:
        found = _from_lsm(source.lsm_metadata or {})
        found.stage_um = stage.from_lsm(source.lsm_metadata or {}, image.places)
        return found
    if source.is_stk:
        return _from_stk(source.stk_metadata or {})
    if source.is_imagej:
        return _from_imagej(source.imagej_metadata or {}, page)
    return _from_tags(page)


def _from_ome(text: str, place: int, count: int, name: str) -> Found:
    """Return what is said of the image `name`, in the place `place` of `count` in the file; nothing where it cannot be told which it is."""
    root = _parsed(text)
    said = [(image, part) for image in root if _name(image) == "Image" for part in image if _name(part) == "Pixels"]
    described = [(image, pixels) for image, pixels in said if any(_name(part) == "TiffData" for part in pixels)]
    named = [(image, pixels) for image, pixels in described if name and image.get("Name") == name]
    if len(named) != 1 and len(described) != count:
        return Found(dialect="OME", reason=f"the OME-XML describes {len(described)} images and the file holds {count}")
    image, pixels = named[0] if len(named) == 1 else described[place]
    found = Found(dialect="OME")
    for axis in "YXZ":
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit")
        reason = "z_reason" if axis == "Z" else "reason"
        # Beside a real pixel size a z step of 1 may be true.
        if value is not None and unit is None and number(value) == 1 and None in (found.y_um, found.x_um):
            setattr(found, reason, "the OME-XML says 1 without a unit, which is what programs write that do not know it")
            continue
        if value is not None and length_um(value, unit or "µm") is None:
            setattr(found, reason, f"the OME-XML says {value} {unit}, which is no length")
        setattr(found, f"{axis.lower()}_um", length_um(value, unit or "µm"))
    found.time_s = time_s(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    exposures: dict[str, float | None] = {}
    for plane in (child for child in pixels if _name(child) == "Plane"):
        exposures.setdefault(plane.get("TheC", "0"), time_s(plane.get("ExposureTime"), plane.get("ExposureTimeUnit", "s")))
    for index, channel in enumerate(child for child in pixels if _name(child) == "Channel"):
        samples = int(channel.get("SamplesPerPixel", 1))
        found.channels += [channel.get("Name", "")] * samples
        wavelength = length_um(channel.get("EmissionWavelength"), channel.get("EmissionWavelengthUnit", "nm"))
        found.emission_nm += [None if wavelength is None else wavelength * 1e3] * samples
        found.exposure_s += [exposures.get(str(index))] * samples
    wanted = {child.get("ID") for child in image if _name(child) == "ObjectiveSettings"}
    objectives = [element for element in root.iter() if _name(element) == "Objective"]
    used = [objective for objective in objectives if objective.get("ID") in wanted] or (objectives if len(objectives) == 1 else [])
    if used:
        found.na = number(used[0].get("LensNA"))
        found.magnification = number(used[0].get("CalibratedMagnification")) or number(used[0].get("NominalMagnification"))
        found.objective = _maker_and_model(used[0])
    found.stage_um = stage.from_ome(image)
    referred = {child.get("ID") for child in image if _name(child) == "InstrumentRef"}
    instruments = [element for element in root if _name(element) == "Instrument"]
    chosen = [element for element in instruments if element.get("ID") in referred] or (instruments if len(instruments) == 1 else [])
    microscopes = [child for element in chosen[:1] for child in element if _name(child) == "Microscope"]
    found.instrument = _maker_and_model(microscopes[0]) if microscopes else ""
    found.acquired = next((child.text or "" for child in image if _name(child) in ("AcquisitionDate", "AcquiredDate")), "").strip()
    return found


@lru_cache(maxsize=1)  # a file of many images is asked for each of them
def _parsed(text: str) -> Any:
    return ElementTree.fromstring(text)


def _from_micromanager(source: tifffile.TiffFile, kind: str, page: Any) -> Found:
    summary = (source.micromanager_metadata or {}).get("Summary")
    summary = summary if isinstance(summary, dict) else {}
    plane = _plane_metadata(page)
    size = number(summary.get("PixelSize_um")) or number(plane.get("PixelSizeUm")) or number(plane.get("PixelSize_um"))
    found = Found(y_um=size or None, x_um=size or None, dialect="Micro-Manager", said={"Summary": summary, "first plane": plane})
    found.reason = "Micro-Manager was not calibrated"
    found.z_um = abs(number(summary.get("z-step_um")) or 0.0) or None
    interval = number(summary.get("Interval_ms"))
    found.time_s = None if interval is None else interval / 1e3
    names = summary.get("ChNames")
    found.channels = [str(name) for name in names] if isinstance(names, list) else []
    if kind == "ndtiff":
        places = [axes.get("channel") for axes, *_ in tifffile.read_ndtiff_index(Path(page.parent.filehandle.dirname, "NDTiff.index"))]
        # Micro-Manager Studio counts them, other programs name them.
        found.channels = list(dict.fromkeys(place for place in places if isinstance(place, str))) or found.channels
    if kind == "mmstack":
        times, channels, slices = (int(number(summary.get(name)) or 0) for name in ("Frames", "Channels", "Slices"))
        found.planned = (times, channels, slices)
    exposure = number(plane.get("Exposure-ms", plane.get("Exposure")))
    if len(found.channels) < 2 and exposure is not None:  # the first plane speaks for one channel only
        found.exposure_s = [exposure / 1e3]
    found.instrument = str(summary.get("ComputerName") or "")  # Micro-Manager has no name for the microscope, only for its computer
    found.objective = str(plane.get("Objective-Label") or "")
    found.acquired = str(summary.get("StartTime") or summary.get("DateAndTime") or summary.get("Time") or "")
    return found


def _plane_metadata(page: Any) -> dict[str, Any]:
    tag = page.tags.get(51123)
    return tag.value if tag is not None and isinstance(tag.value, dict) else {}


def _own_metadata(kind: str, page: Any) -> dict[str, Any]:
    """Return the metadata of a plane that tifffile may know by its place only: the index of an NDTiff set tells where they are."""
    if kind != "ndtiff":
        return _plane_metadata(page.aspage())
    handle = page.parent.filehandle
    for _, name, at, *_, start, length, _ in tifffile.read_ndtiff_index(Path(handle.dirname, "NDTiff.index")):
        if (name, at) == (handle.name, page.dataoffsets[0]) and 0 < length <= _LARGEST_METADATA:
            handle.seek(start)
            content = json.loads(handle.read(length))
            return content if isinstance(content, dict) else {}
    return {}


def _from_imagej(metadata: dict[str, Any], page: Any) -> Found:
    x_unit = str(metadata.get("unit", ""))
    y_unit, z_unit = (str(metadata.get(name) or x_unit) for name in ("yunit", "zunit"))  # there where they are others
    said = {key: value for key, value in metadata.items() if key not in ("LUTs", "Ranges", "ROI", "Overlays")}
    found = Found(dialect="ImageJ", said=said)
    found.time_s = time_s(metadata.get("finterval"), str(metadata.get("tunit") or "sec"))
    spacing = length_um(metadata.get("spacing"), z_unit)
    found.z_um = None if spacing is None else abs(spacing)  # its sign tells the direction
    if strange := [unit for unit in (x_unit, y_unit) if length_um(1, unit) is None]:
        found.reason = f"ImageJ's unit is {strange[0]!r}" if strange[0] else "ImageJ was not told one"
        return found
    found.y_um, found.x_um = _from_resolution(page, y_unit, x_unit)
    if found.x_um is None or _resolution(page, _X_RESOLUTION) == 1:
        found.y_um = found.x_um = None
        found.reason = f"the file has the unit {unescape(x_unit)!r} but no resolution other than 1"
    return found


def _from_lsm(metadata: dict[str, Any]) -> Found:
    y_um, x_um, z_um = (length_um(metadata.get(f"VoxelSize{axis}"), "m") for axis in "YXZ")
    names = metadata.get("ChannelColors", {}).get("ColorNames", [])
    scan = metadata.get("ScanInformation", {})
    said = {"ScanInformation": scan, **{key: value for key, value in metadata.items() if not key.startswith(("Offset", "f", "Internal"))}}
    found = Found(y_um, x_um, z_um, number(metadata.get("TimeIntervall")), list(map(str, names)), dialect="Zeiss LSM", said=said)
    found.objective = str(scan.get("Objective") or "")
    if objective := re.search(r"(\d+(?:\.\d+)?)x/(\d\.\d+)", found.objective):
        found.magnification, found.na = float(objective[1]), float(objective[2])
    if days := number(scan.get("Sample0time")):
        found.acquired = (_LSM_EPOCH + timedelta(days=days)).isoformat(timespec="seconds") if 0 < days < 1e5 else ""
    return found


def _from_stk(metadata: dict[str, Any]) -> Found:
    unit = str(metadata.get("CalibrationUnits", ""))
    found = Found(dialect="MetaMorph", said=metadata)
    descriptions = " ".join(map(str, metadata.get("PlaneDescriptions", ())))
    binning = re.search(r"Binning: *(\d+) *x *(\d+)", descriptions)
    if not metadata.get("SpatialCalibration"):
        found.reason = "MetaMorph was not calibrated"
    elif binning and binning.groups() != ("1", "1"):
        found.reason = (
            f"MetaMorph's calibration ({metadata.get('XCalibration')} {unit}) does not follow the binning of {binning[1]} x {binning[2]}"
        )
    else:
        found.y_um, found.x_um = (length_um(metadata.get(f"{axis}Calibration"), unit) for axis in "YX")
        found.reason = f"MetaMorph's unit is {unit!r}"
    distances = [abs(float(distance)) for distance in metadata.get("ZDistance", ())]
    steps = set(distances) - {0.0}
    found.z_um = steps.pop() if len(steps) == 1 else None
    if exposure := re.search(r"Exposure: *(\d+(?:\.\d+)?) *(ms|s|us)\b", descriptions):
        found.exposure_s = [time_s(exposure[1], exposure[2])]
    created = metadata.get("DatetimeCreated")
    created = np.zeros(0, "datetime64[ms]") if created is None else np.atleast_1d(created).astype("datetime64[ms]")
    passed = np.diff(created).astype(float) / 1e3
    in_time = len(passed) > 0 and passed.min() > 0 and not all(distances)  # what passes between the planes of a stack is no time step
    found.time_s = float(np.median(passed)) if in_time else None
    found.acquired = str(created[0]) if len(created) and not np.isnat(created[0]) else ""
    return found


def _from_tags(page: Any) -> Found:
    said = {name: tag.value for name, code in _WANTED_TAGS.items() if (tag := page.tags.get(code)) is not None}
    found, unit = Found(dialect="TIFF", said=said), {2: "in", 3: "cm"}.get(int(page.resolutionunit or 1), "")
    found.instrument = _maker_and_model(said)
    resolution = _resolution(page, _X_RESOLUTION)
    if not unit or not resolution:
        found.reason = "the TIFF tags give a resolution without a unit" if resolution not in (None, 1) else found.reason
        return found
    y_um, x_um = _from_resolution(page, unit, unit)
    if x_um is not None and y_um is not None and x_um <= LARGEST_TAG_PIXEL_UM and abs(x_um - 1) > 1e-6:
        found.y_um, found.x_um = y_um, x_um
    else:
        found.reason = (
            f"the TIFF tags give {resolution:.6g} pixels per {'inch' if unit == 'in' else 'cm'}, which is a printer's or a default"
        )
    return found


def _from_resolution(page: Any, y_unit: str, x_unit: str) -> tuple[float | None, float | None]:
    y, x = _resolution(page, _Y_RESOLUTION), _resolution(page, _X_RESOLUTION)
    return (length_um(1 / y, y_unit) if y else None, length_um(1 / x, x_unit) if x else None)


def _resolution(page: Any, code: int) -> float | None:
    tag = page.tags.get(code)
    value = tag.value if tag is not None else None
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value)):
        return None
    return value[0] / value[1] if value[0] > 0 and value[1] > 0 else None


def _maker_and_model(said: Any) -> str:
    """Return manufacturer and model, of an OME element or of the TIFF tags, without a manufacturer that the model repeats."""
    maker, model = (str(said.get(key) or said.get(short) or "").strip() for key, short in (("Manufacturer", "Make"), ("Model", "Model")))
    return model if model.casefold().startswith(maker.casefold()) else f"{maker} {model}".strip()


def _name(element: Any) -> str:
    return str(element.tag).rsplit("}", 1)[-1]
