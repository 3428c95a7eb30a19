"""Which images a TIFF holds: its series and, in sets of Micro-Manager and others, every position of a series.

An image belongs to the file that holds its first plane, so that each file of a set answers for its own images only. Thumbnails and
the levels of a pyramid are no images. The images of a file are numbered from 0: the column `series` of the sheet holds that number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvdm_core.errors import UserError
from cvdm_core.images.micromanager import summary_of

_POSITIONS = "RMJK"  # tifffile's letters for region or position, mosaic, column and row; in LSM files also P
_WORDS = {"R": "position", "P": "position", "M": "mosaic", "J": "column", "K": "row"}


class PartOfSet(UserError):
    """A file holds no image of its own, but planes of the one that begins in the file `first`."""

    def __init__(self, path: Path, first: Path) -> None:
        super().__init__(f"{path}: its planes continue the image that begins in {first.name}; register that file instead.")
        self.first = first


@dataclass(frozen=True)
class FileImage:
    """One image of a file.

    Attributes
    ----------
    name : what the file calls it; empty if nothing.
    series : what tifffile found.
    fixed : index along each of the axes that tell positions apart, by number of the axis.
    """

    name: str
    series: Any
    fixed: dict[int, int]

    @property
    def places(self) -> dict[str, int]:
        """Index along each of the axes that tell positions apart, by tifffile's letter of the axis."""
        axes = str(self.series.get_axes(False))
        return {axes[number]: index for number, index in self.fixed.items()}

    @property
    def position(self) -> int | None:
        """Number in the microscope's list of positions, where the file has one axis for them."""
        return self.places["R"] if set(self.places) == {"R"} else None

    @property
    def kind(self) -> tuple[int, int, str]:
        """Rows, columns and data type: images that agree in them are fields or positions of one experiment."""
        key = self.series.keyframe
        return int(key.imagelength), int(key.imagewidth), str(key.dtype)


def images_of(path: Path, source: tifffile.TiffFile, of_set: bool = False) -> list[FileImage]:
    """Return the images that begin in an open file, or all of its set; a position without a single plane is none.

    Raises
    ------
    UserError
        If there is none, or the index of a set cannot be true. `PartOfSet` if the first image begins in another file of the set and
        none, or all of the set, is asked for in this one.
    """
    summary = summary_of(path, source)
    images: list[FileImage] = []
    elsewhere: set[Path] = set()
    for series in source.series:
        if series.keyframe.is_reduced:
            continue
        axes, sizes = str(series.get_axes(False)), [int(size) for size in series.get_shape(False)]
        letters = _POSITIONS + ("P" if series.kind == "lsm" else "")
        outer = max(axes.find("YX"), 0)
        apart = [number for number, axis in enumerate(axes[:outer]) if axis in letters and sizes[number] > 1]
        for place in np.ndindex(*(sizes[number] for number in apart)):
            fixed = dict(zip(apart, map(int, place), strict=True))
            first = _first_page(series, sizes[:outer], fixed)
            if first is not None and (first.parent is source or (of_set and images)):
                places = {axes[number]: index for number, index in fixed.items()}
                images.append(FileImage(_position_name(summary, places) if fixed else str(series.name or ""), series, fixed))
            elif first is not None:
                elsewhere.add(Path(first.parent.filehandle.path))
    if elsewhere and (of_set or not images):
        raise PartOfSet(path, min(elsewhere))
    if not images:
        raise UserError(f"{path}: it holds no image but thumbnails; give the file that the microscope wrote.")
    return images


def _first_page(series: Any, outer: list[int], fixed: dict[int, int]) -> Any:
    """Return the first page that an image has, or None."""
    pages = series._pages
    if len(pages) != math.prod(outer):  # all in one piece, or several planes a page
        return series.keyframe
    grid = np.arange(len(pages)).reshape(outer)[tuple(fixed.get(number, slice(None)) for number in range(len(outer)))]
    return next((page for number in grid.ravel().tolist() if is_stored(page := pages[number])), None)


def is_stored(page: Any) -> bool:
    """Whether a page of a series is there: tifffile puts None, or a frame at byte 0, where a plane is missing.

    Tiles may be left out on purpose (sparse files), and then even all of a page.
    """
    return page is not None and (page.keyframe.is_tiled or any(page.dataoffsets))


def _position_name(summary: dict[str, Any], places: dict[str, int]) -> str:
    """Return what Micro-Manager calls a position, or the place that its numbers tell."""
    positions = summary.get("StagePositions") or summary.get("InitialPositionList")
    if set(places) == {"R"} and isinstance(positions, list) and places["R"] < len(positions):
        label = positions[places["R"]]
        if isinstance(label, dict) and (name := label.get("Label") or label.get("label")):
            return str(name)
    return ", ".join(f"{_WORDS[axis]} {index}" for axis, index in places.items())
