"""Fewer samples in a short night: written into the sheet, so that the same command gives the same pixels in a year."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cvdm_core.config import Config
from cvdm_core.lock import locked
from cvdm_core.sheet import Acquisition, Rows, Unusable, update_sheet

OURS = re.compile(r"(?:; )?\d+ of \d+ samples, because the night of [\d-]+ was short; empty the cell `samples` to get all\.")


def write_samples(config: Config, fewer: Mapping[str, tuple[int, int]], date: str) -> None:
    """Write numbers of samples, and why, into the sheet; take away our old notes where a person has emptied the cell since.

    Parameters
    ----------
    fewer
        How many samples, and of how many, by acquisition.
    date
        Of the night, for the note.

    Raises
    ------
    UserError
        If the sheet is being written by another process, or cannot be read.
    """

    def change(rows: Rows, _unusable: list[Unusable]) -> tuple[Rows | None, None]:
        changed = {name: _changed(row, fewer.get(name), date) for name, row in rows.items()}
        return (None if changed == rows else changed), None

    with locked(config.acquisitions):
        update_sheet(config.acquisitions, change)


def _changed(row: Acquisition, fewer: tuple[int, int] | None, date: str) -> Acquisition:
    if fewer:
        samples, of = fewer
        own = OURS.sub("", row.note)
        note = f"{samples} of {of} samples, because the night of {date} was short; empty the cell `samples` to get all."
        return row.model_copy(update={"samples": samples, "note": f"{own}; {note}" if own else note})
    if row.samples is None and OURS.search(row.note):
        return row.model_copy(update={"note": OURS.sub("", row.note)})
    return row
