"""TIFF files of microscopes: their headers without a single pixel decoded, and regions of planes in bounded memory.

`read_header` is what registration asks; `open_planes` is what ingest reads through. Both bring every dialect (OME, ImageJ, LSM,
STK, Micro-Manager, BigTIFF, tiles, plain pages) to the axes (T, C, Z, Y, X), and raise nothing but `UserError`.
"""

from __future__ import annotations

import math
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from cvdm_core.errors import COPY_AGAIN, DamagedInputError, UserError
from cvdm_core.images.ome_set import companion_of
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.images.tiff_images import FileImage, images_of
from cvdm_core.images.tiff_layout import Layout, files_of, layout_of
from cvdm_core.images.tiff_metadata import metadata_of
from cvdm_core.images.tiff_source import open_tiff, sentences

CACHE_BYTES = 128 * 2**20  # decoded strips kept for the next region beside this one
BAND_BYTES = 8 * 2**20  # rows of an uncompressed plane up to here are read whole, and kept for the region beside: one read, not one a row
OPEN_FILES = 32  # of a set of files, kept open at the same time
LARGEST_AROUND = 2**20  # bytes of a file that are no pixels, to be compared with those of another file
_PLAIN = ("shaped", "generic", "uniform", "imagej")  # kinds of series that lie in one file
_JPEG = {6, 7, 33007, 34892}


def read_header(path: str | Path, pages: Literal["t", "z"] = "t", series: int = 0) -> TiffHeader:
    """Read shape, data type, calibration and channel names; no pixel is decoded.

    Parameters
    ----------
    path
        The file.
    pages
        What a sequence of pages is that the file does not describe: time points or z planes.
    series
        Number from 0 of the image that is meant, where several begin in the file.

    Raises
    ------
    UserError
        If the file is missing, empty, no TIFF, cut off, damaged, has no such image, lacks planes, or has axes without a place in
        (T, C, Z, Y, X).
    """
    with open_planes(path, pages, series) as planes:
        return planes.header


@contextmanager
def open_planes(path: str | Path, pages: Literal["t", "z"] = "t", series: int = 0) -> Iterator[TiffPlanes]:
    """Open a TIFF for reading regions of its planes; parameters and errors as `read_header`."""
    with _opened(Path(path)) as (source, ome_xml):
        with sentences(Path(path)):
            planes = TiffPlanes(Path(path), source, ome_xml, pages, images_of(Path(path), source), series)
        with closing(planes):
            yield planes


@contextmanager
def open_every_image(path: str | Path, pages: Literal["t", "z"] = "t") -> Iterator[list[TiffPlanes]]:
    """Open all images of a TIFF or of the set that begins in it, for reading regions; parameters and errors as `read_header`."""
    with _opened(Path(path)) as (source, ome_xml), ExitStack() as opened:
        with sentences(Path(path)):
            images = images_of(Path(path), source, of_set=True)
            every = [TiffPlanes(Path(path), source, ome_xml, pages, images, number) for number in range(len(images))]
        for planes in every:
            opened.enter_context(closing(planes))
        yield every


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, str | None]]:
    with sentences(path):
        source, ome_xml = open_tiff(path)
    with closing(source):
        yield source, ome_xml


class TiffPlanes:
    """An open TIFF, read region by region: only the strips or tiles that a region touches are read and decoded.

    Attributes
    ----------
    header : what the file says about the image.
    files : every file that holds a plane of it, or says where its planes lie.
    """

    def __init__(
        self,
        path: Path,
        source: tifffile.TiffFile,
        ome_xml: str | None,
        pages: Literal["t", "z"],
        images: list[FileImage],
        series: int,
    ) -> None:
        """Work out where the pixels lie; use `open_planes`, which owns `source` and closes this."""
        if not 0 <= series < len(images):
            raise UserError(f"{path}: it holds {len(images)} images, so `series` is a number from 0 to {len(images) - 1}, not {series}.")
        image = images[series]
        self._path = path
        self._layout: Layout = layout_of(path, source, image, pages)
        self._descriptors: OrderedDict[str, int] = OrderedDict()
        self._key: Any = image.series.keyframe
        self._contiguous_file = str(self._key.parent.filehandle.path)
        self._around: tuple[int, bytes, bytes] | None = None
        self._plain = image.series.kind in _PLAIN and len(images) == 1
        self._cache: OrderedDict[tuple[int, int], NDArray[Any] | None] = OrderedDict()
        self._cached_bytes = 0
        self._band: tuple[int, int, bytes] | None = None  # first byte, length and content of the rows that were read last
        names = {file.name for file in files_of(self._layout, self._key)}
        names |= {"NDTiff.index"} if image.series.kind == "ndtiff" else set(companion_of(source) if image.series.kind == "ome" else ())
        self.files = tuple(sorted({path, *(path.with_name(name) for name in names)}))
        self.header = TiffHeader(
            shape=self._layout.shape,
            axes=self._layout.axes,
            undeclared=self._layout.undeclared,
            dtype=np.dtype(self._key.dtype).newbyteorder("="),
            metadata=metadata_of(source, image, self._layout, self._layout.first_page(self._key)),
            images=tuple(other.name for other in images),
            further=tuple(number for number, other in enumerate(images) if number != series and other.kind == image.kind),
            ome_xml=ome_xml,
            by_rows=self._layout.contiguous_at is None and not self._key.is_tiled,
        )

    def close(self) -> None:
        """Close what was opened for reading and forget decoded pixels; reading again opens it again."""
        self._cache.clear()
        self._cached_bytes = 0
        self._band = None
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def has_twin(self, path: Path) -> bool:
        """Whether another file differs from this one in nothing but the values of its pixels.

        All other bytes are compared, so that everything but the pixels was read already when this file was. Only files that hold one
        uncompressed image, and nothing that depends on files beside them, have twins.
        """
        if not self._plain or self._layout.contiguous_at is None or self.files != (self._path,):
            return False
        start = self._layout.contiguous_at
        end = start + math.prod(self.header.shape) * self._key.dtype.itemsize
        if self._around is None:
            self._around = _around(self._path, start, end)
        return self._around is not None and _around(path, start, end) == self._around

    def twin(self, path: Path) -> TiffPlanes:
        """Return the planes of another file of which `has_twin` holds; it is opened when a region is read."""
        twin = copy(self)
        twin._descriptors, twin._cache, twin._cached_bytes, twin._band = OrderedDict(), OrderedDict(), 0, None
        twin._path, twin._contiguous_file, twin.files = path, str(path), (path,)
        return twin

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return one region of one plane, (rows, columns), in the file's data type and native byte order.

        `y` and `x` have whole-number bounds inside the plane and no step. Memory is that of the rows read, or of the strips or
        tiles of which a part is read: these are kept for the region beside, up to `CACHE_BYTES`.

        Raises
        ------
        UserError
            If the stored pixels cannot be decoded.
        """
        rows, columns = range(*y.indices(self.header.shape[3])), range(*x.indices(self.header.shape[4]))
        plane, sample = self._layout.locate(t, c, z)
        with sentences(self._path):
            if self._layout.contiguous_at is not None:
                return self._read_rows(plane, sample, rows, columns)
            return self._read_segments(plane, sample, rows, columns)

    def check_complete(self) -> None:
        """Decode the last pixel of the image: a file whose end is readable was written to its end.

        Raises
        ------
        UserError
            If it cannot be decoded.
        """
        t, c, z, y, x = (size - 1 for size in self.header.shape)
        self.read(t, c, z, slice(y, y + 1), slice(x, x + 1))

    def _pread(self, file: str, length: int, offset: int) -> bytes:
        if file not in self._descriptors:
            self._descriptors[file] = os.open(file, os.O_RDONLY)
            if len(self._descriptors) > OPEN_FILES:
                os.close(self._descriptors.popitem(last=False)[1])
        data = os.pread(self._descriptors[file], length, offset)
        if len(data) != length:
            raise DamagedInputError(f"{file}: the file is cut off: {length:,} bytes at byte {offset:,} are not there; {COPY_AGAIN}.")
        return data

    def _read_rows(self, plane: int, sample: int, rows: range, columns: range) -> NDArray[Any]:
        _, _, length, width, samples = self._key.shaped
        dtype = np.dtype(self._key.dtype).newbyteorder(self._key.parent.byteorder)
        file, pixel = self._contiguous_file, samples * dtype.itemsize
        start = (self._layout.contiguous_at or 0) + (plane * length + rows.start) * width * pixel
        whole = len(rows) * width * pixel
        if len(columns) < width and whole > BAND_BYTES:  # other columns stay unread: of a wide plane, a shard is a small part of its rows
            firsts = range(start + columns.start * pixel, start + whole, width * pixel)
            data = b"".join([self._pread(file, len(columns) * pixel, first) for first in firsts])
            region = np.frombuffer(data, dtype).reshape(len(rows), len(columns), samples)
        else:
            data = self._band[2] if self._band and self._band[:2] == (start, whole) else self._pread(file, whole, start)
            self._band = (start, whole, data) if columns.stop < width else None
            region = np.frombuffer(data, dtype).reshape(len(rows), width, samples)[:, columns.start : columns.stop]
        return np.ascontiguousarray(region[..., sample], dtype=self.header.dtype)

    def _read_segments(self, plane: int, sample: int, rows: range, columns: range) -> NDArray[Any]:
        separate, depth, length, width, samples = self._key.shaped
        number, rest = divmod(plane, separate * depth)
        key = self._layout.pages[number].keyframe  # each file of a set has tiles of its own
        group, level = divmod(rest, depth)
        if key.is_tiled:
            high, wide, deep = key.tilelength, key.tilewidth, key.tiledepth
        else:
            high, wide, deep = min(key.rowsperstrip, length), width, 1
        down, across, layers = -(-length // high), -(-width // wide), -(-depth // deep)
        region = np.empty((len(rows), len(columns)), self.header.dtype)
        for i in range(rows.start // high, -(-rows.stop // high)):
            for j in range(columns.start // wide, -(-columns.stop // wide)):
                top, left = max(rows.start, i * high), max(columns.start, j * wide)
                bottom, right = min(rows.stop, (i + 1) * high), min(columns.stop, (j + 1) * wide)
                inside = (bottom - top, right - left) == (min(high, length - i * high), min(wide, width - j * wide))
                spent = inside and deep == 1 and samples == 1  # no other region holds a pixel of it
                segment = self._segment(number, ((group * layers + level // deep) * down + i) * across + j, keep=not spent)
                region[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = (
                    key.nodata  # a tile left out on purpose: the file says which value stands there
                    if segment is None
                    else segment[level % deep, top - i * high : bottom - i * high, left - j * wide : right - j * wide, sample]
                )
        return region

    def _segment(self, number: int, index: int, keep: bool) -> NDArray[Any] | None:
        """Return a decoded strip or tile, (depth, rows, columns, samples), from the cache or the file; keep it for the next region."""
        if (number, index) in self._cache:
            self._cache.move_to_end((number, index))
            return self._cache[number, index]
        page = self._layout.pages[number]
        key = page.keyframe
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        options = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if key.compression in _JPEG else {}
        data = self._pread(str(page.parent.filehandle.path), length, offset) if offset and length else None
        segment: NDArray[Any] | None = key.decode(data, index, **options)[0]
        if not keep:
            return segment
        self._cache[number, index] = segment
        self._cached_bytes += 0 if segment is None else segment.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            old = self._cache.popitem(last=False)[1]
            self._cached_bytes -= 0 if old is None else old.nbytes
        return segment


def _around(path: Path, start: int, end: int) -> tuple[int, bytes, bytes] | None:
    """Return the size of a file and its bytes before `start` and from `end` on; None where they are many or cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not 0 <= status.st_size - (end - start) <= LARGEST_AROUND or end > status.st_size:
            return None
        with open(path, "rb", buffering=0) as stream:
            head, tail = os.pread(stream.fileno(), start, 0), os.pread(stream.fileno(), status.st_size - end, end)
    except OSError:
        return None
    return status.st_size, head, tail
