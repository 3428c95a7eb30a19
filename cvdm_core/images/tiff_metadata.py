"""What a TIFF says about pixel size, z step, time step, channels and optics, and what of it can be believed.

A pixel size that is absent, zero, 1 without a unit, or a printer's resolution is not a pixel size: it comes back as None with the
reason, and a person has to state it. Lengths are in micrometres, times in seconds, wavelengths in nanometres.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tifffile

from cvdm_core.images.stage import Stage
from cvdm_core.images.tiff_images import FileImage
from cvdm_core.images.tiff_statements import Found, found_in

SMALLEST_PIXEL_UM, LARGEST_PIXEL_UM = 1e-4, 100.0  # from high-resolution electron to wide-field stereo microscopes
LARGEST_Z_STEP_UM = 1000.0  # optical projection and light-sheet microscopes step by tens of micrometres
PRINTERS_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 204, 240, 266, 300, 350, 360, 400, 600, 720, 800, 1200, 2400)
SAID_BYTES = 65_536  # of what a file says in words of its own, kept in the store
_COLOURS = ("red", "green", "blue", "alpha")


class _Axes(Protocol):
    @property
    def shape(self) -> tuple[int, int, int, int, int]: ...
    @property
    def axes(self) -> str: ...


@dataclass(frozen=True)
class Metadata:
    """Calibration (y, x) in micrometres, steps, one name a channel, and optics.

    Attributes
    ----------
    z_step_um, time_step_s : as the file says them, also of a single plane or time point: it may be one of many files.
    emission_nm, exposure_ms : one value a channel, or empty where not all are known.
    instrument, objective : the microscope and its objective in the words of the file, empty where unknown.
    acquired : date and time in ISO 8601 as the file has it, empty where unknown.
    stage_um : where the stage stood, (y, x) in its own axes [micrometres], or None.
    shortfall : what was to be acquired and is not there, though what is there is whole; empty if nothing.
    said : what a dialect other than OME says in words of its own, JSON-able, at most `SAID_BYTES`.
    """

    pixel_size_um: tuple[float, float] | None = None
    pixel_size_reason: str = "the file holds none"
    z_step_um: float | None = None
    z_step_reason: str = "the file holds none"
    time_step_s: float | None = None
    channels: tuple[str, ...] = ()
    emission_nm: tuple[float, ...] = ()
    na: float | None = None
    magnification: float | None = None
    exposure_ms: tuple[float, ...] = ()
    instrument: str = ""
    objective: str = ""
    acquired: str = ""
    stage_um: Stage | None = None
    shortfall: str = ""
    dialect: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)


def metadata_of(source: tifffile.TiffFile, image: FileImage, layout: _Axes, first: Any) -> Metadata:
    """Return what the file says about one of its images, whose first plane lies in the page `first`, judged."""
    found = found_in(source, image, first)
    count = layout.shape[1]
    names = found.channels or (list(_COLOURS[:count]) if "S" in layout.axes and "C" not in layout.axes and 3 <= count <= 4 else [])
    pixel = (found.y_um, found.x_um)
    reason = found.reason if None in pixel else next((text for value in pixel if (text := _implausible(value or 0.0))), "")
    z_reason = found.z_reason if _positive(found.z_um) is None else _beyond(found.z_um or 0.0, LARGEST_Z_STEP_UM)
    return Metadata(
        pixel_size_um=None if reason else (found.y_um or 0.0, found.x_um or 0.0),
        pixel_size_reason=reason,
        z_step_um=None if z_reason else found.z_um,
        z_step_reason=z_reason,
        time_step_s=_positive(found.time_s),
        channels=distinct_names(names, count),
        emission_nm=_one_each(found.emission_nm, count, 100, 3000),
        na=found.na if found.na is not None and 0 < found.na < 2 else None,
        magnification=found.magnification if found.magnification is not None and 0.1 < found.magnification < 1000 else None,
        exposure_ms=_one_each([None if value is None else value * 1e3 for value in found.exposure_s], count, 0, 1e8),
        instrument=_words(found.instrument, 100),
        objective=_words(found.objective, 100),
        acquired=_words(found.acquired, 40),
        stage_um=found.stage_um,
        shortfall=_shortfall(found.planned, layout.shape),
        dialect=found.dialect,
        said=_bounded(found),
    )


def _words(text: str, most: int) -> str:
    """Return text of a file on one line, at most `most` letters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:most].strip()


def _one_each(values: list[float | None], count: int, least: float, most: float) -> tuple[float, ...]:
    """Return the values if each of the channels has a believable one, else none."""
    known = [value for value in values if value is not None and least < value < most]
    return tuple(known) if len(known) == len(values) == count else ()


def _shortfall(planned: tuple[int, int, int], shape: tuple[int, ...]) -> str:
    """Return what an acquisition that was stopped early, or lacks a file of its set, has less than was planned."""
    words = ("time points", "channels", "planes")
    less = [f"{there} of {wanted} {word}" for there, wanted, word in zip(shape, planned, words, strict=False) if there < wanted]
    return f"{', '.join(less)} planned are there and taken for all" if less else ""


def _bounded(found: Found) -> dict[str, Any]:
    """Return what the file says as JSON-able values; the longest are left out, by name, until the rest fits."""
    said: dict[str, Any] = {str(key): _plain(value) for key, value in found.said.items()}
    lengths = {key: len(json.dumps(value)) + len(key) for key, value in said.items()}
    total, left_out = sum(lengths.values()), []
    for key in sorted(lengths, key=lambda key: lengths[key], reverse=True):
        if total <= SAID_BYTES:
            break
        total -= lengths[key]
        del said[key]
        left_out.append(key[:80])
    return said | ({"left out, too long": left_out[:100]} if left_out else {})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "M":
        value = value.astype("datetime64[ms]").astype(str)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.size <= SAID_BYTES // 8 else f"array {value.shape}"
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def _implausible(pixel_um: float) -> str:
    if not math.isfinite(pixel_um) or pixel_um <= 0:
        return "the file says 0"
    if beyond := _beyond(pixel_um, LARGEST_PIXEL_UM):
        return beyond
    printer = [dpi for dpi in PRINTERS_DPI if abs(pixel_um * dpi / 25.4e3 - 1) < 1e-3]
    return f"the file says {pixel_um:.4g} um, which is {printer[0]} dots an inch, a printer's" if printer else ""


def _beyond(length_um: float, largest_um: float) -> str:
    within = SMALLEST_PIXEL_UM <= length_um <= largest_um
    return "" if within else f"the file says {length_um:.4g} um, which is not a microscope's"


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 1e-9 else None


def distinct_names(names: list[str], count: int) -> tuple[str, ...]:
    """Return `count` names, each once, without control characters and without `;` (which stands between names in the sheet)."""
    clean: list[str] = []
    for index in range(count):
        raw = names[index] if len(names) == count else ""
        name = "".join(letter for letter in raw.replace(";", ",") if letter.isprintable()).strip() or f"channel_{index}"
        clean.append(name if name not in clean else f"{name}_{index}")
    return tuple(clean)
