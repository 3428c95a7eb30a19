"""Where the fields of a mosaic lie: from the places that the stage tells, by what neighbours show where they overlap.

All overlaps of one plane are measured (`mosaic_pairs`); multiview-stitcher's linear resolution finds the places that fit them best. An
overlap that fits no such places is left out and named. A field that shows nothing where it overlaps keeps the place that the stage
tells, with what the other fields say of the stage; one that shows something else than its neighbours is refused, for its position is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.fields import Fields
from cvdm_core.images.mosaic import Mosaic, PlacedField, covered_share
from cvdm_core.images.mosaic_findings import DIGITS, check_fit, overlap, remarks, residuals_of, rms, rounded, sentence
from cvdm_core.images.mosaic_pairs import LEAST_OVERLAP_PX, Measured, measure_pair, structure_share
from cvdm_core.images.mosaic_solution import groups, resolve, with_fallback
from cvdm_core.images.stage import Stage

STAGE_AXES = ("+x+y", "-x+y", "+x-y", "-x-y", "+y+x", "-y+x", "+y-x", "-y-x")
"""Along which axes of the image the stage's x and y run; "+x+y": to the right and down."""
NEIGHBOURS = 0.5  # of a field's edge that two share along one axis: corners do not count
SAME_PLACE = 0.05  # of a field's edge
TRIED_PAIRS = 6  # neighbours along each axis that are looked at for the stage's axes
CLEARLY = 0.7  # the second-best axes may be at most so good as the best
LARGEST_CANVAS = 200_000  # pixels along y and x
TRIED_FIELDS, TRIED_Z, WINDOW = 5, 5, 512
Points = NDArray[np.float64]
_Places = dict[tuple[int, int], tuple[float, float]]  # of the second field of a pair from the first [pixels]


@dataclass
class _Measuring:
    """Measures pairs of fields in one plane, each once."""

    fields: Fields
    plane: tuple[int, int]
    found: dict[tuple[int, int, float, float, bool], Measured] = field(default_factory=dict)

    def pair(self, one: int, other: int, expected: NDArray[np.float64], thorough: bool = True) -> Measured:
        key = (one, other, round(float(expected[0]), 3), round(float(expected[1]), 3), thorough)
        if key not in self.found:
            first, second = (partial(self.fields.read, self.fields.names[number], 0, *self.plane) for number in (one, other))
            self.found[key] = measure_pair(first, second, (float(expected[0]), float(expected[1])), self.shape, thorough)
            self.fields.keep((self.fields.names[one], self.fields.names[other]))
        return self.found[key]

    @property
    def shape(self) -> tuple[int, int]:
        return self.fields.header.shape[3:]


def arrange(fields: Fields, stages: Mapping[str, Stage], pixel_um: float, stage_axes: str = "") -> Mosaic:
    """Measure where the fields lie.

    Parameters
    ----------
    fields
        The open fields.
    stages
        Where the stage stood for each, (y, x) in its own axes [micrometres].
    pixel_um
        Pixel size [micrometres].
    stage_axes
        One of `STAGE_AXES`, as somebody stated it; empty: it is found by trying which of them lets neighbours match.

    Raises
    ------
    UserError
        If the positions cannot be true, the stage's axes cannot be told, a field overlaps no other, or fields do not match where they
        overlap.
    """
    stage_px = np.array([stages[name] for name in fields.names]) / pixel_um
    _check_apart(fields, stage_px)
    measuring = _Measuring(fields, _clearest_plane(fields))
    axes = stage_axes or _find_axes(measuring, stage_px)
    nominal = _on_canvas(stage_px, axes)
    pairs = _neighbours(nominal, measuring.shape)
    _check_layout(fields, nominal, pairs)
    measured = {pair: measuring.pair(*pair, nominal[pair[1]] - nominal[pair[0]]) for pair in pairs}
    shifts = {
        (one, other): np.array(found.displacement) - (nominal[other] - nominal[one])
        for (one, other), found in measured.items()
        if found.displacement is not None
    }
    moves, residuals, used = resolve(shifts, len(nominal))
    moved, hanging = with_fallback(moves, nominal)
    overlaps = tuple(
        overlap((fields.names[pair[0]], fields.names[pair[1]]), found, shifts.get(pair), residuals.get(pair), pair in used)
        for pair, found in measured.items()
    )
    check_fit(fields.path, overlaps, {fields.names[number] for number in hanging})
    places = nominal + moved
    # The canvas is laid under the fields so that they lose least by moving to whole pixels of it.
    turns = np.exp(2j * np.pi * places).mean(axis=0)
    corners = np.rint(places - np.angle(turns) / (2 * np.pi)).astype(int)
    corners -= corners.min(axis=0)
    rows, columns = (int(size) for size in corners.max(axis=0) + measuring.shape)
    placed = tuple(
        PlacedField(
            name=name,
            y=int(corners[number, 0]),
            x=int(corners[number, 1]),
            stage_um=stages[name],
            moved_px=rounded(moved[number]),
            placed_by="stage" if number in hanging else "overlap",
        )
        for number, name in enumerate(fields.names)
    )
    share = covered_share([(one.y, one.x) for one in placed], measuring.shape, (rows, columns))
    fitting = residuals_of(overlaps)
    return Mosaic(
        shape=(rows, columns),
        field_shape=measuring.shape,
        stage_axes=axes,
        stage_axes_source="stated" if stage_axes else "measured",
        plane=measuring.plane,
        rms_px=round(rms(fitting), DIGITS) if fitting else None,
        worst_px=max(fitting, default=None),
        covered=round(share, 6),
        sentence=sentence(overlaps, placed),
        remarks=remarks(overlaps, placed, share, fields.corrected),
        fields=placed,
        overlaps=overlaps,
    )


def _clearest_plane(fields: Fields) -> tuple[int, int]:
    """Return the channel and z in which some fields, spread over the mosaic, show most structure against noise in their middle."""
    _, channels, depth, rows, columns = fields.header.shape
    if channels * depth == 1:
        return 0, 0
    middle = tuple(slice(max(0, (size - WINDOW) // 2), max(0, (size - WINDOW) // 2) + min(WINDOW, size)) for size in (rows, columns))
    names = [fields.names[number] for number in _spread(len(fields.names), TRIED_FIELDS)]
    planes = [(c, z) for c in range(channels) for z in _spread(depth, TRIED_Z)]
    scores = dict.fromkeys(planes, 0.0)
    for name in names:
        for plane in planes:
            scores[plane] += structure_share(np.asarray(fields.read(name, 0, *plane, *middle), np.float32))
        fields.keep(())
    return max(planes, key=lambda plane: scores[plane])


def _spread(count: int, wanted: int) -> list[int]:
    """Return about `wanted` of the numbers below `count`, evenly."""
    return sorted({int((part + 0.5) * count / wanted) for part in range(wanted)}) if count else []


def _on_canvas(stage_px: Points, axes: str) -> Points:
    """Return stage positions (y, x) as places on the canvas (y, x)."""
    unit = {"x": np.array([0.0, 1.0]), "y": np.array([1.0, 0.0])}
    x_runs, y_runs = ((-1 if axes[at] == "-" else 1) * unit[axes[at + 1]] for at in (0, 2))
    places: Points = np.outer(stage_px[:, 0], y_runs) + np.outer(stage_px[:, 1], x_runs)
    return places


def _neighbours(places: Points, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pairs of fields that overlap along half of an edge at least."""
    apart = np.abs(places[:, None] - places[None, :])
    shared = np.array(shape) - apart
    beside = (shared.min(axis=2) >= LEAST_OVERLAP_PX) & ((shared / np.array(shape)).max(axis=2) >= NEIGHBOURS)
    return [(int(one), int(other)) for one, other in np.argwhere(np.triu(beside, 1))]


def _find_axes(measuring: _Measuring, stage_px: Points) -> str:
    """Return the axes with which neighbours match; those that give the same layout count as one.

    So do those with which neighbours are found at the same places: of fields in a row, the stage's play across it tells nothing.
    """
    scores: dict[str, float] = {}
    found: dict[str, _Places] = {}
    layouts: list[Points] = []
    for axes in STAGE_AXES:
        places = _on_canvas(stage_px, axes)
        places -= places.min(axis=0)
        if any(np.abs(places - other).max() < 1 for other in layouts):
            continue
        layouts.append(places)
        scores[axes], found[axes] = _match(measuring, places, stage_px)
    best, *others = sorted(scores, key=lambda axes: scores[axes], reverse=True)
    others = [axes for axes in others if not _same(found[axes], found[best])]
    if not scores[best] or (others and scores[others[0]] > CLEARLY * scores[best]):
        raise UserError(
            f"{measuring.fields.path}: how the stage's axes lie to the camera cannot be told, because neighbouring fields match in no way "
            f"better than in others (best: {best}); check the positions, or write into the column stage_axes along which axes of the image "
            f"the stage's x and y run: one of {', '.join(STAGE_AXES)}."
        )
    return best


def _same(some: _Places, others: _Places) -> bool:
    """Whether the same pairs were found, at the same places."""
    return some.keys() == others.keys() and all(np.abs(np.subtract(place, others[pair])).max() < 1 for pair, place in some.items())


def _match(measuring: _Measuring, places: Points, stage_px: Points) -> tuple[float, _Places]:
    """Return how well neighbours match, and where they were found.

    Of those along the stage's x and those along its y the worse counts: one axis may be right alone.
    """
    pairs = _neighbours(places, measuring.shape)
    scores: list[float] = []
    where: _Places = {}
    for axis in (0, 1):
        along = [pair for pair in pairs if int(np.abs(stage_px[pair[1]] - stage_px[pair[0]]).argmax()) == axis]
        chosen = [along[number] for number in _spread(len(along), TRIED_PAIRS)]
        found = {pair: measuring.pair(*pair, places[pair[1]] - places[pair[0]], thorough=False) for pair in chosen}
        if found:
            scores.append(sum(one.correlation for one in found.values() if one.state == "measured") / len(found))
            where |= {pair: one.displacement for pair, one in found.items() if one.displacement is not None}
    return min(scores, default=0.0), where


def _check_apart(fields: Fields, stage_px: Points) -> None:
    least = SAME_PLACE * min(fields.header.shape[3:])
    for one, other in combinations(range(len(stage_px)), 2):
        if np.abs(stage_px[one] - stage_px[other]).max() < least:
            raise UserError(
                f"{fields.path}: the fields {fields.names[one]!r} and {fields.names[other]!r} lie at the same place by their stage "
                "positions, so these are no fields of a mosaic; or give the right positions in the column positions."
            )


def _check_layout(fields: Fields, nominal: Points, pairs: Iterable[tuple[int, int]]) -> None:
    shape = np.array(fields.header.shape[3:])
    together = groups(len(nominal), pairs)
    if len(together) > 1:
        alone = min(together, key=len)
        named = ", ".join(repr(fields.names[number]) for number in sorted(alone)[:3]) + (", ..." if len(alone) > 3 else "")
        far = min(float(np.abs(nominal[a] - nominal[b]).max()) for a in alone for group in together if group is not alone for b in group)
        raise UserError(
            f"{fields.path}: by their stage positions, the fields {named} overlap none of the others (the nearest lies {far:.0f} pixels "
            f"away, and a field is {shape[0]} x {shape[1]}); correct the positions or the pixel size, or register them for themselves."
        )
    if (extent := float(np.ptp(nominal, axis=0).max())) > LARGEST_CANVAS:
        raise UserError(f"{fields.path}: the mosaic would be {extent:.0f} pixels long, more than {LARGEST_CANVAS}; check the positions.")
