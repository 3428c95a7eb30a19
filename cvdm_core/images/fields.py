"""The fields of a mosaic: all images of one file or set, or files of one image each by a pattern with `{f}`.

Whatever they lie in, they have one size, data type and pixel size; one that has not is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.acquired import Planes, open_acquired
from cvdm_core.images.sequence import FIELD, fields_of_pattern, is_pattern
from cvdm_core.images.stage import Stage
from cvdm_core.images.tiff import TiffPlanes, open_every_image
from cvdm_core.images.tiff_header import TiffHeader

SAME_PIXEL_SIZE = 0.01  # relative difference of two pixel sizes that still count as equal
_Region = NDArray[Any]


@contextmanager
def open_fields(path: str | Path, pages: Literal["t", "z"] = "t") -> Iterator[Fields]:
    """Open the fields of a mosaic.

    Parameters
    ----------
    path
        A file that holds several images, or a pattern with `{f}` where the files of the fields differ (and `{t}`, `{z}`, `{c}` where
        those of one field do).
    pages
        What a sequence of pages is that a file does not describe.

    Raises
    ------
    UserError
        If there are fewer than two fields, one is damaged, or one is unlike the first.
    """
    with ExitStack() as opened:
        if is_pattern(path) and FIELD not in str(path):
            raise UserError(f"{path}: the pattern has no {FIELD} where the files of the fields differ; put it there.")
        if is_pattern(path):
            fields = Fields(path, {name: partial(open_acquired, file, pages) for name, file in fields_of_pattern(path).items()})
        else:
            every = opened.enter_context(open_every_image(path, pages))
            fields = Fields(path, {str(number): partial(_still_open, planes) for number, planes in enumerate(every)})
        opened.callback(fields.close)
        yield fields


@contextmanager
def _still_open(planes: TiffPlanes) -> Iterator[Planes]:
    """Give an image of an open file; afterwards it only lets go of what it holds."""
    try:
        yield planes
    finally:
        planes.close()


class Fields:
    """Open fields, read region by region. Only those that are being read hold memory and open files.

    Attributes
    ----------
    names : what the fields are called: numbers from 0, or what stands in the place of `{f}`.
    header : of the first field.
    stages : where the stage stood, by name; None where a file does not say it.
    files : every file that holds a plane, or says where planes lie.
    """

    def __init__(self, path: str | Path, openers: Mapping[str, Callable[[], AbstractContextManager[Planes]]]) -> None:
        """Open each field once and compare it with the first; use `open_fields`."""
        self._openers = openers
        self._open: dict[str, tuple[Planes, ExitStack]] = {}
        self._correct: Callable[[int, _Region, slice, slice], _Region] | None = None
        self.path = Path(path)
        self.names = tuple(openers)
        if len(self.names) < 2:
            raise UserError(f"{path}: it holds one image, and a mosaic has several fields; leave the column series empty.")
        self.stages: dict[str, Stage | None] = {}
        files: set[Path] = set()
        first: TiffHeader | None = None
        for name, opener in openers.items():
            with opener() as planes:
                first = first or planes.header
                self._compare(name, planes.header, first, FIELD in str(path))
                files |= set(planes.files)
                self.stages[name] = planes.header.metadata.stage_um
        assert first is not None
        self.header: TiffHeader = first
        self.files = tuple(sorted(files))

    def _compare(self, name: str, header: TiffHeader, first: TiffHeader, is_file: bool) -> None:
        what = f"{self.path}, field {name!r}"
        if is_file and header.further:
            raise UserError(f"{what}: its file holds {len(header.further) + 1} images, and the file of a field holds one; give it alone.")
        if (header.shape, header.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"{what}: it is {header.shape} (T, C, Z, Y, X) {header.dtype} and the field {self.names[0]!r} {first.shape} {first.dtype}; "
                "the fields of a mosaic are alike, so take it out, or register the fields one by one."
            )
        pair = header.pixel_size_um, first.pixel_size_um
        if None not in pair and not np.allclose(*pair, rtol=SAME_PIXEL_SIZE):  # type: ignore[arg-type]
            raise UserError(
                f"{what}: its pixel size is {pair[0]} um (y, x) and the first field's {pair[1]}; register the fields one by one."
            )

    def correct_with(self, correct: Callable[[int, _Region, slice, slice], _Region]) -> None:
        """Correct every region from now on: `correct(channel, pixels, y, x)` returns pixels of the same shape and data type."""
        self._correct = correct

    @property
    def corrected(self) -> bool:
        """Whether regions are corrected on reading."""
        return self._correct is not None

    def read(self, name: str, t: int, c: int, z: int, y: slice, x: slice) -> _Region:
        """Return a region of a plane of one field."""
        pixels = self._planes(name).read(t, c, z, y, x)
        return pixels if self._correct is None else self._correct(c, pixels, y, x)

    def check_complete(self) -> None:
        """Decode the last pixel of every field."""
        for name in self.names:
            self._planes(name).check_complete()
            self.keep(())

    def keep(self, names: Iterable[str]) -> None:
        """Let go of the memory and files of all fields but these."""
        for name in set(self._open) - set(names):
            self._open.pop(name)[1].close()

    def close(self) -> None:
        """Let go of everything."""
        self.keep(())

    def _planes(self, name: str) -> Planes:
        if name not in self._open:
            opened = ExitStack()
            self._open[name] = (opened.enter_context(self._openers[name]()), opened)
        return self._open[name][0]
