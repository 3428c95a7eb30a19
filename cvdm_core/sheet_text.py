"""The sample sheet as text: cells with tabs between them, as spreadsheets read and save them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from cvdm_core.errors import UserError


def read_lines(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the number of each line and its cells by column; what stands beyond the last column stands under the key ''.

    Raises
    ------
    UserError
        If the file is missing, is no tab-separated text, or has a column that is not among `columns`, or twice.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise UserError(f"{path}: it is a link to a sample sheet that is not there; is its file server mounted?") from None
        raise UserError(f"{path}: there is no sample sheet; `cvdm register FOLDER` makes one.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the sample sheet is not UTF-8 text; save it as tab-separated UTF-8.") from None
    records = _records(path, text)
    _, header = next(records, (1, []))
    for index, name in enumerate(header):
        if name not in columns or name in header[:index]:
            what = "stands twice" if name in columns else f"is not known; the columns, with tabs between them, are {', '.join(columns)}"
            raise UserError(f"{path}: the column {name!r} {what}.")
    for number, cells in records:
        if any(cells):
            surplus = {"": "\t".join(cells[len(header) :])} if any(cells[len(header) :]) else {}
            yield number, dict(zip(header, cells, strict=False)) | surplus


def _records(path: str | Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Give the cells of each record and the number of the line in which it begins.

    Quotation marks that do not enclose a cell are words of their line. Only where one takes the lines below with it, nobody can tell.
    """
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter="\t", strict=True)
    columns = 0
    while (number := reader.line_num + 1) <= len(lines):
        try:
            cells = next(reader)
            takes_lines = '"' in lines[number - 1] and any(cell.count("\t") >= max(3, columns - 1) for cell in cells)
        except csv.Error:
            cells = lines[number - 1].rstrip("\r\n").split("\t")
            takes_lines = reader.line_num > number
        if takes_lines:
            raise UserError(
                f"{path}, line {number}: a cell begins with a quotation mark and does not end with one, so that the lines below cannot be "
                "told from it; remove the mark."
            )
        columns = columns or len(cells)
        yield number, cells


def as_line(cells: Sequence[str]) -> str:
    """Return cells as a line, with quotation marks where they are needed."""
    text = io.StringIO()
    # The csv module does not see by itself that a carriage return needs quotes.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in cell for cell in cells) else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter="\t", lineterminator="\n", quoting=quoting).writerow(cells)
    return text.getvalue()
