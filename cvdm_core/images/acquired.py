"""An acquisition's image as it was acquired, whatever it lies in: an image of a TIFF or of a set, or many TIFFs by a pattern."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.sequence import FIELD, is_pattern, open_sequence
from cvdm_core.images.tiff import open_planes
from cvdm_core.images.tiff_header import TiffHeader


class Planes(Protocol):
    """An open image, read region by region; see `tiff.TiffPlanes`."""

    header: TiffHeader
    files: tuple[Path, ...]

    def read(self, t: int, c: int, z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return one region of one plane."""

    def check_complete(self) -> None:
        """Decode the last pixel."""


@contextmanager
def open_acquired(path: str | Path, pages: Literal["t", "z"] = "t", series: int = 0) -> Iterator[Planes]:
    """Open a TIFF (see `tiff.open_planes`) or a pattern (see `sequence.open_sequence`)."""
    if not is_pattern(path):
        with open_planes(path, pages, series) as planes:
            yield planes
        return
    if FIELD in str(path):
        raise UserError(f"{path}: {FIELD} stands for the fields of a mosaic; write `mosaic` into the column series.")
    if series:
        raise UserError(f"{path}: a pattern holds one image, so the column series stays empty.")
    with open_sequence(path, pages) as sequence:
        yield sequence


def read_acquired(path: str | Path, pages: Literal["t", "z"] = "t") -> TiffHeader:
    """Return what is known of the image without decoding a pixel; errors as `open_acquired`."""
    with open_acquired(path, pages) as planes:
        return planes.header
