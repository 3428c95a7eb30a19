"""From the path of a request to a file that may be read, and to the bytes of it that were asked for.

Nothing outside a store can be reached: a path is taken apart before it is decoded, every part is opened relative to the folder
before it, and symbolic links are not followed. A store that is replaced meanwhile gives the old file or the new one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from cvdm_core.files import PARTIAL

HIDDEN_BUT_SERVED = {".zattrs", ".zgroup", ".zarray"}  # the metadata of Zarr v2
CONTENT_TYPES = {".json": "application/json", ".xml": "application/xml"}
RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*")


class Unsatisfiable(Exception):
    """A range that lies wholly outside the file."""


def split_path(path: str) -> list[str] | None:
    """Return the decoded parts of a request's path (which begins with "/"), or None where one of them can name no file to serve.

    Decoded once, after splitting: an encoded "/" or ".." is no separator and no way up, but a reason to refuse.
    """
    parts = []
    for encoded in path.split("/")[1:]:
        try:
            part = unquote_to_bytes(encoded).decode("utf-8")
        except UnicodeDecodeError:
            return None
        hidden = part.startswith(".") and part not in HIDDEN_BUT_SERVED
        if hidden or part.endswith(PARTIAL) or "/" in part or "\\" in part or not (part.isprintable() or part == ""):
            return None
        parts.append(part)
    return parts


def open_beneath(root: Path, parts: Sequence[str]) -> BinaryIO:
    """Open a regular file `parts[0]/parts[1]/...` in the folder `root`; the root itself may be reached by a link.

    Raises
    ------
    OSError
        If there is no such file, or it is a folder, a pipe or a device, or a part of the way is a symbolic link.
    """
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without O_NONBLOCK a named pipe would be waited for.
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(f"{'/'.join(parts)} is no file")
    return os.fdopen(file, "rb")


def content_type(name: str) -> str:
    """Return the media type of a file of a store; shards and chunks are bytes."""
    return "application/json" if name in HIDDEN_BUT_SERVED else CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream")


def entity_tag(status: os.stat_result) -> str:
    """Return the ETag of a file: another one as soon as the file is replaced."""
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def parse_range(value: str, size: int) -> range | None:
    """Return the bytes that a Range header asks of `size` bytes, or None where the whole is to be sent.

    One range of bytes is understood, with an open end ("bytes=5-") or from the end ("bytes=-5"). Several ranges and what is no range
    are ignored, as RFC 9110 (14.2) allows.

    Raises
    ------
    Unsatisfiable
        If no byte of the file lies in the range.
    """
    found = RANGE.fullmatch(value)
    if not found or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or stop <= start:
        raise Unsatisfiable
    return range(start, stop)
