"""Files and folders that a reader sees whole: the old one or the new one, never a half."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""Ending of what is not finished yet."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a neighbour of `path` to write to; then sync it to the disk and rename it into place.

    If writing fails (a full disk, say), the neighbour is removed and `path` is as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        with open(partial, "rb+") as stream:
            os.fsync(stream.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write a whole file; text as UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def replace_folder(partial: Path, final: Path) -> None:
    """Rename a finished folder into place, over the one that is there."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    partial.replace(final)
    shutil.rmtree(old, ignore_errors=True)
