"""What earlier registrations refused and still holds: the index page tells it until the file is registered, given again, or gone."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from cvdm_core.acquisitions.draft import Draft, identity
from cvdm_core.acquisitions.refusals import Refusal
from cvdm_core.acquisitions.vendors import is_vendor_file, not_exported
from cvdm_core.images.sequence import files_of_pattern, is_pattern


def still_refused(before: Sequence[Refusal], sheet: Draft, paths: Sequence[str | Path]) -> list[Refusal]:
    """Return those of earlier refusals that a registration of `paths` neither ended nor found anew.

    What stood in the sheet is not among them: it is judged at every registration, and ends with its row.
    """
    given = {place for path in paths for place in (Path(path).absolute(), identity(path))}
    again = {refusal.file for refusal in sheet.refusals}
    left = [refusal for refusal in before if not refusal.in_sheet and refusal.file not in again and not _is_below(refusal.file, given)]
    vendor_files = [identity(refusal.file) for refusal in left if is_vendor_file(Path(refusal.file))]
    waiting = set(not_exported(vendor_files, (file for file, _ in sheet.files)))
    return [
        refusal
        for refusal in left
        if (identity(refusal.file) in waiting or not is_vendor_file(Path(refusal.file)))
        and not _is_registered(sheet, refusal)
        and _is_there(refusal.file)
    ]


def _is_below(file: str, given: Collection[Path]) -> bool:
    return any(place in given for path in (Path(file).absolute(), identity(file)) for place in (path, *path.parents))


def _is_registered(sheet: Draft, refusal: Refusal) -> bool:
    """Whether the file of a refusal has a row now, or a line that is to be mended; of several images, the one that was refused."""
    file = identity(refusal.file)
    row = sheet.rows.get(refusal.acquisition)
    own = row is not None and identity(row.input) == file
    return own or file in sheet.held or (file, None) in sheet.files or (file, "mosaic") in sheet.files


def _is_there(file: str) -> bool:
    """Whether a refused file, or a file of a refused pattern, is there; a folder counts while it cannot be searched."""
    try:
        if is_pattern(file):
            return bool(files_of_pattern(file))
        return os.path.lexists(file) and not (Path(file).is_dir() and os.access(file, os.R_OK | os.X_OK))
    except OSError:  # not for us to see now
        return True
