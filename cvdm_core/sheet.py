"""The sample sheet: one row an acquisition, the single source of truth about shapes, pixel sizes and roles.

A person writes the first columns (`acquisition` to `note`); `cvdm register` measures the rest from the headers of the files and
writes the whole sheet anew. The Snakefile plans every job from it. Read with the csv module, because the Snakefile is parsed in
every cluster job.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cvdm_core.config import NAME_PATTERN, Split
from cvdm_core.errors import UserError

_Optional = BeforeValidator(lambda value: None if value == "" else value)
Positive = Annotated[float | None, Field(gt=0), _Optional]


def _names(value: object) -> object:
    return tuple(part for part in value.split(";") if part) if isinstance(value, str) else value


class Acquisition(BaseModel):
    """One row of the sheet. Sizes are in pixels of the input, lengths in micrometres, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acquisition: str = Field(pattern=NAME_PATTERN, description="unique name; folder name of its results")
    specimen: str = Field(pattern=NAME_PATTERN, description="what was imaged; a specimen never stands in two splits")
    split: Split = Field(description="train, val, test, or predict (no truth needed)")
    input: str = Field(min_length=1, description="path of the TIFF, relative to the working directory or absolute")
    target: str = Field("", description="path of the TIFF with the truth of the same field, if one was acquired")
    stated_pixel_size_um: Positive = Field(None, description="pixel size of the input stated by a person, where the file does not know it")
    stated_z_step_um: Positive = Field(None, description="z step stated by a person, where the file does not know it")
    stated_channels: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (), description="channel names stated by a person (`;` between them), where the file does not know them"
    )
    na: Positive = Field(None, description="numerical aperture of the objective, if known (for the theoretical PSF)")
    emission_nm: Annotated[tuple[float, ...], BeforeValidator(_names)] = Field(
        (), description="emission wavelength per channel, `;` between them"
    )
    note: str = Field("", description="free text, shown in the report")

    size_t: int = Field(0, ge=0, description="time points (measured)")
    size_c: int = Field(0, ge=0, description="channels (measured)")
    size_z: int = Field(0, ge=0, description="planes (measured)")
    size_y: int = Field(0, ge=0, description="rows of the input (measured)")
    size_x: int = Field(0, ge=0, description="columns of the input (measured)")
    dtype: str = Field("", description="data type of the input (measured)")
    pixel_size_um: Positive = Field(None, description="pixel size of the input that is used (measured or stated)")
    pixel_size_source: Literal["", "metadata", "stated"] = Field("", description="where `pixel_size_um` is from")
    z_step_um: Positive = Field(None, description="z step that is used; empty for a single plane")
    time_step_s: Positive = Field(None, description="time step; empty for a single time point or where unknown")
    channels: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field((), description="channel names, `;` between them (measured)")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the input, (T, C, Z, Y, X)."""
        return self.size_t, self.size_c, self.size_z, self.size_y, self.size_x

    @property
    def registered(self) -> bool:
        """Whether `cvdm register` has measured this row."""
        return min(self.shape) > 0 and self.pixel_size_um is not None

    def restored_shape(self, scale: int) -> tuple[int, int, int, int, int]:
        """Shape of the restored image, (T, C, Z, Y·scale, X·scale)."""
        return self.size_t, self.size_c, self.size_z, self.size_y * scale, self.size_x * scale


COLUMNS = tuple(Acquisition.model_fields)


def read_sheet(path: str | Path) -> dict[str, Acquisition]:
    """Read the sheet and return its rows by acquisition name, in the order of the file.

    Raises
    ------
    UserError
        If the file is missing, a column is unknown, a value is refused, or a name stands twice (case does not distinguish names).
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no sample sheet; `cvdm register FOLDER --sheet {path}` makes one.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the sample sheet is not UTF-8 text; save it as tab-separated UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text), delimiter="\t")
    unknown = [name for name in reader.fieldnames or () if name not in COLUMNS]
    if unknown:
        raise UserError(f"{path}: the column {unknown[0]!r} is not known; the columns are {', '.join(COLUMNS)}.")
    rows: dict[str, Acquisition] = {}
    seen: dict[str, str] = {}
    for number, values in enumerate(reader, start=2):
        row = _parse_row({key: value for key, value in values.items() if value is not None}, f"{path}, line {number}")
        if (other := seen.setdefault(row.acquisition.lower(), row.acquisition)) in rows:
            raise UserError(
                f"{path}, line {number}: the name {row.acquisition!r} stands already in the sheet (as {other!r}); names must differ."
            )
        rows[row.acquisition] = row
    return rows


def _parse_row(values: dict[str | None, str], where: str) -> Acquisition:
    if None in values:
        raise UserError(f"{where}: the line has more fields than the header has columns; remove the surplus tabs.")
    try:
        return Acquisition.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0])
        if first["type"] == "missing":
            raise UserError(
                f"{where}: the column {column!r} is missing; it holds: {Acquisition.model_fields[column].description}."
            ) from None
        hint = (
            " Use letters, digits, '.', '_' and '-' only, at most 64, beginning with a letter or digit."
            if "pattern" in first["type"]
            else ""
        )
        raise UserError(f"{where}: {column} = {first['input']!r} is not usable: {first['msg']}.{hint}") from None


def write_sheet(path: str | Path, rows: dict[str, Acquisition]) -> None:
    """Write the sheet by rename, so that a reader sees the old one or the new one, never a half."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows.values():
        writer.writerow([_cell(getattr(row, column)) for column in COLUMNS])
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(text.getvalue(), encoding="utf-8")
    partial.replace(target)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ";".join(_cell(part) for part in value)
    if isinstance(value, float):
        return format(value, ".10g")
    return "" if value is None else str(value)
