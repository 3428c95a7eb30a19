"""What `cvdm register` refused: a small table beside the sheet, from which the index page tells what is missing and what to do."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from cvdm_core.errors import UserError
from cvdm_core.files import disk_named, write_file


@dataclass(frozen=True)
class Refusal:
    """One acquisition that is not registered: its name (or what stands for it), its file, and one sentence.

    `in_sheet` is `yes` for a line of the sheet, which is judged at every registration.
    """

    acquisition: str
    file: str
    problem: str
    in_sheet: str = ""


def refusals_file(sheet: str | Path) -> Path:
    """Return the table's path, `<sheet stem>.refused.tsv` beside the sheet."""
    return Path(sheet).with_name(f"{Path(sheet).stem}.refused.tsv")


def read_refusals(sheet: str | Path) -> list[Refusal]:
    """Return what `cvdm register` refused and still holds, as the last one left it; empty if nothing.

    Raises
    ------
    UserError
        If the table cannot be read.
    """
    path = refusals_file(sheet)
    if not path.exists():
        return []
    with disk_named(path):
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    columns = [column.name for column in fields(Refusal)]
    try:
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t"))
    except csv.Error as error:
        raise UserError(f"{path}: the table of what was refused is damaged ({error}); remove it, and register those files again.") from None
    return [Refusal(*(line.get(column) or "" for column in columns)) for line in lines if line.get("file")]


def write_refusals(sheet: str | Path, refusals: Sequence[Refusal]) -> None:
    """Write the table by rename, or remove it when there is nothing to tell."""
    path = refusals_file(sheet)
    if not refusals:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([column.name for column in fields(Refusal)])
    writer.writerows(astuple(refusal) for refusal in refusals)
    write_file(path, text.getvalue().encode("utf-8", errors="backslashreplace"))


def tell(remarks: Sequence[str], refusals: Sequence[Refusal]) -> None:
    """Print what a person should know, and the sentences of the refusals, on standard error."""
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    for refusal in refusals:
        print(f"refused: {refusal.problem}", file=sys.stderr)
