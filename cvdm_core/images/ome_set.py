"""The OME-XML that an OME-TIFF is read by: checked against the files that are there, with names that are true.

A set of OME-TIFFs names its files by UUID and file name; names go stale when files are renamed, the metadata may lie in a companion
file, and a hostile file can name any path. Here every name becomes that of a file beside the one that was opened, found by its name and
UUID, before `tifffile` goes after it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from cvdm_core.errors import COPY_AGAIN, DamagedInputError, UserError

SUFFIXES = (".tif", ".tiff", ".tf2", ".tf8", ".btf")
LARGEST_COMPANION = 256 * 2**20  # bytes; 2,000 planes need about 1 MiB
LEAST_PLANE = 64  # bytes of a page's table of contents alone, so that a set cannot declare more planes than it could hold


def true_ome(path: Path, text: str, pages: int) -> tuple[str, str]:
    """Return the OME-XML as it was written and as it has to be read, for a file of `pages` pages.

    Raises
    ------
    UserError
        If it is no XML, declares more planes than there can be, or the companion or a file of the set is not in the folder.
    """
    root = _parse(path, text)
    own = root.get("UUID")
    companions = _find(root, "BinaryOnly")
    if companions:
        text = _companion(path, companions[0].get("MetadataFile", ""))
        root = _parse(path, text)
    names: dict[str | None, set[str]] = defaultdict(set)
    for uuid in _find(root, "UUID"):
        names[uuid.text].add(uuid.get("FileName", ""))
    if sum(map(len, names.values())) > 1:
        _name_truly(path, root, own, names)
        size = sum((path.parent / name).stat().st_size for name in {uuid.get("FileName", "") for uuid in _find(root, "UUID")})
        _check_counts(path, root, size // LEAST_PLANE)
    else:
        _check_counts(path, root, pages)
        if not companions and set(names) <= {own}:
            return text, text
        # Where the one UUID is not the file's own, tifffile would go after the name that the file had before it was renamed.
        for data in _find(root, "TiffData"):
            for child in list(data):
                data.remove(child)
    return text, ElementTree.tostring(root, encoding="unicode")


def spans_files(path: Path, text: str) -> bool:
    """Whether the OME-XML says that an image lies in several files. Raises `UserError` where it, or its companion, cannot be read."""
    root = _parse(path, text)
    if companions := _find(root, "BinaryOnly"):
        root = _parse(path, _companion(path, companions[0].get("MetadataFile", "")))
    return any(len({uuid.get("FileName") for uuid in _find(pixels, "UUID")}) > 1 for pixels in _find(root, "Pixels"))


def companion_of(source: tifffile.TiffFile) -> list[str]:
    """Return the name of the file in which the metadata of an OME-TIFF lies, if not in itself."""
    if not source.is_ome:
        return []
    root = _parse(Path(source.filename), str(source.pages.first.description))
    return [element.get("MetadataFile", "") for element in _find(root, "BinaryOnly")][:1]


def _parse(path: Path, text: str) -> Any:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: its OME-XML is not readable ({error}); export it again from the microscope's software.") from None


def _companion(path: Path, name: str) -> str:
    """Return the OME-XML that a file of a set refers to: a companion file, or another TIFF of the set."""
    companion = path.parent / name
    if not _is_plain(name) or not companion.is_file():
        raise DamagedInputError(f"{path}: its metadata lies in the companion file {name!r}, which is not beside it; copy it there.")
    if companion.stat().st_size > LARGEST_COMPANION and not name.lower().endswith(SUFFIXES):
        raise DamagedInputError(
            f"{companion}: the companion file is larger than {LARGEST_COMPANION:,} bytes, so it is no OME-XML; {COPY_AGAIN}."
        )
    if name.lower().endswith(SUFFIXES):
        with tifffile.TiffFile(companion) as source:
            text = str(source.pages.first.description)
    else:
        text = companion.read_text(encoding="utf-8-sig")
    if _find(_parse(companion, text), "BinaryOnly"):
        raise DamagedInputError(f"{path}: the file {name!r}, in which its metadata should lie, refers to another one; {COPY_AGAIN}.")
    return text


def _name_truly(path: Path, root: Any, own: str | None, names: dict[str | None, set[str]]) -> None:
    """Write into every UUID the name of the file in this folder that it means."""
    shared = {uuid for uuid, given in names.items() if len(given) > 1}  # written by programs that use one UUID for all: worthless
    by_uuid: Callable[[], dict[str, str]] = cache(lambda: _uuids_beside(path))
    found: dict[tuple[str | None, str], str] = {}
    missing: list[str] = []
    for uuid, given in names.items():
        for name in given:
            there = _is_plain(name) and (path.parent / name).is_file()
            if uuid == own and uuid not in shared:
                found[uuid, name] = path.name
            elif there and (uuid in shared or _own_uuid(path.parent / name) in (uuid, None)):
                found[uuid, name] = name
            elif uuid not in shared and (other := by_uuid().get(uuid or "")):
                found[uuid, name] = other
            elif there:
                found[uuid, name] = name
            else:
                missing.append(name)
    if missing:
        total = len(found) + len(missing)
        named = ", ".join(repr(name) for name in sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        raise DamagedInputError(f"{path}: {len(missing)} of the {total} files of its set are not beside it ({named}); copy the whole set.")
    if path.name not in found.values():
        raise DamagedInputError(
            f"{path}: its OME-XML describes a set of {len(found)} files and this is none of them; copy the whole set again."
        )
    for element in _find(root, "UUID"):
        name = found[element.text, element.get("FileName", "")]
        element.set("FileName", name)
        element.text = f"file:{name}"
    root.set("UUID", f"file:{path.name}")


def _is_plain(name: str) -> bool:
    return bool(name) and name == Path(name).name and "\\" not in name


def _uuids_beside(path: Path) -> dict[str, str]:
    """Return the names of the TIFFs in the folder by their UUID."""
    files = sorted(file for file in path.parent.iterdir() if file.name.lower().endswith(SUFFIXES) and file.is_file())
    return {uuid: file.name for file in files if (uuid := _own_uuid(file))}


def _own_uuid(file: Path) -> str | None:
    try:
        with tifffile.TiffFile(file) as source:
            found = re.search(r'<OME\b[^>]*\bUUID="([^"]+)"', str(source.pages.first.description)[:10_000])
    except (tifffile.TiffFileError, OSError, ValueError, IndexError):  # a neighbour that is no TIFF of the set
        return None
    return found[1] if found else None


def _check_counts(path: Path, root: Any, most: int) -> None:
    for pixels in _find(root, "Pixels"):
        sizes = [int(pixels.get(f"Size{axis}", 1)) for axis in "TCZ"]
        samples = max([int(channel.get("SamplesPerPixel", 1)) for channel in _find(pixels, "Channel")] or [1])
        listed = max([int(data.get("PlaneCount", data.get("NumPlanes", 0))) for data in _find(pixels, "TiffData")] or [0])
        declared = max(listed, math.prod(sizes) // max(samples, 1))
        if min(sizes) < 1 or declared > most:
            raise DamagedInputError(f"{path}: the file is cut off: it declares {declared:,} planes and holds {most:,}; {COPY_AGAIN}.")


def _find(element: Any, name: str) -> list[Any]:
    return [found for found in element.iter() if str(found.tag).rsplit("}", 1)[-1] == name]
