"""From a partial store to a finished one: everything is checked, then one rename makes it visible."""

from __future__ import annotations

from pathlib import Path

from cvdm_core.files import PARTIAL, files_below, replace_folder
from cvdm_core.images.validation import validate


def publish(partial: Path, final: Path) -> list[str]:
    """Check a complete partial store and rename it to its final place, replacing what is there; return the names of its files.

    Raises
    ------
    UserError
        If the store is not complete and right; nothing has changed then.
    """
    files = files_below(partial)
    for name in files:
        if name.endswith(PARTIAL):
            (partial / name).unlink()  # what a killed writer left behind; its file was written again by the next one
    whole = [name for name in files if not name.endswith(PARTIAL)]
    validate(partial, whole)
    replace_folder(partial, final)
    return whole
