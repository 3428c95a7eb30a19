"""Damaged files that nobody has replaced: a night does not try them again, and says so each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cvdm_core.acquisitions.arrivals import files_of
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.acquired import open_acquired
from cvdm_core.images.ome_set import SUFFIXES
from cvdm_core.images.sequence import is_pattern
from cvdm_core.nights.outcome import failure_notes
from cvdm_core.sheet import Acquisition

REASON = "its files are damaged, and have not changed since that was seen; copy them again from the microscope"


def still_damaged(config: Config, rows: Mapping[str, Acquisition], names: Iterable[str]) -> dict[str, str]:
    """Return which of the acquisitions failed for damaged files that are still the same, with the sentence that their stage left."""
    # What a later stage found damaged is a store: that is mended by ingesting again, which changes no file of the microscope.
    found = ((note, failure) for note, failure in failure_notes(config, set(names)) if failure.stage == "ingest")
    return {
        failure.subject: failure.message
        for note, failure in found
        if failure.kind == "damaged input" and failure.subject in rows and _is_older(rows, failure.subject, note)
    }


def _is_older(rows: Mapping[str, Acquisition], name: str, note: Path) -> bool:
    """Whether all files of an acquisition were as they are now before the note was written."""
    row = rows[name]
    try:
        written = note.stat().st_mtime_ns
        own = _files(row)
        folders = {file.parent for file in own}
        if is_pattern(row.input):
            beside = folders  # a file that was taken out is not there to be newer, but its folder is
        else:
            # The damaged file may be another one of a set: a TIFF or its companion that no other row names.
            parts = {file for folder in folders for file in folder.iterdir() if file.name.lower().endswith((*SUFFIXES, ".ome"))}
            beside = {file for file in parts if file.is_file() and _changed_ns(file) > written}  # no link that leads nowhere
            beside = beside and beside - _of_others(rows, name)
            beside = beside and beside & (_of_set(row) or beside)
        return all(_changed_ns(path) <= written for path in (*own, *beside))
    except OSError:
        return False


def _of_set(row: Acquisition) -> set[Path]:
    """Return all files of the set that a row's files begin, or none where their headers cannot be read."""
    found: set[Path] = set()
    try:
        for path in filter(None, (row.input, row.target)):
            with open_acquired(path) as planes:
                found.update(file.absolute() for file in planes.files)
    except UserError:
        return set()
    return found


def _of_others(rows: Mapping[str, Acquisition], name: str) -> set[Path]:
    found: set[Path] = set()
    for other in rows.values():
        if other.acquisition != name:
            with suppress(FileNotFoundError):  # it was ingested long ago, and its files were taken away
                found.update(_files(other))
    return found


def _files(row: Acquisition) -> list[Path]:
    """Return the files that a row names.

    Raises
    ------
    FileNotFoundError
        If no file matches a pattern.
    """
    return [file.absolute() for file in files_of(filter(None, (row.input, row.target, row.positions, row.flat_field)))]


def _changed_ns(path: Path) -> int:
    """Return when a file, or what a folder lists, was changed; also a copy that keeps old times has a new ctime."""
    found = path.stat()
    return max(found.st_mtime_ns, found.st_ctime_ns)
