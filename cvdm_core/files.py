"""Files and folders that a reader sees whole: the old one or the new one, never a half."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from cvdm_core.errors import DiskError

PARTIAL = ".partial"
"""Ending of what is not finished yet."""

PIECE_BYTES = 1 << 20
"""How much of a file is read at once for its checksum."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
MISPLACED = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


@contextmanager
def disk_named(path: str | Path) -> Iterator[None]:
    """Turn the system's complaint about a disk that is full or closed, or a place that is none, into a `DiskError` that names a path."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskError(
                f"{path}: there is no space left for it ({error.strerror}); make space, then run the same command again."
            ) from error
        unfinished = error.filename is None or str(error.filename).endswith(PARTIAL)
        named = path if unfinished else error.filename
        if error.errno in CLOSED:
            raise DiskError(
                f"{named}: it may not be read or written ({error.strerror}); mend its permissions, or its folder's, then run the same "
                "command again."
            ) from error
        if error.errno in MISPLACED:
            raise DiskError(
                f"{named}: no such file can be there ({error.strerror}); name another place in the configuration, or move what is there."
            ) from error
        raise


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a neighbour of `path` to write to; then sync it to the disk and rename it into place.

    If writing fails, the neighbour is removed and `path` is as it was.

    Raises
    ------
    DiskError
        If there is no space, or no permission, for it.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
    with disk_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with open(partial, "rb+") as stream:
                os.fsync(stream.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def write_file(path: str | Path, content: bytes | str, like: os.stat_result | None = None) -> None:
    """Write a whole file as `replacing` does, with as few system calls as that takes; text as UTF-8; with the rights of `like`."""
    folder, name = os.path.split(path)  # text, not `Path`: a store has thousands of files
    partial = os.path.join(folder, f".{name}.{os.getpid()}{PARTIAL}")
    with disk_named(path):
        try:
            _write_synced(partial, content.encode("utf-8") if isinstance(content, str) else content, like)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def rewrite_file(path: str | Path, content: bytes | str) -> None:
    """Write a file that people write too, as `write_file` does: a link stays a link, and group and mode stay as they are."""
    target = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    write_file(target, content, target.stat() if target.exists() else None)


def remove_unfinished(path: str | Path) -> None:
    """Remove what writers of a file left beside it when they were killed; the caller is its only writer."""
    target = Path(path)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{PARTIAL}"):
        left.unlink(missing_ok=True)


def _write_synced(path: str, content: bytes, like: os.stat_result | None) -> None:
    descriptor = _created(path)
    try:
        if like is not None:
            with suppress(OSError):  # we may not be of that group, and not every file system keeps modes
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
                os.fchown(descriptor, -1, like.st_gid)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: str | Path) -> None:
    """Wait until a file that another library wrote, or the names in a folder, are on the disk: after a power cut they may be gone else."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _created(path: str) -> int:
    """Return the descriptor of a new, empty file; its folder is made where it is missing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        return os.open(path, flags, 0o666)


def _make_folder(path: str) -> None:
    """Make a folder and those above it that are missing."""
    try:
        os.mkdir(path)
    except FileNotFoundError:
        if (above := os.path.dirname(path)) == path:
            raise  # the working directory itself is gone
        _make_folder(above)
        with suppress(FileExistsError):  # another writer may have been quicker
            os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def files_below(folder: str | Path) -> list[str]:
    """Return the names of all files below a folder, relative to it, with `/`, in order.

    Six times as fast as `Path.rglob`: a store of small planes has five folders a file.
    """
    return sorted(_below(str(folder), ""))


def _below(folder: str, prefix: str) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found: list[str] = []
    for entry in entries:
        if not entry.is_dir():
            found.append(f"{prefix}{entry.name}")
        elif not entry.is_symlink():
            found += _below(entry.path, f"{prefix}{entry.name}/")
    return found


def replace_folder(partial: Path, final: Path) -> None:
    """Rename a finished folder into place, over the one that is there; where that is a link, the link goes and what it leads to stays."""
    old = final.with_name(f".{final.name}.old")
    remove_folder(old)
    if os.path.lexists(final):
        final.replace(old)
    partial.replace(final)
    remove_folder(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, or the link in its place; what cannot be removed stays."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def checksum(content: bytes) -> str:
    """Return `blake3:` and 64 hexadecimal digits: what receipts hold of each file of a store, of which there are thousands.

    A cryptographic hash like sha256, in a third of its time, or a tenth where the CPU has no instructions for sha256
    (`benchmarks/checksums.py`). `b3sum` gives the same.
    """
    return f"blake3:{blake3(content).hexdigest()}"


def checksum_file(path: str | Path) -> str:
    """Return the `checksum` of a file, reading it piece by piece."""
    hasher = blake3()
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(PIECE_BYTES):
            hasher.update(piece)
    return f"blake3:{hasher.hexdigest()}"
