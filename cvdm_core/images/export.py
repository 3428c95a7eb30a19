"""A store as one file, for those who are given it: zipped OME-Zarr (.ozx) or a pyramidal OME-TIFF."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvdm_core.errors import UserError
from cvdm_core.files import replacing
from cvdm_core.images.layout import read_layout
from cvdm_core.images.ome_tiff import write_ome_tiff
from cvdm_core.images.omezarr_metadata import read_metadata
from cvdm_core.images.validation import images, validate
from cvdm_core.images.zipped import write_zip

TIFF_ENDINGS = (".tif", ".tiff")


def export(store: Path, out: Path, image: str = "", overwrite: bool = False) -> None:
    """Write a published store, or one image of it, as one file; pixels are the same bit for bit.

    Memory does not grow with the image. The file appears under its name when it is complete. Where integers stand for real numbers, a note
    on standard error says how they are to be read, since other programs do not know.

    Parameters
    ----------
    store
        An OME-Zarr store that cvdm has written.
    out
        File to write. `.ozx`: the store's files, unchanged, in a zip (OME-Zarr 0.5 only). `.ome.tif`, `.ome.tiff`, `.tif` or `.tiff`:
        a pyramidal OME-TIFF of one image.
    image
        Name of an image inside the store, for example "std". "" is the image at the root; in an `.ozx` the images inside come with it.
    overwrite
        Replace `out` if it is there.

    Raises
    ------
    UserError
        If the store is no sound one, has no such image, or is replaced meanwhile, or `out` is there, has another ending, or lies inside
        the store.
    """
    ending = out.suffix.lower()
    if ending not in (".ozx", *TIFF_ENDINGS):
        raise UserError(f"{out}: the ending must be .ozx (zipped OME-Zarr) or .ome.tif (OME-TIFF); choose another name.")
    if not store.is_dir():
        raise UserError(f"{store}: there is no such OME-Zarr store; check the path, or run the stage that makes it.")
    if out.resolve().is_relative_to(store.resolve()):
        raise UserError(f"{out}: this lies inside the store; choose a place outside of {store}.")
    if out.is_dir() or (out.exists() and not overwrite):
        raise UserError(f"{out}: this is there already; choose another name, or replace it with --overwrite.")
    before = _stamp(store)
    validate(store)
    if image not in (names := images(store)):
        raise UserError(f"{store}: there is no image {image!r} in it, only {', '.join(map(repr, names))}.")
    layout, linear = read_layout(store, image), read_metadata(store, image)[2].get("intensity_map")
    if ending == ".ozx" and layout.format != "0.5":
        raise UserError(f"{store}: an .ozx holds OME-Zarr 0.5, and this is {layout.format}; export it as .ome.tif instead.")
    with replacing(out) as partial, _unchanged(store, before):
        if ending == ".ozx":
            write_zip(store / image, partial)
        else:
            write_ome_tiff(store, image, partial)
    if linear:
        print(
            f"note: {out}: its integers stand for real numbers, which other programs do not compute by themselves: "
            f"value = stored * {linear['scale']:.8g} + {linear['offset']:.8g}.",
            file=sys.stderr,
        )


@contextmanager
def _unchanged(store: Path, before: tuple[int, int] | None) -> Iterator[None]:
    """Raise `UserError` where another store than `before` lies there after the body, whatever errors that made in it."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if _stamp(store) != before:
        raise UserError(f"{store}: it was replaced while it was exported, so nothing was written; run the same command again.") from failure
    if failure is not None:
        raise failure


def _stamp(store: Path) -> tuple[int, int] | None:
    """Return what changes when a store is replaced, as inode and time of its metadata; None where there is no store."""
    for name in ("zarr.json", ".zattrs"):
        with suppress(FileNotFoundError, NotADirectoryError):
            status = (store / name).stat()
            return status.st_ino, status.st_mtime_ns
    return None
