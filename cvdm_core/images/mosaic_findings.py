"""What is to be said of a mosaic whose overlaps were measured: whether it can be one, and how well it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.mosaic import Overlap, PlacedField
from cvdm_core.images.mosaic_pairs import Measured

MOST_RMS_PX = 1.5
MOST_DISAGREEING = 0.25  # of the overlaps that show structure
UNEVEN = 0.1  # difference of brightness of two fields where they overlap
NAMED = 5  # so many fields stand in a remark
DIGITS = 3
Points = NDArray[np.float64]


def overlap(names: tuple[str, str], found: Measured, shift: Points | None, residual: float | None, used: bool) -> Overlap:
    """Return what is kept of a measured pair; one that was not used, because it fits no places that the others agree on, disagrees."""
    return Overlap(
        first=names[0],
        second=names[1],
        state="disagrees" if residual is not None and not used else found.state,
        correlation=round(found.correlation, DIGITS),
        shift_px=None if shift is None else rounded(shift),
        residual_px=None if residual is None else round(residual, DIGITS),
        brightness=None if found.brightness is None else round(found.brightness, DIGITS),
    )


def check_fit(path: Path, overlaps: tuple[Overlap, ...], hanging: set[str]) -> None:
    """Refuse what cannot be a mosaic; `hanging` are the fields that no overlap ties to the others. Raises UserError."""
    wrong = [pair for pair in overlaps if pair.state == "disagrees"]
    shown = [pair for pair in overlaps if pair.state != "empty"]
    for pair in wrong:
        for name, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if name in hanging:
                raise UserError(
                    f"{path}: the field {name!r} shows something else than {other!r} where they should overlap, and no other overlap "
                    "tells where it lies; correct its position in the column positions, or take the field out."
                )
    if len(wrong) > MOST_DISAGREEING * len(shown):
        pairs = ", ".join(f"{pair.first!r} and {pair.second!r}" for pair in wrong[:3])
        raise UserError(
            f"{path}: {len(wrong)} of {len(shown)} overlaps that show something do not match (for example {pairs}); check the "
            "positions, the pixel size and the column stage_axes."
        )
    residuals = residuals_of(overlaps)
    if residuals and (left := rms(residuals)) > MOST_RMS_PX:
        raise UserError(
            f"{path}: the overlaps leave {left:.2f} pixels (RMS) unexplained, more than {MOST_RMS_PX}; the specimen has moved, the "
            "objective distorts, or fields are mixed up: register them one by one."
        )


def rms(values: list[float]) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def rounded(point: Any) -> tuple[float, float]:
    """Return (y, x) with the digits that are kept."""
    y, x = (round(float(value), DIGITS) for value in point)
    return y, x


def residuals_of(overlaps: tuple[Overlap, ...]) -> list[float]:
    """Return the residuals of the overlaps that were measured and fit [pixels]."""
    return [pair.residual_px for pair in overlaps if pair.state == "measured" and pair.residual_px is not None]


def sentence(overlaps: tuple[Overlap, ...], fields: tuple[PlacedField, ...]) -> str:
    """Return one sentence on how the fields were placed and how well they fit."""
    residuals = residuals_of(overlaps)
    if not residuals:
        return f"{len(fields)} fields were placed by the stage's positions alone, because no overlap shows enough to measure."
    worst = max((pair for pair in overlaps if pair.state == "measured"), key=lambda pair: pair.residual_px or 0.0)
    return (
        f"{len(fields)} fields were placed by {len(residuals)} of {len(overlaps)} overlaps, which fit within {rms(residuals):.2f} pixels "
        f"(RMS); the worst, {worst.first} and {worst.second}, within {worst.residual_px:.2f}."
    )


def remarks(overlaps: tuple[Overlap, ...], fields: tuple[PlacedField, ...], covered: float, corrected: bool) -> tuple[str, ...]:
    """Return what a person should know besides: fields placed by the stage, overlaps left out, uneven light, gaps."""
    said = []
    if by_stage := [field.name for field in fields if field.placed_by == "stage"]:
        named = ", ".join(by_stage[:NAMED]) + (", ..." if len(by_stage) > NAMED else "")
        said.append(f"Placed by the stage alone, because too little is to be seen where they overlap others: {named}.")
    if wrong := [f"{pair.first} and {pair.second}" for pair in overlaps if pair.state == "disagrees"]:
        named = ", ".join(wrong[:NAMED]) + (", ..." if len(wrong) > NAMED else "")
        said.append(f"Left out, because what they show does not match ({len(wrong)} of {len(overlaps)} overlaps): {named}.")
    ratios = [max(pair.brightness, 1 / pair.brightness) for pair in overlaps if pair.state == "measured" and pair.brightness]
    if ratios and max(ratios) > 1 + UNEVEN:
        advice = "" if corrected else "; where the illumination is uneven, a flat_field corrects it"
        said.append(f"Neighbouring fields differ in brightness by up to {100 * (max(ratios) - 1):.0f} % where they overlap{advice}.")
    if covered < 1:
        said.append(f"{100 * (1 - covered):.2g} % of the canvas was not acquired: pixels there are 0 and mean nothing.")
    return tuple(said)
