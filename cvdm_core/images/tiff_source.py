"""Open a TIFF behind one boundary: whatever a damaged file makes the decoders raise leaves here as one sentence.

`tifffile` trusts its input, so the cheap structural truths (is it a TIFF, does the chain of pages end, does the OME-XML declare
more planes than there are pages) are checked here with a few reads, before `tifffile` builds lists from declared numbers.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import tifffile

from cvdm_core.errors import COPY_AGAIN, DamagedInputError, UserError
from cvdm_core.images import ome_set
from cvdm_core.images.micromanager import check_header

# tifffile logs what it repairs or gives up on; here every such case is checked and becomes a sentence of its own.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
# Bytes of each TIFF type, and the tags without which pixels or axes are lost: ImageDescription, offsets and byte counts of strips and
# tiles, and the blocks of MetaMorph, LSM, ImageJ and Micro-Manager.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_TAGS = 4096  # of a page: more is no page, for tifffile too
_NEEDED_TAGS = {270, 273, 279, 324, 325, 33628, 33629, 33630, 33631, 34412, 50838, 50839, 51123}


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Turn every exception of reading `path` into a `UserError` that names the file, what is wrong and what to do.

    This is the one place that catches broadly: on damaged files the decoders raise IndexError, TypeError, ZeroDivisionError,
    MemoryError, struct.error and errors of their own, and all of them mean the same thing to the person at the keyboard.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise DamagedInputError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path}: this is a folder; name a TIFF file in it.") from None
    except PermissionError:
        raise UserError(f"{path}: the file may not be read; ask its owner for the permission.") from None
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        if isinstance(error, NotImplementedError) or "not supported" in str(error):
            raise UserError(
                f"{path}: the pixels are stored in a way that cannot be read ({what}); save it as an uncompressed TIFF."
            ) from None
        raise DamagedInputError(f"{path}: the file is damaged ({what}); {COPY_AGAIN}.") from None


def open_tiff(path: Path) -> tuple[tifffile.TiffFile, str | None]:
    """Open a TIFF, which the caller closes, and return its OME-XML as it was written too. Call inside `sentences`."""
    _check_signature(path)
    pages, broken = _follow_pages(path)  # first: tifffile would follow a chain that leads back for ever
    if not pages:
        raise DamagedInputError(f"{path}: the file is cut off: it holds no complete page; {COPY_AGAIN}.")
    source = tifffile.TiffFile(path, is_scanimage=False)  # of ScanImage's pages it would reckon the places, and lose the last
    try:
        del source.is_scanimage
        if source.is_micromanager:
            check_header(path)
        if broken and not (source.is_lsm or source.is_ndtiff or source.is_ndpi):  # dialects with offsets of their own
            raise DamagedInputError(f"{path}: the file is cut off: {broken}; {COPY_AGAIN}.")
        text = source.ome_metadata if source.is_ome else None
        if text and not source.is_mmstack:  # an MMStack has an index of its own, which is whole where its OME-XML is not
            text, true = ome_set.true_ome(path, text, pages)
            if true != text:
                source.close()
                source = tifffile.TiffFile(path, omexml=true)
    except BaseException:
        source.close()
        raise
    return source, text


def spans_files(path: Path) -> bool:
    """Whether a TIFF says that an image of it lies in several files; no where it cannot be read. The others are not looked at."""
    with suppress(UserError), sentences(path):
        _check_signature(path)
        _follow_pages(path)
        with tifffile.TiffFile(path, is_scanimage=False) as source:
            return source.is_ome and ome_set.spans_files(path, str(source.ome_metadata))
    return False


def _check_signature(path: Path) -> None:
    if not path.is_dir() and path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"{path}: this is no file but a device or pipe; name a TIFF file.")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise DamagedInputError(f"{path}: the file is empty (0 bytes); {COPY_AGAIN}.")
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise UserError(f"{path}: this is not a TIFF (it begins with {start!r}); give the TIFF that the microscope wrote.")


def _follow_pages(path: Path) -> tuple[int, str]:
    """Follow the chain of pages; return how many there are, and how it ends where it is cut off, else nothing.

    A chain, or the value of a tag, that leaves the file means that the file is cut off; tifffile would go on without it, and a
    stack whose OME-XML was lost that way would come in with its channels and planes taken for time points.

    Raises
    ------
    UserError
        If a tag that is needed leaves the file, or the chain leads back to one of its pages.
    """
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        start = file.read(4)
        order, (at, word, count) = "<" if start[:2] == b"II" else ">", (8, "Q", "Q") if b"+" in start else (4, "I", "H")
        entry = struct.Struct(f"{order}HH{word}{word}")

        def number(offset: int, code: str) -> int:
            file.seek(min(offset, size))
            return int(struct.unpack(order + code, file.read(struct.calcsize(order + code)))[0])

        try:
            offset = number(at, word)
            while offset and offset not in seen:
                entries = number(offset, count)
                if entries > _MOST_TAGS:
                    return len(seen), f"after {len(seen)} pages there is none at byte {offset:,} of {size:,}, where the next one should be"
                table = file.read(entries * entry.size)
                for tag, kind, length, value in entry.iter_unpack(table):
                    end = value + length * _TYPE_BYTES.get(kind, 0)
                    if tag in _NEEDED_TAGS and end - value > struct.calcsize(order + word) and end > size:
                        raise DamagedInputError(f"{path}: the file is cut off: tag {tag} ends at byte {end:,} of {size:,}; {COPY_AGAIN}.")
                seen.add(offset)
                offset = number(offset + struct.calcsize(order + count) + len(table), word)
        except struct.error:
            return len(seen), f"after {len(seen)} pages the next one lies at byte {offset:,} of {size:,}"
    if offset:
        raise DamagedInputError(
            f"{path}: the file is damaged: its chain of pages leads back (after {len(seen):,}) to one of them; {COPY_AGAIN}."
        )
    return len(seen), ""
