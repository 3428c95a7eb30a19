"""What can be seen of files that are arriving: the evidence by which an acquisition of an inbox is complete, or is not.

Nothing here writes, and files are opened for reading only.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from cvdm_core.acquisitions.candidates import Candidate
from cvdm_core.images.acquired import open_acquired
from cvdm_core.images.sequence import files_of_pattern, is_pattern, names_in, starting

CLOCK_SKEW = 3600.0
"""By how much the clock of a file server may differ from ours [seconds]; directory services refuse machines that are 5 minutes off."""


@dataclass(frozen=True)
class Evidence:
    """Files as they are at one moment.

    Attributes
    ----------
    digest : fingerprint of all names, sizes and modification times.
    files, bytes : how many of each.
    newest : latest modification time [seconds since 1970, the file server's clock].
    touched : latest modification or change of attributes, by the same clock; a copy that keeps old modification times shows here.
    """

    digest: str
    files: int
    bytes: int
    newest: float
    touched: float

    def __str__(self) -> str:
        """Return the evidence in words."""
        count = "1 file" if self.files == 1 else f"{self.files:,} files"
        return f"{count}, {self.bytes:,} bytes, last written {moment(self.newest)}"


def moment(seconds: float) -> str:
    """Return a time for people, in the time zone of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def printable(text: str) -> str:
    """Return `text` with control characters, and bytes that are no UTF-8, as escapes: safe for a terminal and for JSON."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)


def key_of(path: str | Path) -> str:
    """Return what the ledger calls a file or pattern: its absolute path, printable."""
    return printable(os.path.realpath(path))


def evidence_of(files: Iterable[Path]) -> Evidence:
    """Look at files without opening them.

    Raises
    ------
    OSError
        If one is not there (`FileNotFoundError`) or cannot be looked at.
    """
    found = sorted((str(file.name), file.stat()) for file in files)
    return Evidence(
        digest=hashlib.sha256(repr([(name, status.st_size, status.st_mtime_ns) for name, status in found]).encode()).hexdigest()[:16],
        files=len(found),
        bytes=sum(status.st_size for _, status in found),
        newest=max(status.st_mtime for _, status in found),
        touched=max(max(status.st_mtime, status.st_ctime) for _, status in found),
    )


def files_of(paths: Iterable[str | Path], matching: Callable[[str | Path], list[Path]] = files_of_pattern) -> list[Path]:
    """Return the files that inputs and targets stand for; an empty text stands for none. `matching` is as `files_of_pattern`.

    Raises
    ------
    FileNotFoundError
        If no file matches a pattern.
    """
    found: list[Path] = []
    for path in paths:
        if not path:
            continue
        files = matching(path) if is_pattern(path) else [Path(path)]
        if not files:
            raise FileNotFoundError(2, "No such file", str(path))
        found += files
    return found


class Folders:
    """Folders as they are at one moment: each is listed, and its files are looked at, once, however many acquisitions lie in it.

    A new one sees what has changed since. All methods raise `OSError` where a folder or a file cannot be looked at.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._names = cache(names_in)
        self._matching = cache(lambda pattern: files_of_pattern(pattern, self._names))
        self._files = cache(_files_in)
        self._whole = cache(lambda folder: evidence_of(self._files(folder)))
        self._holds = cache(self._looked_for)

    def files_of(self, paths: Iterable[str | Path]) -> list[Path]:
        """Return the files that inputs and targets stand for; see `files_of`."""
        return files_of(paths, self._matching)

    def evidence(self, candidate: Candidate, inbox: Path) -> Evidence:
        """Look at the files that must all be quiet: the candidate's, and all in its folder where that is not the inbox itself."""
        own = self.files_of([candidate.input, candidate.target or ""])
        folder = candidate.input.parent
        if folder == inbox:
            return evidence_of(own)
        files = self._files(folder)
        return self._whole(folder) if files.issuperset(own) else evidence_of(files.union(own))

    def missing_marker(self, candidate: Candidate, inbox: Path, marker: str) -> str:
        """Return why the site's marker does not say that a candidate is done; empty if it does, or the site has none.

        It is looked for beside the input and in the folders above it, up to the inbox. In the inbox itself it must name the acquisition.
        """
        if not marker:
            return ""
        names_it = "{name}" in marker
        wanted = marker.replace("{name}", glob.escape(candidate.name))
        folder = candidate.input.parent
        folders = [folder, *folder.parents][: len(folder.relative_to(inbox).parts) + 1]
        if any(self._holds(place, wanted) for place in folders if names_it or place != inbox):
            return ""
        if folder == inbox and not names_it:
            return f"the marker {marker!r} names no acquisition, and the files lie in the inbox itself; put {{name}} into inbox.marker"
        return f"there is no marker {wanted!r} in {folder} yet"

    def _looked_for(self, folder: Path, wanted: str) -> bool:
        plain = re.split(r"[*?[]", wanted, maxsplit=1)[0]
        return any(fnmatch.fnmatchcase(name, wanted) for name in starting(self._names(folder), plain))


def _files_in(folder: Path) -> frozenset[Path]:
    with os.scandir(folder) as entries:
        return frozenset(folder / entry.name for entry in entries if entry.is_file())


def quiet_since(evidence: Evidence, digest: str, since: float, now: float) -> float:
    """Return since when the files are known to be as they are [seconds, our clock].

    Two looks of ours that saw the same prove it, whatever the file server's clock says: `digest` and `since` are those of the last
    look. Its times are believed only where they are older than any likely error of its clock.
    """
    ours = since if digest == evidence.digest and since <= now else now
    return min(ours, evidence.touched + CLOCK_SKEW)


def check_complete(candidate: Candidate) -> tuple[tuple[Path, ...], int]:
    """Check that every expected plane of input and target is there and the last page can be read.

    Returns all their files, and how many images (positions) the input holds.

    Raises
    ------
    UserError
        If that is not so. `PartOfSet` if the input only continues an image that begins in another file.
    """
    files: set[Path] = set()
    images = 0
    for path in filter(None, (candidate.input, candidate.target)):
        with open_acquired(path) as planes:
            planes.check_complete()
            files |= set(planes.files)
            last = planes.header.further[-1:]
            images = images or 1 + len(planes.header.further)
        for number in last:
            with open_acquired(path, series=number) as planes:
                planes.check_complete()
                files |= set(planes.files)
    return tuple(sorted(files)), images
