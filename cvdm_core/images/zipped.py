"""OME-Zarr in one zip file (.ozx), as RFC-9 of OME-NGFF asks for (https://ngff.openmicroscopy.org/rfc/9/index.html).

Nothing is compressed by the zip, so that readers seek straight to a chunk; every `zarr.json` comes first in breadth-first order, and
the archive's comment says so. Dates are left out: the same store gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

COPY_BYTES = 2**20
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
VERSION_64 = 45  # the version of the zip format that brought ZIP64
COMMENT = {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}


def write_zip(root: Path, path: Path) -> None:
    """Write all files below `root`, an OME-Zarr 0.5 group, into a new zip file."""
    names = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(names, key=_place):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            with open(root / name, "rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, COPY_BYTES)
        archive.comment = json.dumps(COMMENT, separators=(",", ":")).encode()
    _add_zip64_end(path, END.size + len(archive.comment))


def _place(name: str) -> tuple[bool, int, str]:
    metadata = name.rpartition("/")[2] == "zarr.json"
    return not metadata, name.count("/") if metadata else 0, name


def _add_zip64_end(path: Path, length: int) -> None:
    """Put the ZIP64 records before the end record, which is `length` bytes long: zipfile does so in large archives only."""
    with open(path, "r+b") as file:
        at = file.seek(-length - LOCATOR_64.size, 2) + LOCATOR_64.size
        if file.read(4) == b"PK\x06\x07":
            return
        file.seek(at)
        end = file.read()
        _, _, _, _, entries, size, offset, _ = END.unpack(end[: END.size])
        file.seek(at)
        file.write(END_64.pack(b"PK\x06\x06", END_64.size - 12, VERSION_64, VERSION_64, 0, 0, entries, entries, size, offset))
        file.write(LOCATOR_64.pack(b"PK\x06\x07", 0, at, 1) + end)
