"""What can be seen of files that are arriving: the evidence by which an acquisition of an inbox is complete, or is not.

Nothing here writes, and files are opened for reading only.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cvdm_core.acquisitions.candidates import Candidate
from cvdm_core.images.acquired import open_acquired
from cvdm_core.images.sequence import files_of_pattern, is_pattern

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
    return printable(str(Path(path).resolve()))


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


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files that inputs and targets stand for; an empty text stands for none.

    Raises
    ------
    FileNotFoundError
        If no file matches a pattern.
    """
    found: list[Path] = []
    for path in paths:
        if not path:
            continue
        matching = files_of_pattern(path) if is_pattern(path) else [Path(path)]
        if not matching:
            raise FileNotFoundError(2, "No such file", str(path))
        found += matching
    return found


def arriving_files(candidate: Candidate, inbox: Path) -> list[Path]:
    """Return the files that must all be quiet: those of the candidate, and all in its folder where that is not the inbox itself.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    own = files_of([candidate.input, candidate.target or ""])
    folder = candidate.input.parent
    if folder == inbox:
        return own
    with os.scandir(folder) as entries:
        return sorted({*own, *(folder / entry.name for entry in entries if entry.is_file())})


def quiet_since(evidence: Evidence, digest: str, since: float, now: float) -> float:
    """Return since when the files are known to be as they are [seconds, our clock].

    Two looks of ours that saw the same prove it, whatever the file server's clock says: `digest` and `since` are those of the last
    look. Its times are believed only where they are older than any likely error of its clock.
    """
    ours = since if digest == evidence.digest and since <= now else now
    return min(ours, evidence.touched + CLOCK_SKEW)


def missing_marker(candidate: Candidate, inbox: Path, marker: str) -> str:
    """Return why the site's marker does not say that a candidate is done; empty if it does, or the site has none.

    It is looked for beside the input and in the folders above it, up to the inbox. In the inbox itself it must name the acquisition.
    """
    if not marker:
        return ""
    names_it = "{name}" in marker
    wanted = marker.replace("{name}", glob.escape(candidate.name))
    folder = candidate.input.parent
    folders = [folder, *folder.parents][: len(folder.relative_to(inbox).parts) + 1]
    for place in folders if names_it else [place for place in folders if place != inbox]:
        if any(fnmatch.fnmatchcase(file.name, wanted) for file in place.iterdir()):
            return ""
    if folder == inbox and not names_it:
        return f"the marker {marker!r} names no acquisition, and the files lie in the inbox itself; put {{name}} into inbox.marker"
    return f"there is no marker {wanted!r} in {folder} yet"


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
