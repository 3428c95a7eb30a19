"""The pictures of one channel: what is shown beside what, on one intensity scale, and where the page looks closer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from cvdm_core.report import figures
from cvdm_core.report.pictures import (
    Affine,
    Plane,
    ScaleBar,
    css_gradient,
    display_shape,
    match,
    png_uri,
    richest_line,
    richest_window,
    scale_bar,
    window,
)
from cvdm_core.report.planes import Sources, open_plane, read_detail, read_error, read_field, which_plane

LONGEST = 420  # longer side of a picture of the whole field [pixels]: three fit beside each other on a desktop
DETAIL = 192  # side of a detail [pixels of the restored image]
# Colour map and number of colours: more cannot be told apart on a screen, and cost bytes. Inferno is perceptually uniform.
INTENSITY, SPREAD = ("gray", 128), ("inferno", 64)

TITLES = {
    "input": ("Input", "as acquired, interpolated to the restored grid"),
    "restored": ("Restored", "mean of the posterior samples"),
    "sample": ("One posterior sample", "one image the model holds possible; it keeps the texture that a mean smooths"),
    "truth": ("Truth", "acquired separately, of the same field"),
    "error": ("Absolute error", "|restored − truth|"),
    "std": ("Standard deviation", "spread of the posterior samples"),
}


@dataclass(frozen=True)
class Panel:
    """One picture with what is drawn around it: scale bar, colour bar (`low` to `high`, `unit`) and words."""

    kind: str
    title: str
    text: str
    src: str
    width: int
    height: int
    bar: ScaleBar
    low: str
    high: str
    unit: str
    gradient: str


@dataclass(frozen=True)
class ChannelPictures:
    """All pictures of one channel. `box` and `line` are (left, top, width, height) in per cent of the picture they lie on."""

    name: str
    plane: str
    reference: str
    field: tuple[Panel, ...]
    detail: tuple[Panel, ...]
    box: tuple[float, float, float, float]
    line: tuple[float, float, float, float]
    profile: Markup


@dataclass(frozen=True)
class _Window:
    """The detail: where it lies on the grid of the restored image."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def channel_pictures(sources: Sources, channel: int, name: str, quantiles: tuple[float, float]) -> ChannelPictures:
    """Read and draw everything of one channel.

    Input and restored image are brought onto the intensity scale of the truth (without one: the input onto that of the restored image)
    by one affine map each, fitted to the whole field; the same maps and the same display window serve the detail.

    Raises
    ------
    UserError
        If a store is missing, cannot be read, or does not fit the others.
    """
    whole = open_plane(*sources.of("restored"), channel)
    pixel_um = whole.attrs["pixel_size_um"]
    reference = "truth" if sources.truth else "restored"
    unit = f"counts of the {'truth' if sources.truth else 'restored image'}"

    field, maps = _field(sources, channel, whole.shape, reference)
    place = _look_closer(field["restored"], whole.shape, sources.scale)
    detail = _detail(sources, channel, place, maps)
    limits = _limits(field, detail, reference)
    bounds: dict[str, Plane] = {
        kind: maps["restored"](read_detail(sources, kind, channel, place.rows, place.columns))
        for kind in ("lower", "upper")
        if kind in sources.extra
    }
    axis, at = richest_line(detail[reference])
    height, width = place.shape
    line = (0.0, at + 0.5, width, 0.0) if axis == "row" else (at + 0.5, 0.0, 0.0, height)
    return ChannelPictures(
        name=name,
        plane=which_plane(sources.restored),
        reference=reference,
        field=_panels(field, limits, unit, whole.shape[1] * pixel_um[1]),
        detail=_panels(detail, limits, unit, width * pixel_um[1]),
        box=_percent((place.columns.start, place.rows.start, width, height), whole.shape),
        line=_percent(line, place.shape),
        profile=_profile(detail, bounds, axis, at, pixel_um, unit, quantiles),
    )


def _field(sources: Sources, channel: int, size: tuple[int, ...], reference: str) -> tuple[dict[str, Plane], dict[str, Affine]]:
    """Read the whole field of every kind, on the intensity scale of `reference`; return the maps that bring it there."""
    shape = display_shape((size[0], size[1]), LONGEST)
    read = {kind: read_field(sources, kind, channel, shape, size[0] / shape[0]) for kind in sources.kinds if kind != "error"}
    restored = match(read["restored"], read[reference])
    maps = {"input": match(read["input"], read[reference]), "restored": restored, "sample": restored, "truth": Affine()}
    maps["std"] = Affine(restored.slope)
    planes = {kind: maps[kind](plane) for kind, plane in read.items()}
    if sources.truth:
        planes["error"] = read_error(sources, channel, restored, shape)
    return {kind: planes[kind] for kind in sources.kinds}, maps


def _look_closer(field: Plane, size: tuple[int, ...], scale: int) -> _Window:
    """Choose the detail where the field has the most structure; its corners are multiples of `scale`."""
    edges = [min(length, DETAIL) // scale * scale for length in size]
    shown = [max(1, min(short, round(edge * short / length))) for short, edge, length in zip(field.shape, edges, size, strict=True)]
    corner = richest_window(field, (shown[0], shown[1]))
    first = [
        min(round(start * length / short), length - edge) // scale * scale
        for start, short, edge, length in zip(corner, field.shape, edges, size, strict=True)
    ]
    return _Window(slice(first[0], first[0] + edges[0]), slice(first[1], first[1] + edges[1]))


def _detail(sources: Sources, channel: int, place: _Window, maps: dict[str, Affine]) -> dict[str, Plane]:
    kinds = [kind for kind in sources.kinds if kind != "error"]
    planes = {kind: maps[kind](read_detail(sources, kind, channel, place.rows, place.columns)) for kind in kinds}
    if sources.truth:
        planes["error"] = np.abs(planes["restored"] - planes["truth"])
    return {kind: planes[kind] for kind in sources.kinds}


def _limits(field: dict[str, Plane], detail: dict[str, Plane], reference: str) -> dict[str, tuple[float, float]]:
    """One window for all intensities, one from zero for error and standard deviation, so that the eye may compare within each."""
    intensity = window(*(planes[kind] for planes in (field, detail) for kind in (reference, "restored")))
    spread = [planes[kind] for planes in (field, detail) for kind in ("error", "std") if kind in planes]
    top = window(*spread, percentiles=(0, 99.5))[1] if spread else 1.0
    return {kind: (0.0, top) if kind in ("error", "std") else intensity for kind in field}


def _panels(planes: dict[str, Plane], limits: dict[str, tuple[float, float]], unit: str, width_um: float) -> tuple[Panel, ...]:
    panels = []
    for kind, plane in planes.items():
        colour_map, levels = SPREAD if kind in ("error", "std") else INTENSITY
        title, text = TITLES[kind]
        low, high = limits[kind]
        panels.append(
            Panel(
                kind=kind,
                title=title,
                text=text,
                src=png_uri(plane, limits[kind], colour_map, levels),
                width=plane.shape[1],
                height=plane.shape[0],
                bar=scale_bar(width_um),
                low=_limit(low, high - low),
                high=_limit(high, high - low),
                unit=unit,
                gradient=css_gradient(colour_map),
            )
        )
    return tuple(panels)


def _limit(value: float, span: float) -> str:
    """Return an end of a colour bar, as exact as the bar is long (thousands set apart by a thin space)."""
    digits = 0 if span >= 20 else 2 - math.floor(math.log10(span))
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def _percent(rectangle: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    left, top, width, height = rectangle
    return 100 * left / shape[1], 100 * top / shape[0], 100 * width / shape[1], 100 * height / shape[0]


def _profile(
    detail: dict[str, Plane],
    bounds: dict[str, Plane],
    axis: str,
    at: int,
    pixel_um: tuple[float, float],
    unit: str,
    quantiles: tuple[float, float],
) -> Markup:
    """Draw the profile along one row or column of the detail, with the stored interval around the restored image."""

    def cut(plane: Plane) -> Plane:
        return plane[at] if axis == "row" else plane[:, at]

    x = np.arange(cut(detail["restored"]).size) * pixel_um[axis == "row"]
    curves = [figures.Curve(kind, x, cut(detail[kind])) for kind in ("input", "truth", "restored") if kind in detail]
    if len(bounds) == 2:
        label = f"{100 * quantiles[0]:g}–{100 * quantiles[1]:g} % of samples"
        return figures.profile(curves, (x, cut(bounds["lower"]), cut(bounds["upper"])), label, unit)
    return figures.profile(curves, None, "", unit)
