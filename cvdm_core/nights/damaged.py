"""Damaged files that nobody has replaced: a night does not try them again, and says so each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cvdm_core.config import Config
from cvdm_core.nights.outcome import failure_notes
from cvdm_core.sheet import Acquisition

REASON = "its files are damaged, and have not changed since that was seen; copy them again from the microscope"


def still_damaged(config: Config, rows: Mapping[str, Acquisition], names: Iterable[str]) -> dict[str, str]:
    """Return which of the acquisitions failed for damaged files that are still the same, with the sentence that their stage left.

    Patterns and folders are tried again: which files they name may have changed.
    """
    return {
        failure.subject: failure.message
        for note, failure in failure_notes(config, set(names))
        if failure.kind == "damaged input" and failure.subject in rows and _is_older(rows[failure.subject], note)
    }


def _is_older(row: Acquisition, note: Path) -> bool:
    """Whether all files were as they are now before the note was written; also a copy that keeps old times has a new ctime."""
    try:
        written = note.stat().st_mtime_ns
        files = [Path(path).stat() for path in (row.input, row.target) if path]
    except OSError:
        return False
    return all(max(file.st_mtime_ns, file.st_ctime_ns) <= written for file in files)
