"""The indexes of Micro-Manager's sets (MMStack, NDTiff), checked before `tifffile` makes lists from what they declare.

`tifffile` goes on without an index that is cut off, and with what is left of one: planes would be lost, or take the place of others,
without a word. Layouts: https://micro-manager.org/Micro-Manager_File_Formats and https://github.com/micro-manager/NDTiffStorage.
"""

from __future__ import annotations

import glob
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cvdm_core.errors import COPY_AGAIN, DamagedInputError, UserError

_INDEX, _NDTIFF, _SUMMARY = 54773648, 483729, 2355492
_ENTRY = 20  # bytes of a plane in an MMStack's index
_MOST_PLANES = 20_000_000
_COPY_FOLDER = "copy the whole folder again from the microscope"


def check_header(path: Path) -> bool:
    """Check that what the header of an MMStack refers to lies inside the file; return whether it is one.

    Raises
    ------
    UserError
        If the index or the summary is not there, or not whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(40).ljust(40, b"\0")
        order = ">" if start.startswith(b"MM") else "<"
        kind, index = struct.unpack_from(f"{order}II", start, 8)
        if kind != _INDEX:
            return False
        summary, length = struct.unpack_from(f"{order}II", start, 32)
        file.seek(index)
        count = struct.unpack(f"{order}II", file.read(8).ljust(8, b"\0"))[1]
    if not index or not count:
        raise DamagedInputError(
            f"{path}: Micro-Manager has not written the index of its planes, so the file is not finished; {COPY_AGAIN}."
        )
    if summary != _SUMMARY or 40 + length > size or index + 8 + count * _ENTRY > size:
        raise DamagedInputError(f"{path}: the file is cut off: the index of its planes lies beyond its {size:,} bytes; {COPY_AGAIN}.")
    return True


def summary_of(path: Path, source: tifffile.TiffFile) -> dict[str, Any]:
    """Return the summary of a Micro-Manager file, or nothing of another, after a check of its index.

    Raises
    ------
    UserError
        If the index cannot be true, is not whole, or names files that are not beside it.
    """
    metadata: dict[str, Any] = source.micromanager_metadata or {}
    summary = metadata.get("Summary")
    summary = summary if isinstance(summary, dict) else {}
    if source.is_ndtiff:
        _check_ndtiff(path, len(source.pages))
    elif source.is_mmstack:
        names, index = ("Channels", "Slices", "Frames", "Positions"), metadata["IndexMap"]
        last = index[:, :4].max(axis=0)
        spans = [max(int(place) + 1, int(summary.get(name, 1))) for place, name in zip(last, names, strict=True)]
        if not 0 < math.prod(spans) <= _MOST_PLANES:
            raise DamagedInputError(f"{path}: its index declares {spans} channels, slices, frames and positions; {COPY_AGAIN}.")
        if len(index) < math.prod(spans):
            least = int(np.unique(index[:, 3], return_counts=True)[1].min())
            _check_set(path, str(summary.get("Prefix", path.name.split("_MMStack")[0])), needed=least < math.prod(spans[:3]))
    return summary


def _check_set(path: Path, prefix: str, needed: bool) -> None:
    """Check the files that `tifffile` takes, by `glob`, for those of an MMStack's set; `needed` if a position lacks planes in this one."""
    path, start = path.resolve(), f"{prefix}_MMStack"  # it follows links
    if not path.name.startswith(start):
        return
    beginning = str(path.with_name(start))
    if glob.escape(beginning) != beginning:
        if needed:
            raise UserError(
                f"{path}: further files of its set cannot be found, because its name or that of a folder above it holds `[`, `*` or `?`; "
                "rename that."
            )
        return
    for other in sorted(path.parent.iterdir()):
        if other.name.startswith(start) and other.suffix == ".tif" and other != path and not check_header(other):
            raise UserError(
                f"{other}: it is called like a file of the set of {path.name} and holds no index of Micro-Manager's planes; "
                "move it elsewhere, or copy it again if it is one."
            )


def _check_ndtiff(path: Path, pages: int) -> None:
    index = path.parent / "NDTiff.index"
    places: dict[str, set[Any]] = {}
    planes: dict[str, int] = {}
    for axes, name in _entries(index):
        if name != Path(name).name:
            raise UserError(f"{index}: it names the file {name!r} outside of its folder; {_COPY_FOLDER}.")
        planes[name] = planes.get(name, 0) + 1
        for axis, place in axes.items():
            places.setdefault(axis, set()).add(place)
    if planes.get(path.name, 0) < pages:
        raise UserError(f"{index}: it names {planes.get(path.name, 0)} of the {pages} planes of {path.name}; {_COPY_FOLDER}.")
    if missing := sorted(name for name in planes if not (path.parent / name).is_file()):
        named = ", ".join(missing[:3])
        raise DamagedInputError(f"{path}: {len(missing)} of the {len(planes)} files of its set are missing ({named}); copy them too.")
    spans = [
        max(found) - min(found) + 1 if (found := [v for v in values if isinstance(v, int)]) else len(values) for values in places.values()
    ]
    if math.prod(spans) > _MOST_PLANES:
        raise UserError(f"{index}: it declares {math.prod(spans):,} planes; the file is damaged, {_COPY_FOLDER}.")


def _entries(index: Path) -> list[tuple[dict[str, Any], str]]:
    """Return axes and file of every plane: an entry is two texts with their lengths before them, and eight numbers."""
    content, at = index.read_bytes(), 0
    entries = []
    try:
        while at < len(content):
            texts = []
            for _ in range(2):
                (length,) = struct.unpack_from("<I", content, at)
                texts.append(content[at + 4 : at + 4 + length].decode("utf-8"))
                at += 4 + length
            struct.unpack_from("<8i", content, at)
            at += 32
            entries.append((dict(json.loads(texts[0])), texts[1]))
    except (struct.error, ValueError, TypeError):
        raise UserError(f"{index}: it is damaged or cut off after {len(entries)} planes; {_COPY_FOLDER}.") from None
    return entries
