"""A mosaic: fields placed on one canvas, and the canvas read region by region as if it had been acquired as one image.

Every pixel is one that a field holds, untouched: fields are placed at whole pixels, and where several overlap, the one counts in which
the pixel lies furthest from the edge (a hard seam). A mean of overlapping fields would have less noise there than elsewhere, and
interpolated pixels correlated noise; a model that learned the noise of single exposures would take either for structure. Where no
field lies, pixels are 0, and the places of the fields, which the store keeps, tell that they were not acquired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cvdm_core.images.fields import Fields

ATTRIBUTE = "mosaic"  # within the attribute "cvdm"
State = Literal["measured", "empty", "disagrees"]
Point = tuple[float, float]


@dataclass(frozen=True)
class PlacedField:
    """One field on the canvas.

    Attributes
    ----------
    name : what the field is called.
    y, x : its first row and column on the canvas.
    stage_um : where the stage stood, (y, x) in its own axes [micrometres].
    moved_px : (y, x) by which its place differs from the one that the stage tells, before rounding to whole pixels.
    placed_by : "overlap" with other fields, or "stage" where no overlap could be measured.
    """

    name: str
    y: int
    x: int
    stage_um: Point
    moved_px: Point
    placed_by: Literal["overlap", "stage"]


@dataclass(frozen=True)
class Overlap:
    """What two neighbours say about where they lie.

    Attributes
    ----------
    first, second : names of the fields.
    state : "measured"; "empty", where not both show structure; "disagrees", where both do, and it does not match.
    correlation : of the two, smoothed, where they overlap best.
    shift_px : (y, x) by which the second lies off the place that the stage tells relative to the first; None where not measured.
    residual_px : distance of the measured from the final displacement; None where not measured.
    brightness : ratio of the second's mean intensity in the overlap to the first's; None where not measured.
    """

    first: str
    second: str
    state: State
    correlation: float
    shift_px: Point | None
    residual_px: float | None
    brightness: float | None


@dataclass(frozen=True)
class Mosaic:
    """Where every field of a mosaic lies, and how well that is known.

    Attributes
    ----------
    shape, field_shape : (Y, X) of the canvas and of each field.
    stage_axes : along which axes of the image the stage's x and y run, such as "+x+y", and whether that was "stated" or "measured".
    plane : channel and z, counted from 0, that was measured (at the first time point).
    rms_px, worst_px : residuals of the measured overlaps; None if there is none.
    covered : share of the canvas that was acquired.
    sentence : all this in one sentence.
    remarks : what a person should know besides.
    """

    shape: tuple[int, int]
    field_shape: tuple[int, int]
    stage_axes: str
    stage_axes_source: Literal["stated", "measured"]
    plane: tuple[int, int]
    rms_px: float | None
    worst_px: float | None
    covered: float
    sentence: str
    remarks: tuple[str, ...]
    fields: tuple[PlacedField, ...]
    overlaps: tuple[Overlap, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for the layout file, the receipt and the store."""
        return asdict(self)


def from_json(content: Mapping[str, Any]) -> Mosaic:
    """Return a mosaic from what `to_json` returned. Raises KeyError, TypeError or ValueError where it is none."""
    return Mosaic(
        **{
            **content,
            **{name: tuple(content[name]) for name in ("shape", "field_shape", "plane", "remarks")},
            "fields": tuple(
                PlacedField(**{**field, "stage_um": _point(field["stage_um"]), "moved_px": _point(field["moved_px"])})
                for field in content["fields"]
            ),
            "overlaps": tuple(
                Overlap(**{**pair, "shift_px": None if pair["shift_px"] is None else _point(pair["shift_px"])})
                for pair in content["overlaps"]
            ),
        }
    )


def _point(values: Sequence[float]) -> Point:
    y, x = values
    return y, x


class MosaicPlanes:
    """The canvas, read as if it had been acquired; see `acquired.Planes`. Memory is that of the region and of the fields below it."""

    def __init__(self, fields: Fields, mosaic: Mosaic, others: Sequence[Path] = ()) -> None:
        """Take the open fields, where they lie, and further files that the pixels depend on."""
        whole = fields.header
        self.header = replace(whole, shape=(*whole.shape[:3], *mosaic.shape), images=("",), further=())
        self.files = (*fields.files, *others)
        self.mosaic = mosaic
        self._fields = fields

    def check_complete(self) -> None:
        """Decode the last pixel of every field."""
        self._fields.check_complete()

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return a region of a plane of the canvas; `y` and `x` have bounds inside it and no step."""
        region = np.zeros((y.stop - y.start, x.stop - x.start), self.header.dtype)
        depth = np.zeros(region.shape, np.int32)
        below = [field for field in self.mosaic.fields if _meets(field, self.mosaic.field_shape, y, x)]
        for field in below:
            (rows, own_rows), (columns, own_columns) = (
                _shared(start, size, part) for start, size, part in zip((field.y, field.x), self.mosaic.field_shape, (y, x), strict=True)
            )
            inside = np.minimum(*np.ix_(_depth(own_rows, self.mosaic.field_shape[0]), _depth(own_columns, self.mosaic.field_shape[1])))
            wins = inside > depth[rows, columns]
            if wins.any():
                pixels = self._fields.read(field.name, t, c, z, own_rows, own_columns)
                np.copyto(region[rows, columns], pixels, where=wins)
                np.copyto(depth[rows, columns], inside, where=wins)
        self._fields.keep(field.name for field in below)
        return region


def covered(mosaic: Mapping[str, Any], y: slice, x: slice, scale: int = 1) -> NDArray[np.bool_]:
    """Return which pixels of a region of the canvas were acquired, (Y, X).

    Parameters
    ----------
    mosaic
        What a store says of its mosaic: `field_shape` and the first pixels of `fields`.
    y, x
        The region, on a grid that has `scale` pixels for each of the canvas along y and x.
    scale
        See above.
    """
    mask = np.zeros((y.stop - y.start, x.stop - x.start), bool)
    for field in mosaic["fields"]:
        rows, columns = (
            _shared(field[axis] * scale, size * scale, part)[0]
            for axis, size, part in zip("yx", mosaic["field_shape"], (y, x), strict=True)
        )
        mask[rows, columns] = True
    return mask


def covered_share(corners: Sequence[tuple[int, int]], field_shape: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return the share of a canvas that fields with these first pixels cover, exactly: on the grid of all their edges."""
    edges = [np.unique([at + end for at in (corner[axis] for corner in corners) for end in (0, field_shape[axis])]) for axis in (0, 1)]
    cells = np.zeros([len(edge) - 1 for edge in edges], bool)
    for corner in corners:
        cells[tuple(slice(*np.searchsorted(edges[axis], (corner[axis], corner[axis] + field_shape[axis]))) for axis in (0, 1))] = True
    areas = np.outer(np.diff(edges[0]), np.diff(edges[1]))
    return float(areas[cells].sum() / (shape[0] * shape[1]))


def _meets(field: PlacedField, shape: tuple[int, int], y: slice, x: slice) -> bool:
    return bool(field.y < y.stop and y.start < field.y + shape[0] and field.x < x.stop and x.start < field.x + shape[1])


def _shared(start: int, size: int, part: slice) -> tuple[slice, slice]:
    """Return where a field that begins at `start` lies within a part of the canvas, and that piece within the field."""
    first, stop = max(start, part.start), max(min(start + size, part.stop), max(start, part.start))
    return slice(first - part.start, stop - part.start), slice(first - start, stop - start)


def _depth(own: slice, size: int) -> NDArray[np.int32]:
    """Return how far inside a field its rows (or columns) lie: 1 at its edge."""
    at = np.arange(own.start, own.stop, dtype=np.int32)
    inside: NDArray[np.int32] = np.minimum(at + 1, size - at).astype(np.int32)
    return inside
