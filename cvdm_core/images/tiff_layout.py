"""Where the pixels of (t, c, z, y, x) lie in a TIFF: pure arithmetic on what `tifffile` found, checked against the file's size.

Every dialect is brought to one picture: a row of pages, each holding (separate samples, depth, rows, columns, interleaved
samples), or, where the pixels lie in one piece, just the byte at which they begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import tifffile

from cvdm_core.errors import COPY_AGAIN, DamagedInputError, UserError
from cvdm_core.images.tiff_images import FileImage, is_stored

Role = Literal["t", "c", "z", "position"]
_ROLES: dict[str, Role] = {"T": "t", "C": "c", "S": "c", "E": "c", "Z": "z"}  # E: the bands of a spectral scan
# A compressed strip or tile is decoded whole; decoding one of 370 MiB was measured to need 0.9 GB.
LARGEST_SEGMENT = 400 * 2**20
_NAMED = 3  # so many of the missing planes stand in a sentence
_UNDECLARED = "IQ"  # a sequence of pages that nothing describes
# The best that a codec can do; a file that promises more is damaged. Codes are those of the TIFF tag Compression.
_LARGEST_RATIO = {5: 4_096, 8: 1_100, 32946: 1_100, 32773: 128}
_LARGEST_RATIO_OF_OTHERS = 100_000


@dataclass(frozen=True)
class Layout:
    """How the planes of one image are stored.

    `place` is its index along the axes of the role "position"; `used` holds the page of every plane, in the order (t, c, z).
    """

    shape: tuple[int, int, int, int, int]
    axes: str
    undeclared: bool
    pages: tuple[Any, ...]
    contiguous_at: int | None
    outer: tuple[tuple[Role, int], ...]
    inner: tuple[tuple[Role, int], ...]
    place: tuple[int, ...]
    used: tuple[int, ...] = ()

    def locate(self, t: int, c: int, z: int) -> tuple[int, int]:
        """Return the number of the plane in the order of the file, and the number of the interleaved sample in it."""
        left: dict[Role, int] = {"t": t, "c": c, "z": z}
        place = list(self.place)

        def number(axes: tuple[tuple[Role, int], ...]) -> int:
            total, stride = 0, 1
            for role, size in reversed(axes):  # the last axis of a role holds its lowest digit
                if role == "position":
                    digit = place.pop()
                else:
                    left[role], digit = divmod(left[role], size)
                total += digit * stride
                stride *= size
            return total

        sample = number(self.inner)
        return number(self.outer), sample

    def first_page(self, key: Any) -> Any:
        """Return the page of the first plane, where every plane has one, and the page `key` otherwise."""
        number = self.locate(0, 0, 0)[0] // (key.shaped[0] * key.shaped[1])
        page = self.pages[number] if number < len(self.pages) else None
        return key if page is None else page


def layout_of(path: Path, source: tifffile.TiffFile, image: FileImage, pages_are: Literal["t", "z"]) -> Layout:
    """Return the layout of one image of an open file.

    Raises
    ------
    UserError
        If axes have no place in (T, C, Z, Y, X), or planes or bytes that are declared are not there.
    """
    series = image.series
    axes, sizes = str(series.get_axes(False)), [int(size) for size in series.get_shape(False)]
    found = "".join(
        axis
        for number, (axis, size) in enumerate(zip(axes, sizes, strict=True))
        if number not in image.fixed and (size > 1 or axis in "YX")
    )
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
    pairs: list[tuple[Role, int]] = [
        ("position" if number in image.fixed else roles.get(axis, "c"), size)
        for number, (axis, size) in enumerate(zip(axes, sizes, strict=True))
    ]
    outer, inner = tuple(pairs[:row]), tuple(pairs[row + 2 :])
    count = {role: math.prod(size for axis, size in (*outer, *inner) if axis == role) for role in ("t", "c", "z")}
    layout = Layout(
        shape=(count["t"], count["c"], count["z"], sizes[row], sizes[row + 1]),
        axes=found,
        undeclared=bool(undeclared),
        pages=tuple(series._pages),
        contiguous_at=series.dataoffset if all(page is None or page.parent is key.parent for page in series._pages) else None,
        outer=outer,
        inner=inner,
        place=tuple(image.fixed.values()),
    )
    layers = key.shaped[0] * key.shaped[1]
    pieces = product(*map(range, layout.shape[:3])) if layout.contiguous_at is None else ()
    layout = replace(layout, used=tuple(layout.locate(*place)[0] // layers for place in pieces))
    _check_dialect(path, source, series, layout)
    _check_planes(f"{path} ({image.name})" if image.fixed else f"{path}", layout, key)
    _check_bytes(path, layout, key)
    return layout


def files_of(layout: Layout, key: Any) -> set[Path]:
    """Return the files that hold planes of the image; all of a set lie in one folder."""
    pages = [layout.pages[number] for number in set(layout.used)] or [key]
    return {Path(path) for path in {page.parent.filehandle.path for page in pages}}


def _check_dialect(path: Path, source: tifffile.TiffFile, series: Any, layout: Layout) -> None:
    planes = math.prod(layout.shape[:3])
    if source.is_imagej and series.kind != "ome":
        metadata = source.imagej_metadata or {}
        declared = math.prod(int(metadata.get(name, 1)) for name in ("frames", "slices", "channels"))
        if declared > planes:
            raise DamagedInputError(f"{path}: the file is cut off: it declares {declared:,} planes and holds {planes:,}; {COPY_AGAIN}.")
    if source.is_ome and series.kind not in ("ome", "mmstack") and planes > 1:
        raise UserError(f"{path}: its OME-XML does not describe its {planes:,} planes; export it again from the microscope's software.")


def _check_planes(path: str, layout: Layout, key: Any) -> None:
    """Check that every plane is there and like the others."""
    if layout.contiguous_at is not None:
        return
    layers = key.shaped[0] * key.shaped[1]
    planes = math.prod(size for _, size in layout.outer)
    if len(layout.pages) * layers != planes:
        raise DamagedInputError(
            f"{path}: the file is cut off: it declares {planes:,} planes and holds {len(layout.pages) * layers:,}; {COPY_AGAIN}."
        )
    places = product(*map(range, layout.shape[:3]))
    missing = [place for place, number in zip(places, layout.used, strict=True) if not is_stored(layout.pages[number])]
    if missing:
        named = "; ".join(f"t {t}, c {c}, z {z}" for t, c, z in missing[:_NAMED]) + ("; ..." if len(missing) > _NAMED else "")
        raise DamagedInputError(
            f"{path}: {len(missing):,} of its {len(layout.used):,} planes are missing (counted from 0: {named}); "
            "copy the whole set again, or export it complete."
        )


def _check_bytes(path: Path, layout: Layout, key: Any) -> None:
    """Compare declared with actual sizes before anything is allocated."""
    if key.dtype is None:
        raise UserError(
            f"{path}: its pixels have no usable data type ({key.bitspersample} bits, sample format {key.sampleformat}); save it as 16 bit."
        )
    if layout.contiguous_at is not None:
        size = path.stat().st_size
        pixels = math.prod(count for _, count in (*layout.outer, *layout.inner)) * math.prod(layout.shape[3:])
        end = layout.contiguous_at + pixels * key.dtype.itemsize
        if end > size:
            raise DamagedInputError(f"{path}: the file is cut off: its pixels end at byte {end:,} and the file at {size:,}; {COPY_AGAIN}.")
        return
    sizes: dict[str, int] = {}
    for number in sorted(set(layout.used)):
        page = layout.pages[number]
        file = str(page.parent.filehandle.path)
        if file not in sizes:
            sizes[file] = Path(file).stat().st_size
        _check_page(Path(file), number, page, key, sizes[file])


def _check_page(file: Path, number: int, page: Any, key: Any, size: int) -> None:
    own = page.keyframe
    if own.shaped != key.shaped or own.dtype != key.dtype:
        raise UserError(
            f"{file}: page {number} is {own.shaped} {own.dtype} and the first {key.shaped} {key.dtype}; the planes of an image must agree."
        )
    declared = math.prod(own.shaped) * max(1, own.bitspersample) // 8
    ratio = 1 if own.compression == 1 else _LARGEST_RATIO.get(int(own.compression), _LARGEST_RATIO_OF_OTHERS)
    stored = 0
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset + length > size:
            raise DamagedInputError(
                f"{file}: the file is cut off: page {number} ends at byte {offset + length:,} and the file at {size:,}; {COPY_AGAIN}."
            )
        stored += length
    if not stored and not own.is_tiled:  # tiles may be left out on purpose (sparse files), a whole page may not
        raise DamagedInputError(f"{file}: page {number} holds no pixels; {COPY_AGAIN}.")
    if declared > stored * ratio and not (own.is_tiled and own.compression != 1 and not stored):
        raise DamagedInputError(
            f"{file}: page {number} declares {declared:,} bytes of pixels and {stored:,} are stored; the file is damaged, {COPY_AGAIN}."
        )
    piece = _segment_bytes(own)
    if piece > LARGEST_SEGMENT:
        raise UserError(
            f"{file}: page {number} is stored in pieces of {piece:,} bytes, each read whole; save it in tiles or in strips of few rows."
        )


def _segment_bytes(key: Any) -> int:
    """Return the size of a decoded strip or tile."""
    strip = min(key.rowsperstrip, key.shaped[2]) * key.shaped[3]
    pixels = key.tilelength * key.tilewidth * key.tiledepth if key.is_tiled else strip
    return int(pixels) * int(key.shaped[4]) * int(key.dtype.itemsize)
