"""Where the pixels of (t, c, z, y, x) lie in a TIFF: pure arithmetic on what `tifffile` found, checked against the file's size.

Every dialect is brought to one picture: a row of pages, each holding (separate samples, depth, rows, columns, interleaved
samples), or, where the pixels lie in one piece, just the byte at which they begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from cvdm_core.errors import UserError
from cvdm_core.images.tiff_source import COPY_AGAIN

Role = Literal["t", "c", "z"]
_ROLES: dict[str, Role] = {"T": "t", "C": "c", "S": "c", "Z": "z"}
_UNDECLARED = "IQ"  # a sequence of pages that nothing describes
# The best that a codec can do; a file that promises more is damaged. Codes are those of the TIFF tag Compression.
_LARGEST_RATIO = {5: 4_096, 8: 1_100, 32946: 1_100, 32773: 128}
_LARGEST_RATIO_OF_OTHERS = 100_000


@dataclass(frozen=True)
class Layout:
    """How the planes of one image are stored."""

    shape: tuple[int, int, int, int, int]
    axes: str
    undeclared: bool
    pages: tuple[Any, ...]
    contiguous_at: int | None
    outer: tuple[tuple[Role, int], ...]
    inner: tuple[tuple[Role, int], ...]

    def locate(self, t: int, c: int, z: int) -> tuple[int, int]:
        """Return the number of the plane in the order of the file, and the number of the interleaved sample in it."""
        digits: dict[Role, list[int]] = {}
        indices: tuple[tuple[Role, int], ...] = (("t", t), ("c", c), ("z", z))
        for role, index in indices:
            sizes = [size for axis, size in (*self.outer, *self.inner) if axis == role]
            digits[role] = [int(digit) for digit in np.unravel_index(index, sizes)] if sizes else []
        plane = 0
        for role, size in self.outer:
            plane = plane * size + digits[role].pop(0)
        sample = 0
        for role, size in self.inner:
            sample = sample * size + digits[role].pop(0)
        return plane, sample


def layout_of(path: Path, source: tifffile.TiffFile, pages_are: Literal["t", "z"]) -> Layout:
    """Return the layout of the main image of an open file.

    Raises
    ------
    UserError
        If axes have no place in (T, C, Z, Y, X), or planes or bytes that are declared are not there.
    """
    series = source.series[0]
    axes, sizes = str(series.get_axes(False)), [int(size) for size in series.get_shape(False)]
    found = "".join(axis for axis, size in zip(axes, sizes, strict=True) if size > 1 or axis in "YX")
    key = series.keyframe
    row = axes.find("YX")
    if row < 0 or sizes[row : row + 2] != [key.imagelength, key.imagewidth] or min(sizes) < 1:
        raise UserError(f"{path}: the image has the axes {axes} and the shape {tuple(sizes)}, which is no image of rows and columns.")
    undeclared = [axis for axis in found if axis in _UNDECLARED]
    roles = dict(_ROLES)
    if undeclared:
        role = pages_are if pages_are.upper() not in found else ("z" if pages_are == "t" else "t")
        if len(undeclared) > 1 or role.upper() in found:
            raise UserError(
                f"{path}: {len(undeclared)} of its dimensions {tuple(sizes)} have no name; save it as OME-TIFF with named axes."
            )
        roles[undeclared[0]] = role
    strange = [axis for axis in found if axis not in roles and axis not in "YX"]
    if strange:
        names = ", ".join(tifffile.TIFF.AXES_NAMES.get(axis, axis) for axis in strange)
        raise UserError(f"{path}: the file holds several images along {names}; save each as a file of its own.")
    pairs = [(roles.get(axis, "c"), size) for axis, size in zip(axes, sizes, strict=True)]
    outer, inner = tuple(pairs[:row]), tuple(pairs[row + 2 :])
    count = {role: math.prod(size for axis, size in (*outer, *inner) if axis == role) for role in ("t", "c", "z")}
    layout = Layout(
        shape=(count["t"], count["c"], count["z"], sizes[row], sizes[row + 1]),
        axes=found,
        undeclared=bool(undeclared),
        pages=tuple(series._pages),
        contiguous_at=series.dataoffset,
        outer=outer,
        inner=inner,
    )
    _check_dialect(path, source, layout)
    _check_planes(path, layout, key)
    _check_bytes(path, source, layout, key)
    return layout


def _check_dialect(path: Path, source: tifffile.TiffFile, layout: Layout) -> None:
    kind, planes = source.series[0].kind, math.prod(layout.shape[:3])
    if source.is_imagej and kind != "ome":
        metadata = source.imagej_metadata or {}
        declared = math.prod(int(metadata.get(name, 1)) for name in ("frames", "slices", "channels"))
        if declared > planes:
            raise UserError(f"{path}: the file is cut off: it declares {declared:,} planes and holds {planes:,}; {COPY_AGAIN}.")
    if source.is_ome and kind != "ome" and planes > 1:
        raise UserError(f"{path}: its OME-XML does not describe its {planes:,} planes; export it again from the microscope's software.")
    if source.series[0].is_multifile:
        raise UserError(f"{path}: the image is spread over several files; export it as one file.")


def _check_planes(path: Path, layout: Layout, key: Any) -> None:
    if layout.contiguous_at is not None:
        return
    separate, depth = key.shaped[0], key.shaped[1]
    planes = math.prod(size for _, size in layout.outer)
    if len(layout.pages) * separate * depth != planes:
        raise UserError(
            f"{path}: the file is cut off: it declares {planes:,} planes and holds {len(layout.pages) * separate * depth:,}; {COPY_AGAIN}."
        )
    missing = [number for number, page in enumerate(layout.pages) if page is None]
    if missing:
        raise UserError(
            f"{path}: {len(missing):,} of its {len(layout.pages):,} pages are missing (first: page {missing[0]}); export it again."
        )


def _check_bytes(path: Path, source: tifffile.TiffFile, layout: Layout, key: Any) -> None:
    """Compare declared with actual sizes before anything is allocated."""
    size = path.stat().st_size
    if key.dtype is None:
        raise UserError(
            f"{path}: its pixels have no usable data type ({key.bitspersample} bits, sample format {key.sampleformat}); save it as 16 bit."
        )
    if layout.contiguous_at is not None:
        end = layout.contiguous_at + math.prod(layout.shape) * key.dtype.itemsize
        if end > size:
            raise UserError(f"{path}: the file is cut off: its pixels end at byte {end:,} and the file at {size:,}; {COPY_AGAIN}.")
        return
    declared = math.prod(key.shaped) * max(1, key.bitspersample) // 8
    ratio = 1 if key.compression == 1 else _LARGEST_RATIO.get(int(key.compression), _LARGEST_RATIO_OF_OTHERS)
    for number, page in enumerate(layout.pages):
        stored = 0
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + length > size:
                raise UserError(
                    f"{path}: the file is cut off: page {number} ends at byte {offset + length:,} and the file at {size:,}; {COPY_AGAIN}."
                )
            stored += length
        if not stored and not key.is_tiled:  # tiles may be left out on purpose (sparse files), a whole page may not
            raise UserError(f"{path}: page {number} holds no pixels; {COPY_AGAIN}.")
        if declared > stored * ratio and not (key.is_tiled and key.compression != 1 and not stored):
            raise UserError(
                f"{path}: page {number} declares {declared:,} bytes of pixels and {stored:,} are stored; the file is damaged, {COPY_AGAIN}."
            )
