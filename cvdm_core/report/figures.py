"""Plots as inline SVG: they take the page's text colour, so that they read well on light and dark, and stay sharp on a phone.

Every function takes plain arrays and returns markup that is safe to place in a page (matplotlib escapes all text), or None where
there is nothing to draw.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

INK = "#010203"  # stands for the page's text colour; replaced by `currentColor` in the SVG
# Colours that differ in lightness as well as in hue, and read on white and on near-black; line styles tell them apart once more.
STYLE: dict[str, dict[str, Any]] = {
    "input": {"color": "#8c8c8c", "linestyle": "-", "linewidth": 1.2},
    "restored": {"color": "#1f83c8", "linestyle": "-", "linewidth": 2.0},
    "sample": {"color": "#d98200", "linestyle": "-.", "linewidth": 1.3},
    "truth": {"color": INK, "linestyle": "--", "linewidth": 1.5},
    "richardson_lucy": {"color": "#c05a9d", "linestyle": ":", "linewidth": 1.6},
}
LABELS = {
    "input": "input (upsampled)",
    "restored": "restored (mean)",
    "sample": "one sample",
    "truth": "truth",
    "richardson_lucy": "Richardson–Lucy",
}
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cvdm",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Curve:
    """One curve: its kind (a key of `STYLE`), and its points."""

    kind: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]


def _canvas(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.3), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.15, color=INK, linewidth=0.6)
    return figure, axes


def _markup(figure: Figure, description: str) -> Markup:
    """Return the SVG for use inside HTML: no XML head, no links, no fixed size, no ids that a second plot would repeat."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    rest = re.sub(r'<g id="\w+">', "<g>", rest).replace(INK, "currentColor")
    rest = re.sub(r"'DejaVu Sans',[^;\"]*", "system-ui, sans-serif", rest)
    return Markup('<svg role="img" aria-label="{}" {}>').format(description, Markup(box.group() if box else "")) + Markup(rest)


def _legend(axes: Axes, columns: int = 2) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, handlelength=2.2, columnspacing=1.2)


def _label_logarithms(*scales: Axis) -> None:
    for scale in scales:
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the default one needs mathtext
        scale.set_minor_formatter(NullFormatter())


def _plain(text: str, longest: int = 60) -> str:
    """Return text from a file as matplotlib may draw it: one line, no control characters (XML forbids them), not endless."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def profile(curves: Sequence[Curve], band: tuple[ArrayLike, ArrayLike, ArrayLike] | None, band_label: str, unit: str) -> Markup:
    """Intensity along a line: `curves` in counts over micrometres; `band` is (x, lower, upper) of the restored image."""
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas("distance along the line [µm]", f"intensity [{_plain(unit)}]")
        if band is not None:
            axes.fill_between(*band, color="#1f83c8", alpha=0.28, linewidth=0, label=band_label)
        for curve in curves:
            axes.plot(curve.x, curve.y, label=LABELS[curve.kind], **STYLE[curve.kind])
        axes.margins(x=0)
        _legend(axes)
        return _markup(figure, "Intensity along the marked line: " + ", ".join(LABELS[curve.kind] for curve in curves))


def frc(curves: Sequence[Curve], threshold: float = 1 / 7) -> Markup | None:
    """Fourier ring correlation with the truth over spatial frequency [cycles/µm]."""
    if not curves:
        return None
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas("spatial frequency [cycles/µm]", "correlation with the truth")
        for curve in curves:
            axes.plot(curve.x, curve.y, label=LABELS.get(curve.kind, curve.kind), **STYLE.get(curve.kind, {"color": INK}))
        axes.axhline(threshold, color=INK, linewidth=0.8, linestyle=":")
        # At the left edge, where the curves are high: at the right one they would hide it.
        axes.annotate("1/7", (0.01, threshold), xycoords=("axes fraction", "data"), ha="left", va="bottom", fontsize=10)
        axes.set(ylim=(-0.1, 1.05))
        axes.margins(x=0)
        _legend(axes)
        return _markup(figure, "Fourier ring correlation with the truth over spatial frequency")


def calibration(predicted: NDArray[np.floating], measured: NDArray[np.floating], unit: str) -> Markup | None:
    """Measured error (RMSE) against predicted standard deviation, of groups of pixels; the diagonal is perfect.

    Both axes are logarithmic: most groups are background, and would lie on each other at the origin.
    """
    good = np.isfinite(predicted) & np.isfinite(measured) & (predicted > 0) & (measured > 0)
    if good.sum() < 2:
        return None
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas(f"predicted: standard deviation [{_plain(unit)}]", f"found: RMS error [{_plain(unit)}]")
        shown = np.concatenate([predicted[good], measured[good]])
        ends = float(shown.min()) / 1.2, float(shown.max()) * 1.2
        axes.plot(ends, ends, color=INK, linestyle="--", linewidth=1, label="perfect calibration")
        axes.plot(predicted[good], measured[good], marker="o", markersize=5, **{**STYLE["restored"], "linewidth": 1.3}, label="this image")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        _label_logarithms(axes.xaxis, axes.yaxis)
        _legend(axes)
        return _markup(figure, "Calibration: error found against standard deviation predicted; above the diagonal is over-confident")


def schedule(t: NDArray[np.floating], mean: NDArray[np.floating], low: NDArray[np.floating], high: NDArray[np.floating]) -> Markup | None:
    """The learned schedule: signal power γ over diffusion time t, mean and range over pixels."""
    if t.size < 2:
        return None
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas("diffusion time t", "signal power γ(t)")
        axes.fill_between(t, low, high, color="#1f83c8", alpha=0.28, linewidth=0, label="range over pixels")
        axes.plot(t, mean, color="#1f83c8", linewidth=2, label="mean over pixels")
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        _legend(axes)
        return _markup(figure, "Learned noise schedule: signal power over diffusion time")


def training(series: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]], ylabel: str, logarithmic: bool) -> Markup | None:
    """Curves of the training, by name: (optimiser step, value)."""
    series = {name: points for name, points in series.items() if points[0].size > 1}
    if not series:
        return None
    palette = ("#1f83c8", "#d98200", "#c05a9d", "#4aa173")
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas("optimiser step", _plain(ylabel))
        for (name, (steps, values)), colour, line in zip(series.items(), palette, ("-", "--", "-.", ":"), strict=False):
            axes.plot(steps, values, label=_plain(name, 30), color=colour, linestyle=line, linewidth=1.5)
        if logarithmic and all((values > 0).all() for _, values in series.values()):
            axes.set_yscale("log")
            _label_logarithms(axes.yaxis)
        _legend(axes)
        return _markup(figure, "Training: " + escape(ylabel) + " over optimiser steps")


def trend(lines: Mapping[str, Sequence[tuple[date, float]]], ylabel: str) -> Markup | None:
    """A figure over days, a line with points for each name."""
    if len({day for points in lines.values() for day, _ in points}) < 2:
        return None
    palette = ("#1f83c8", "#d98200", "#c05a9d", "#4aa173", INK)
    with matplotlib.rc_context(_RC):
        figure, axes = _canvas("day on which it was measured", _plain(ylabel))
        for (name, points), colour, marker in zip(lines.items(), palette, "os^Dv", strict=False):
            days, values = zip(*points, strict=True)
            axes.plot(days, values, label=_plain(name, 30), color=colour, marker=marker, markersize=4, linewidth=1.5)
        locator = AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        _legend(axes)
        return _markup(figure, f"{_plain(ylabel)} over days, by instrument")
