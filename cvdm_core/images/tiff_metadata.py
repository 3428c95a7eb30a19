"""What the dialects of TIFF say about pixel size, z step, time step, channels and optics, and what of it can be believed.

A pixel size that is absent, zero, 1 without a unit, or a printer's resolution is not a pixel size: it comes back as None with the
reason, and a person has to state it. Lengths are in micrometres, times in seconds, wavelengths in nanometres.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Protocol
from xml.etree import ElementTree

import tifffile

MICROMETRES = {  # every length unit of the OME schema 2016-06 that can be converted, and the spellings ImageJ and its plugins write
    **{"m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9, "am": 1e-12, "zm": 1e-15, "ym": 1e-18},
    **{"Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15, "Mm": 1e12, "km": 1e9, "hm": 1e8, "dam": 1e7},
    **{"Å": 1e-4, "angstrom": 1e-4, "thou": 25.4, "li": 25.4e3 / 12, "in": 25.4e3, "inch": 25.4e3, "ft": 304.8e3, "yd": 914.4e3},
    **{"mi": 1609.344e6, "pt": 25.4e3 / 72, "ly": 9.4607304725808e21, "ua": 1.495978707e17, "pc": 3.0856775814913673e22},
    **{"um": 1.0, "μm": 1.0, "u": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "micrometers": 1.0},
    **{"nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6},
}
SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
SMALLEST_PIXEL_UM, LARGEST_PIXEL_UM = 1e-4, 100.0  # from high-resolution electron to wide-field stereo microscopes
LARGEST_TAG_PIXEL_UM = 5.0  # above, the resolution tag is a scanner's or printer's: 5080 dots an inch
PRINTERS_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 204, 240, 266, 300, 350, 360, 400, 600, 720, 800, 1200, 2400)
_COLOURS = ("red", "green", "blue", "alpha")


class _Axes(Protocol):
    @property
    def shape(self) -> tuple[int, int, int, int, int]: ...
    @property
    def axes(self) -> str: ...


@dataclass(frozen=True)
class Metadata:
    """Calibration (y, x) in micrometres, steps, one name a channel, and optics."""

    pixel_size_um: tuple[float, float] | None = None
    pixel_size_reason: str = "the file holds none"
    z_step_um: float | None = None
    time_step_s: float | None = None
    channels: tuple[str, ...] = ()
    emission_nm: tuple[float, ...] = ()
    na: float | None = None


@dataclass
class _Found:
    """Raw statements of one dialect, before they are judged."""

    y_um: float | None = None
    x_um: float | None = None
    z_um: float | None = None
    time_s: float | None = None
    channels: list[str] = field(default_factory=list)
    emission_nm: list[float | None] = field(default_factory=list)
    na: float | None = None
    reason: str = "the file holds none"


def metadata_of(source: tifffile.TiffFile, layout: _Axes) -> Metadata:
    """Return what the file says, judged. The dialect of the file speaks; the tags for printing only where it is a plain TIFF."""
    kind = source.series[0].kind
    if kind == "ome":
        found = _from_ome(source.ome_metadata)
    elif source.is_lsm:
        found = _from_lsm(source.lsm_metadata or {})
    elif source.is_stk:
        found = _from_stk(source.stk_metadata or {})
    elif source.is_imagej:
        found = _from_imagej(source.imagej_metadata or {}, source.series[0].keyframe)
    else:
        found = _from_tags(source.series[0].keyframe)
    count = layout.shape[1]
    names = found.channels or (list(_COLOURS[:count]) if "S" in layout.axes and "C" not in layout.axes and 3 <= count <= 4 else [])
    pixel = (found.y_um, found.x_um)
    reason = found.reason if None in pixel else next((text for value in pixel if (text := _implausible(value or 0.0))), "")
    emission = [value for value in found.emission_nm if value is not None and 100 < value < 3000]
    return Metadata(
        pixel_size_um=None if reason else (found.y_um or 0.0, found.x_um or 0.0),
        pixel_size_reason=reason,
        z_step_um=_positive(found.z_um) if layout.shape[2] > 1 else None,
        time_step_s=_positive(found.time_s) if layout.shape[0] > 1 else None,
        channels=_distinct(names, count),
        emission_nm=tuple(emission) if len(emission) == count else (),
        na=found.na if found.na is not None and 0 < found.na < 2 else None,
    )


def length_um(value: str | float | None, unit: str) -> float | None:
    """Convert a length to micrometres; None if it is no number or the unit is not one of length."""
    factor = MICROMETRES.get(_unescape(unit).strip()) or MICROMETRES.get(_unescape(unit).strip().lower())
    number = _number(value)
    return None if factor is None or number is None else number * factor


def _implausible(pixel_um: float) -> str:
    if not math.isfinite(pixel_um) or pixel_um <= 0:
        return "the file says 0"
    if not SMALLEST_PIXEL_UM <= pixel_um <= LARGEST_PIXEL_UM:
        return f"the file says {pixel_um:.4g} um, which is not a microscope's"
    printer = [dpi for dpi in PRINTERS_DPI if abs(pixel_um * dpi / 25.4e3 - 1) < 1e-3]
    return f"the file says {pixel_um:.4g} um, which is {printer[0]} dots an inch, a printer's" if printer else ""


def _from_ome(text: str) -> _Found:
    root = ElementTree.fromstring(text)
    image = next(element for element in root.iter() if _name(element) == "Image" and any(_name(child) == "Pixels" for child in element))
    pixels = next(child for child in image if _name(child) == "Pixels")
    found = _Found()
    for axis in "YXZ":
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit")
        if axis in "YX" and value is not None and unit is None and _number(value) == 1:
            found.reason = "the OME-XML says 1 without a unit, which is what programs write that do not know it"
            continue
        if value is not None and length_um(value, unit or "µm") is None:
            found.reason = f"the OME-XML says {value} {unit}, which is no length"
        setattr(found, f"{axis.lower()}_um", length_um(value, unit or "µm"))
    increment = _number(pixels.get("TimeIncrement"))
    found.time_s = None if increment is None else increment * SECONDS.get(pixels.get("TimeIncrementUnit", "s"), math.nan)
    for channel in (child for child in pixels if _name(child) == "Channel"):
        found.channels += [channel.get("Name", "")] * int(channel.get("SamplesPerPixel", 1))
        wavelength = length_um(channel.get("EmissionWavelength"), channel.get("EmissionWavelengthUnit", "nm"))
        found.emission_nm += [None if wavelength is None else wavelength * 1e3] * int(channel.get("SamplesPerPixel", 1))
    wanted = {child.get("ID") for child in image if _name(child) == "ObjectiveSettings"}
    objectives = [element for element in root.iter() if _name(element) == "Objective"]
    used = [objective for objective in objectives if objective.get("ID") in wanted] or (objectives if len(objectives) == 1 else [])
    found.na = _number(used[0].get("LensNA")) if used else None
    return found


def _from_imagej(metadata: dict[str, Any], page: Any) -> _Found:
    unit = str(metadata.get("unit", ""))
    found = _Found(time_s=_number(metadata.get("finterval")))
    if length_um(1, unit) is None:
        found.reason = f"ImageJ's unit is {unit!r}" if unit else "ImageJ was not told one"
        return found
    found.y_um, found.x_um = _from_resolution(page, unit)
    if found.x_um is None or _resolution(page, "XResolution") == 1:
        found.y_um = found.x_um = None
        found.reason = f"the file has the unit {_unescape(unit)!r} but no resolution other than 1"
    found.z_um = length_um(metadata.get("spacing"), unit)
    return found


def _from_lsm(metadata: dict[str, Any]) -> _Found:
    sizes = [length_um(metadata.get(f"VoxelSize{axis}"), "m") for axis in "YXZ"]
    names = metadata.get("ChannelColors", {}).get("ColorNames", [])
    return _Found(
        y_um=sizes[0], x_um=sizes[1], z_um=sizes[2], time_s=_number(metadata.get("TimeIntervall")), channels=list(map(str, names))
    )


def _from_stk(metadata: dict[str, Any]) -> _Found:
    found, unit = _Found(), str(metadata.get("CalibrationUnits", ""))
    binning = re.search(r"Binning: *(\d+) *x *(\d+)", " ".join(map(str, metadata.get("PlaneDescriptions", ()))))
    if not metadata.get("SpatialCalibration"):
        found.reason = "MetaMorph was not calibrated"
    elif binning and binning.groups() != ("1", "1"):
        found.reason = (
            f"MetaMorph's calibration ({metadata.get('XCalibration')} {unit}) does not follow the binning of {binning[1]} x {binning[2]}"
        )
    else:
        found.y_um, found.x_um = (length_um(metadata.get(f"{axis}Calibration"), unit) for axis in "YX")
        found.reason = f"MetaMorph's unit is {unit!r}"
    distances = {abs(float(distance)) for distance in metadata.get("ZDistance", ())} - {0.0}
    found.z_um = distances.pop() if len(distances) == 1 else None
    return found


def _from_tags(page: Any) -> _Found:
    found, unit = _Found(), {2: "in", 3: "cm"}.get(int(page.resolutionunit or 1), "")
    resolution = _resolution(page, "XResolution")
    if not unit or not resolution:
        found.reason = "the TIFF tags give a resolution without a unit" if resolution not in (None, 1) else found.reason
        return found
    y_um, x_um = _from_resolution(page, unit)
    if x_um is not None and y_um is not None and x_um <= LARGEST_TAG_PIXEL_UM and abs(x_um - 1) > 1e-6:
        found.y_um, found.x_um = y_um, x_um
    else:
        found.reason = (
            f"the TIFF tags give {resolution:.6g} pixels per {'inch' if unit == 'in' else 'cm'}, which is a printer's or a default"
        )
    return found


def _from_resolution(page: Any, unit: str) -> tuple[float | None, float | None]:
    y, x = _resolution(page, "YResolution"), _resolution(page, "XResolution")
    return (length_um(1 / y, unit) if y else None, length_um(1 / x, unit) if x else None)


def _resolution(page: Any, name: str) -> float | None:
    tag = page.tags.get(name)
    value = tag.value if tag is not None else None
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value)):
        return None
    return value[0] / value[1] if value[0] > 0 and value[1] > 0 else None


def _distinct(names: list[str], count: int) -> tuple[str, ...]:
    """Return `count` names, each once, without control characters and without `;` (which stands between names in the sheet)."""
    clean: list[str] = []
    for index in range(count):
        raw = names[index] if len(names) == count else ""
        name = "".join(letter for letter in raw.replace(";", ",") if letter.isprintable()).strip() or f"channel_{index}"
        clean.append(name if name not in clean else f"{name}_{index}")
    return tuple(clean)


def _name(element: Any) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _number(value: str | float | None) -> float | None:
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 1e-9 else None


def _unescape(text: str) -> str:
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), text)  # ImageJ writes \u00B5m
