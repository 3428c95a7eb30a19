"""Planes to pictures: display windows, scale bars, colours, PNG. Arrays in, HTML-ready values out; opens no file.

Pictures are PNGs with a palette, embedded as data URIs. Scale bars and colour bars are drawn by the page on top of and below the
picture, so that they stay sharp and readable on any screen; here are their lengths and colours.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.floating]
MISSING = (204, 0, 153)  # what a pixel without a value (NaN) looks like: a colour that none of the scales holds
SEQUENTIAL = "inferno"  # errors and standard deviations: perceptually uniform, readable with any colour vision


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar: its label and its length in per cent of the picture's width."""

    label: str
    percent: float


def nice_length(longest: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not longer than `longest` (> 0, any unit)."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def length_label(um: float) -> str:
    """Return a length for people, in nm, µm or mm."""
    value, unit = (um * 1000, "nm") if um < 1 - 1e-9 else (um / 1000, "mm") if um >= 1000 else (um, "µm")
    return f"{value:.4g} {unit}"


def scale_bar(width_um: float, share: float = 0.3) -> ScaleBar:
    """Return the bar for a picture `width_um` micrometres wide: a round length, at most `share` of the width."""
    length = nice_length(width_um * share)
    return ScaleBar(length_label(length), 100 * length / width_um)


@dataclass(frozen=True)
class Affine:
    """The map a·x + b between two intensity scales."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, plane: Plane) -> Plane:
        """Map intensities."""
        return np.asarray(self.slope * plane + self.offset, np.float32)


def match(plane: Plane, reference: Plane, coarse: int = 8) -> Affine:
    """Return the affine map that brings `plane` (Y, X) closest to `reference` (Y, X), in the least-squares sense.

    Both are averaged over `coarse` x `coarse` pixels first: noise in `plane` would otherwise flatten the fit, and a noisy input would
    be shown with less contrast than it has. A flat or inverted plane keeps the slope 1, because a picture must not be turned over.
    """
    low = [shrink(array, min(coarse, *array.shape)).ravel().astype(np.float64) for array in (plane, reference)]
    good = np.isfinite(low[0]) & np.isfinite(low[1])
    if not good.any():
        return Affine()
    x, y = low[0][good], low[1][good]
    variance = x.var()
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / variance) if variance > 0 else 1.0
    slope = slope if slope > 0 else 1.0
    return Affine(slope, float(y.mean() - slope * x.mean()))


def shrink(plane: Plane, factor: int) -> Plane:
    """Return the mean over `factor` x `factor` pixels, (Y//factor, X//factor); the rest at the far edges is left out."""
    rows, columns = plane.shape[0] // factor, plane.shape[1] // factor
    cut = np.asarray(plane[: rows * factor, : columns * factor], np.float32)
    means: Plane = cut.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    return means


def resize(plane: Plane, shape: tuple[int, int]) -> Plane:
    """Return the plane (Y, X) on another grid over the same field: area mean where it shrinks, cubic where it grows."""
    if plane.shape == shape:
        return np.asarray(plane, np.float32)
    shrinks = shape[0] <= plane.shape[0]
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC))


def display_shape(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the shape of a picture of a plane (Y, X) whose longer side has at most `longest` pixels."""
    factor = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def window(*planes: Plane, percentiles: tuple[float, float] = (0.2, 99.8)) -> tuple[float, float]:
    """Return the display window that serves all planes: from the lowest low to the highest high percentile."""
    finite = [plane[np.isfinite(plane)] for plane in planes]
    limits = [np.percentile(values, percentiles) for values in finite if values.size]
    if not limits:
        return 0.0, 1.0
    low, high = float(min(limit[0] for limit in limits)), float(max(limit[1] for limit in limits))
    return (low, high) if high > low else (low, low + 1.0)


def structure(plane: Plane) -> Plane:
    """Return how much structure there is at each pixel: the root of the gradient's magnitude, so that one bright spot is not everything."""
    filled = np.nan_to_num(np.asarray(plane, np.float32), nan=float(np.nanmean(plane)) if np.isfinite(plane).any() else 0.0)
    if min(filled.shape) < 2:
        return np.zeros_like(filled)
    weighed: Plane = np.sqrt(np.hypot(*np.gradient(filled)))
    return weighed


def richest_window(plane: Plane, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the first row and column of the window of `shape` with the most structure."""
    sums = np.pad(structure(plane).astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = shape
    total = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    row, column = np.unravel_index(int(np.argmax(total)), total.shape)
    return int(row), int(column)


def richest_line(plane: Plane) -> tuple[str, int]:
    """Return the line through a plane (Y, X) that crosses the most structure: ("row", y) or ("column", x).

    Lines in the outer eighth are left out. Structure along a line is the variation of its pixels, so a line across filaments is
    preferred to a line along one.
    """
    margin = [max(1, size // 8) if size > 2 else 0 for size in plane.shape]
    filled = np.nan_to_num(np.asarray(plane, np.float32))
    rows = np.abs(np.diff(filled, axis=1)).sum(axis=1)[margin[0] : plane.shape[0] - margin[0]]
    columns = np.abs(np.diff(filled, axis=0)).sum(axis=0)[margin[1] : plane.shape[1] - margin[1]]
    if rows.max(initial=0) / plane.shape[1] >= columns.max(initial=0) / plane.shape[0]:
        return "row", margin[0] + int(np.argmax(rows))
    return "column", margin[1] + int(np.argmax(columns))


@cache
def colours(name: str, levels: int = 255) -> NDArray[np.uint8]:
    """Return `levels` colours of a matplotlib colour map as (levels, 3) uint8."""
    steps = np.linspace(0, 1, levels)
    return np.asarray(np.rint(np.asarray(matplotlib.colormaps[name](steps))[:, :3] * 255), np.uint8)


def css_gradient(name: str) -> str:
    """Return a CSS gradient with the colours of `colours(name)`, for a colour bar."""
    stops = ",".join("#" + bytes(colour).hex() for colour in colours(name)[::32])
    return f"linear-gradient(90deg,{stops},#{bytes(colours(name)[-1]).hex()})"


def png_uri(plane: Plane, limits: tuple[float, float], colour_map: str = "gray", levels: int = 255) -> str:
    """Return a plane (Y, X) as a PNG data URI: `limits` are the values shown with the first and last colour.

    `levels` (at most 255) is the number of colours; fewer make smaller files. Pixels without a value get the colour `MISSING`.
    """
    low, high = limits
    scaled = (np.asarray(plane, np.float64) - low) / (high - low)
    missing = ~np.isfinite(scaled)
    index = np.rint(np.clip(np.where(missing, 0, scaled), 0, 1) * (levels - 1)).astype(np.uint8)
    index[missing] = levels
    picture = Image.fromarray(index)
    picture.putpalette(np.vstack([colours(colour_map, levels), np.array([MISSING], np.uint8)]).tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
