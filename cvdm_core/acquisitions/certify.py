"""Is this a training pair? Registration, intensities and saturation of an input and its target, and what follows from them.

A target that lies a little off is moved back, one that lies far off is refused, and one whose displacement cannot be measured (nothing
in common is visible, or too noisily) is left as it is and said to be so. The constants below decide which; the measurements behind
them stand in docs/pairs.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cvdm_core.images.acquired import Planes
from cvdm_core.images.certificate import Certificate, ChannelCertificate, Verdict
from cvdm_core.images.registration import Plane, Registration, read_pair, register, windows
from cvdm_core.images.similarity import Float64, Region, Similarity, read_moved
from cvdm_core.sheet import Acquisition

FLOOR_PX = 0.25
"""Displacements up to here are left alone: of 114 real pairs that nobody had moved, none known to 0.1 lay further off than 0.21."""
SURE = 3.0  # standard errors by which a displacement must be above zero before anything is moved
MOST_SHIFT_PX = 8.0  # more is no play of a mount or a camera: a stage has moved, or the files are not a pair
MOST_ROTATION_MRAD = 10.0  # half a degree, as cameras are aligned by hand
MOST_SCALE_ERROR = 0.01  # one per cent, the tolerance of tube lenses; more is a wrong pixel size
PLANES = 2  # planes of a channel that are looked at, evenly spread over time and z
OVERVIEW = 512  # longest side of what is read as a whole [pixels]
SMOOTH = 3.0  # sigma at which intensities are compared: wide enough that noise and resolution of the two matter little [input pixels]
SAMPLES = 64  # smoothed pixels of a window along y and x that are compared
DIGITS = 4


@dataclass(frozen=True)
class Certified:
    """The certificate and, by channel, what the target has to be moved back by [input pixels]."""

    certificate: Certificate
    moves: tuple[Similarity, ...]

    @property
    def moved(self) -> bool:
        """Whether any channel of the target is to be moved."""
        return not all(move.is_identity() for move in self.moves)


class MovedPlanes:
    """A target, read as if it had been acquired in register with its input; see `images.acquired.Planes`.

    Parameters
    ----------
    planes
        The target as it was acquired.
    moves
        What it lies off, by channel [input pixels].
    scale
        Target pixels for each input pixel along y and x.
    """

    def __init__(self, planes: Planes, moves: tuple[Similarity, ...], scale: int) -> None:
        """Take what is read."""
        self.header, self.files = planes.header, planes.files
        self._planes, self._moves, self._scale = planes, moves, scale

    def check_complete(self) -> None:
        """Decode the last pixel."""
        self._planes.check_complete()

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return a region of a plane moved back, rounded and clipped to the file's data type; a mask stays one."""
        shape, dtype = self.header.shape[3:], self.header.dtype
        moved = read_moved(
            lambda rows, columns: self._planes.read(t, c, z, rows, columns), shape, self._moves[c].enlarged(self._scale), (y, x)
        )
        if dtype.kind in "iub" and moved.dtype != dtype:
            lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            moved = np.clip(np.rint(moved), lowest, highest)
        pixels: NDArray[Any] = moved.astype(dtype)
        return pixels


def certify(raw: Path, target: Path, row: Acquisition) -> Certified:
    """Measure a pair from its two stores, whose pixels and pyramids are complete; their metadata need not be.

    Returns
    -------
    Certified
        Memory is that of a few windows, whatever the size of the images.
    """
    levels = _levels(raw), _levels(target)
    measured = [_channel(*levels, channel, name, row) for channel, name in enumerate(_names(row, levels[0][0].shape[1]))]
    worst = max((channel.verdict for channel in measured), key=_severity)
    if worst == "refused":  # then both images are stored as they are
        measured = [replace(channel, moved=None) for channel in measured]
    moves = tuple(Similarity(*channel.moved) if channel.moved else Similarity() for channel in measured)
    shape = levels[0][0].shape[3:]
    parts = [move.valid(shape) for move in moves]
    (y, x) = ((max(part[axis].start for part in parts), min(part[axis].stop for part in parts)) for axis in (0, 1))
    overlap = max(y[1] - y[0], 0) * max(x[1] - x[0], 0) / math.prod(shape)
    pixel_nm = round(1000 * float(row.pixel_size_um or math.nan), DIGITS)
    certificate = Certificate(worst, _sentence(row, worst, measured), (y, x), round(overlap, DIGITS), pixel_nm, tuple(measured))
    return Certified(certificate, moves)


def _levels(store: Path) -> list[zarr.Array[Any]]:
    levels: list[zarr.Array[Any]] = []
    while (store / str(len(levels))).is_dir():
        levels.append(zarr.open_array(store / str(len(levels)), mode="r"))
    return levels


def _names(row: Acquisition, channels: int) -> list[str]:
    return [row.channels[number] if number < len(row.channels) else f"channel {number + 1}" for number in range(channels)]


def _plane(input: zarr.Array[Any], target: zarr.Array[Any], t: int, c: int, z: int) -> Plane:
    scale = target.shape[3] // input.shape[3]
    shape = min(input.shape[3], target.shape[3] // scale), min(input.shape[4], target.shape[4] // scale)
    return Plane(lambda y, x: np.asarray(input[t, c, z, y, x]), lambda y, x: np.asarray(target[t, c, z, y, x]), shape, scale)


def _channel(raw: list[zarr.Array[Any]], target: list[zarr.Array[Any]], channel: int, name: str, row: Acquisition) -> ChannelCertificate:
    frames, _, depth = raw[0].shape[:3]
    chosen = np.unique(np.linspace(0, frames * depth - 1, min(PLANES + 2, frames * depth + 2)).round().astype(int)[1:-1]).tolist()
    places = [(number // depth, channel, number % depth) for number in chosen]
    planes = [_plane(raw[0], target[0], *place) for place in places]
    level = next((number for number, array in enumerate(raw) if max(array.shape[3:]) <= OVERVIEW), len(raw) - 1)
    found = register(planes, _plane(raw[level], target[level], *places[len(places) // 2]))
    verdict, reason, move = judge(found, planes[0].shape)
    first = ChannelCertificate(
        channel=name,
        verdict=verdict,
        reason=reason,
        shift_px=None if found.similarity is None else (_short(found.similarity.shift_y), _short(found.similarity.shift_x)),
        uncertainty_px=_known(found.uncertainty),
        residual_px=_known(found.residual),
        rotation_mrad=None if found.similarity is None else _short(1000 * found.similarity.rotation),
        scale_error=None if found.similarity is None else round(found.similarity.scale_error, DIGITS + 2),
        agreeing=found.agreeing,
        windows=found.windows,
        moved=None if move.is_identity() else (move.shift_y, move.shift_x, move.rotation, move.scale_error),
        slope=None, intercept=None, r2=None, curvature=None, saturated={},
    )  # fmt: skip
    return replace(first, **_intensities(planes, move))


def judge(found: Registration, shape: tuple[int, int]) -> tuple[Verdict, str, Similarity]:
    """Decide what follows from a registration of planes of `shape`: the verdict, its figures in words, and how to move the target back."""
    measured, alone = found.similarity, found.shift_alone
    if measured is None or alone is None:
        return "not measurable", f"{found.agreeing} of {found.windows} windows agree on a displacement", Similarity()
    radius = math.hypot(*shape) / 2
    turned = abs(measured.linear) * radius > max(FLOOR_PX, SURE * found.linear_uncertainty * radius)
    move = measured if turned else alone
    error = found.uncertainty + turned * found.linear_uncertainty * radius
    words = [f"displaced by {abs(move.shift):.2f} ± {found.uncertainty:.1g} input pixels"]
    if turned:
        words.append(f"rotated by {1000 * move.rotation:.2f} mrad and magnified by {100 * move.scale_error:.2f} %")
    reason = ", ".join(words)
    if move.largest(shape) <= max(FLOOR_PX, SURE * error):
        return "aligned", reason, Similarity()
    limits = ((abs(move.shift), MOST_SHIFT_PX), (1000 * abs(move.rotation), MOST_ROTATION_MRAD), (abs(move.scale_error), MOST_SCALE_ERROR))
    if any(value > limit for value, limit in limits):
        return "refused", reason, Similarity()
    rounded = (round(value, 6) for value in (move.shift_y, move.shift_x, move.rotation, move.scale_error))
    return "corrected", reason, Similarity(*rounded)


def _severity(verdict: Verdict) -> int:
    return ("aligned", "not measurable", "corrected", "refused").index(verdict)


def _sentence(row: Acquisition, worst: Verdict, channels: Sequence[ChannelCertificate]) -> str:
    """Return one sentence on the pair: its verdict, and the figures of the channel that it comes from."""
    channel = next(channel for channel in channels if channel.verdict == worst)
    where = f" in the channel {channel.channel}" if len(channels) > 1 else ""
    if worst == "aligned":
        return f"{row.acquisition}: input and target are aligned ({channel.reason}{where}), so the target is stored as it was acquired."
    if worst == "not measurable":
        return f"{row.acquisition}: the alignment of input and target cannot be measured ({channel.reason}{where}); look at the two images."
    if worst == "corrected":
        unknown = [channel.channel for channel in channels if channel.verdict == "not measurable"]
        beside = f"; of {', '.join(unknown)} the alignment cannot be measured, so look at the two images there" if unknown else ""
        return f"{row.acquisition}: the target is {channel.reason}{where} and was moved back by interpolation{beside}."
    return (
        f"{row.acquisition}: the target is {channel.reason}{where}; more than {MOST_SHIFT_PX:g} pixels, {MOST_ROTATION_MRAD:g} mrad or "
        f"{100 * MOST_SCALE_ERROR:g} % is not corrected, so name the right target, mend its pixel size, or take it from the sheet."
    )


def _intensities(planes: Sequence[Plane], move: Similarity) -> dict[str, Any]:
    """Compare smoothed intensities of input and target in every window, and count what is saturated."""
    pairs = [read_pair(plane, move, region) for plane in planes for region in windows(plane.shape)]
    smoothed = [[gaussian_filter(image, SMOOTH)[_every(image)].ravel() for image in pair] for pair in pairs]
    x, y = (np.concatenate([pair[side] for pair in smoothed]) for side in (0, 1))
    saturated = {"input": _saturated(_pieces(planes, "input")), "target": _saturated(_pieces(planes, "target"))}
    low, high = np.percentile(x, (0.5, 99.5))
    inside = (low <= x) & (x <= high)
    if len(np.unique(x[inside])) < 3 or not np.ptp(y[inside]) > 0:  # of one bright spot in an empty field, nothing may be left
        return {"saturated": saturated}
    u = (x - (low + high) / 2) * 2 / (high - low)
    rise, middle = np.polyfit(u[inside], y[inside], 1)
    bend = np.polyfit(u[inside], y[inside], 2)[0]
    slope = rise * 2 / (high - low)
    r2 = float(np.corrcoef(u[inside], y[inside])[0, 1]) ** 2
    values = {
        "slope": slope,
        "intercept": middle - slope * (low + high) / 2,
        "r2": r2,
        "curvature": abs(bend / (2 * rise)) if rise else None,
    }
    return {"saturated": saturated, **{name: None if value is None else float(f"{value:.4g}") for name, value in values.items()}}


def _every(image: Float64) -> Region:
    y, x = (slice(None, None, max(1, size // SAMPLES)) for size in image.shape)
    return y, x


def _pieces(planes: Sequence[Plane], role: Literal["input", "target"]) -> Iterator[NDArray[np.generic]]:
    for plane in planes:
        read, scale = (plane.input, 1) if role == "input" else (plane.target, plane.scale)
        for y, x in windows(plane.shape):
            yield read(slice(y.start * scale, y.stop * scale), slice(x.start * scale, x.stop * scale))


def _saturated(pieces: Iterator[NDArray[Any]]) -> float:
    """Return the share of pixels at the largest value; below 1e-5 none, as one brightest pixel lies in several windows."""
    largest, count, total = -math.inf, 0, 0
    for piece in pieces:
        total += piece.size
        top = float(piece.max())
        if top >= largest:
            count = int((piece == top).sum()) + (count if top == largest else 0)
            largest = top
    return float(f"{count / total:.3g}") if count / total >= 1e-5 else 0.0


def _known(value: float) -> float | None:
    return None if math.isnan(value) else _short(value)


def _short(value: float) -> float:
    return round(value, DIGITS)
