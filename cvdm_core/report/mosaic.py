"""The mosaic on an acquisition's page: how its fields were placed, how well they fit, and a small drawing of the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from cvdm_core.images.mosaic import ATTRIBUTE, Mosaic, Overlap, PlacedField, from_json
from cvdm_core.images.reading import open_image
from cvdm_core.report.metrics import signed

SHOWN = 12  # overlaps in the table, worst first; the others are folded away
WELL_PX = 0.5
STATES: Mapping[str, str] = {"measured": "fits", "empty": "shows too little", "disagrees": "does not match, left out"}
WIDTH = 640  # of the drawing, in its own units
LARGEST_MARK = 0.16  # of a field's edge


@dataclass(frozen=True)
class MosaicView:
    """What the page shows: `facts` are (label, value), rows of `worst` and `others` are (fields, what, residual, shift, ...)."""

    tone: str
    sentence: str
    remarks: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    drawing: Markup
    worst: tuple[tuple[str, ...], ...]
    others: tuple[tuple[str, ...], ...]
    gaps: bool


def mosaic_view(raw: Path) -> MosaicView | None:
    """Return the mosaic of an input's store; None where it is none."""
    attributes = open_image(raw).attrs
    stored = attributes["cvdm"].get(ATTRIBUTE)
    if stored is None:
        return None
    mosaic = from_json(stored)
    pixel_nm = 1000 * attributes["pixel_size_um"][1]
    rows = [_row(pair, pixel_nm) for pair in sorted(mosaic.overlaps, key=_badness, reverse=True)]
    disturbed = any(pair.state == "disagrees" for pair in mosaic.overlaps) or any(field.placed_by == "stage" for field in mosaic.fields)
    tone = "unknown" if mosaic.rms_px is None else "flat" if disturbed else "good"
    return MosaicView(
        tone=tone,
        sentence=mosaic.sentence,
        remarks=mosaic.remarks,
        facts=_facts(mosaic, pixel_nm),
        drawing=draw(mosaic),
        worst=tuple(rows[:SHOWN]),
        others=tuple(rows[SHOWN:]),
        gaps=mosaic.covered < 1,
    )


def _badness(pair: Overlap) -> tuple[bool, float]:
    return pair.state == "disagrees", -1.0 if pair.residual_px is None else pair.residual_px


def _facts(mosaic: Mosaic, pixel_nm: float) -> tuple[tuple[str, str], ...]:
    moved = max(max(abs(value) for value in field.moved_px) for field in mosaic.fields)
    x_runs, y_runs = mosaic.stage_axes[:2], mosaic.stage_axes[2:]
    source = "stated in the sample sheet" if mosaic.stage_axes_source == "stated" else "found by which one lets neighbours match"
    return (
        ("Fields", f"{len(mosaic.fields)} of {mosaic.field_shape[0]} × {mosaic.field_shape[1]} pixels"),
        ("Canvas", f"{mosaic.shape[0]} × {mosaic.shape[1]} pixels, {100 * mosaic.covered:.4g} % of it acquired"),
        ("Residual, RMS and worst", f"{_length(mosaic.rms_px, pixel_nm)}; {_length(mosaic.worst_px, pixel_nm)}"),
        ("Largest move from the stage's position", _length(moved, pixel_nm)),
        ("Stage axes", f"the stage's x runs along {x_runs} of the image and its y along {y_runs} ({source})"),
        ("Measured in", f"channel {mosaic.plane[0] + 1}, z plane {mosaic.plane[1] + 1}, first time point; all planes move together"),
        ("Where fields overlap", "the field counts in which a pixel lies further from the edge; pixels are not blended or interpolated"),
    )


def _row(pair: Overlap, pixel_nm: float) -> tuple[str, ...]:
    shift = "" if pair.shift_px is None else ", ".join(signed(value, 2) for value in pair.shift_px)
    brightness = "" if pair.brightness is None else f"{signed(100 * (pair.brightness - 1), 1)} %"
    names = f"{pair.first} – {pair.second}"
    return names, STATES[pair.state], _length(pair.residual_px, pixel_nm), shift, f"{pair.correlation:.2f}", brightness


def _length(pixels: float | None, pixel_nm: float) -> str:
    return "not measured" if pixels is None else f"{pixels:.2f} px ({pixels * pixel_nm:.0f} nm)"


def draw(mosaic: Mosaic) -> Markup:
    """Return the layout as SVG: fields as frames, and a mark where two overlap, its shape and size by how well they fit."""
    unit = WIDTH / mosaic.shape[1]
    height = mosaic.shape[0] * unit
    size = [edge * unit for edge in mosaic.field_shape]
    marks = LARGEST_MARK * min(size)
    centres = {field.name: ((field.x * unit) + size[1] / 2, (field.y * unit) + size[0] / 2) for field in mosaic.fields}
    parts = [_frame(field, unit, size, len(mosaic.fields)) for field in mosaic.fields]
    parts += [_mark(pair, centres, marks) for pair in mosaic.overlaps]
    label = f"Layout of {len(mosaic.fields)} fields with the residuals of their overlaps"
    opening = Markup('<svg role="img" aria-label="{}" class="layout" viewBox="-3 -3 {:.0f} {:.0f}">').format(label, WIDTH + 6, height + 6)
    return opening + Markup("").join(parts) + Markup("</svg>")


def _frame(field: PlacedField, unit: float, size: list[float], count: int) -> Markup:
    x, y = field.x * unit, field.y * unit
    name = field.name if len(field.name) <= 6 else f"{field.name[:5]}…"
    text = Markup("")
    if count <= 400:
        letters = min(size[0] * 0.3, size[1] * 1.2 / max(len(name), 2))
        text = Markup('<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{}</text>').format(
            x + size[1] / 2, y + size[0] / 2 + letters * 0.35, letters, name
        )
    moved = ", ".join(signed(value, 2) for value in field.moved_px)
    title = f"{field.name}: placed by {'the stage alone' if field.placed_by == 'stage' else 'its overlaps'}, moved by {moved} px (y, x)"
    return Markup('<g class="{}"><title>{}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>{}</g>').format(
        f"by-{field.placed_by}", title, x, y, size[1], size[0], text
    )


def _mark(pair: Overlap, centres: Mapping[str, tuple[float, float]], largest: float) -> Markup:
    (x0, y0), (x1, y1) = centres[pair.first], centres[pair.second]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    residual = "not measured" if pair.residual_px is None else f"{pair.residual_px:.2f} px"
    title = escape(f"{pair.first} – {pair.second}: {STATES[pair.state]}, residual {residual}")
    if pair.state == "disagrees":
        arm = largest * 0.8
        path = f"M{x - arm:.1f} {y - arm:.1f}L{x + arm:.1f} {y + arm:.1f}M{x - arm:.1f} {y + arm:.1f}L{x + arm:.1f} {y - arm:.1f}"
        return Markup('<path class="o wrong" d="{}"><title>{}</title></path>').format(path, title)
    if pair.residual_px is None:
        return Markup('<circle class="o empty" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
            x, y, largest * 0.5, title
        )
    kind = "well" if pair.residual_px <= WELL_PX else "fair"
    radius = largest * (0.35 + 0.65 * min(pair.residual_px / 3, 1))
    return Markup('<circle class="o {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(kind, x, y, radius, title)
