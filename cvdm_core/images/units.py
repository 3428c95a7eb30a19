"""Lengths in micrometres and times in seconds from the spellings that microscopes' files use."""

from __future__ import annotations

import math
import re

MICROMETRES = {  # every length unit of the OME schema 2016-06 that can be converted, and the spellings ImageJ and its plugins write
    **{"m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "fm": 1e-9, "am": 1e-12, "zm": 1e-15, "ym": 1e-18},
    **{"Ym": 1e30, "Zm": 1e27, "Em": 1e24, "Pm": 1e21, "Tm": 1e18, "Gm": 1e15, "Mm": 1e12, "km": 1e9, "hm": 1e8, "dam": 1e7},
    **{"Å": 1e-4, "angstrom": 1e-4, "thou": 25.4, "li": 25.4e3 / 12, "in": 25.4e3, "inch": 25.4e3, "ft": 304.8e3, "yd": 914.4e3},
    **{"mi": 1609.344e6, "pt": 25.4e3 / 72, "ly": 9.4607304725808e21, "ua": 1.495978707e17, "pc": 3.0856775814913673e22},
    **{"um": 1.0, "μm": 1.0, "u": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "micrometers": 1.0},
    **{"nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6},
}
SECONDS = {  # of OME, and the spellings that ImageJ's users write
    **{"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0},
    **{"sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "msec": 1e-3, "μs": 1e-6, "us": 1e-6},
    **{"mins": 60.0, "minute": 60.0, "minutes": 60.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0},
}


def length_um(value: str | float | None, unit: str) -> float | None:
    """Convert a length to micrometres; None if it is no number or the unit is not one of length."""
    factor = MICROMETRES.get(unescape(unit).strip()) or MICROMETRES.get(unescape(unit).strip().lower())
    found = number(value)
    return None if factor is None or found is None else found * factor


def time_s(value: str | float | None, unit: str) -> float | None:
    """Convert a time to seconds; None if it is no number or the unit is not one of time."""
    factor, found = SECONDS.get(unescape(unit).strip()), number(value)
    return None if factor is None or found is None else found * factor


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    if not isinstance(value, (str, int, float)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def unescape(text: str) -> str:
    """Put characters in place of ImageJ's escapes: it writes `\\u00B5m`."""
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), text)
