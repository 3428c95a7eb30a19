"""The sample sheet: one row an acquisition, the single source of truth about shapes, pixel sizes and roles.

A person writes the first columns (`acquisition` to `note`); `cvdm register` measures the rest from the headers of the files and
writes the whole sheet anew. The Snakefile plans every job from it, and is parsed in every cluster job.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cvdm_core.config import NAME_PATTERN, Config, Split
from cvdm_core.errors import UserError
from cvdm_core.files import rewrite_file
from cvdm_core.sheet_text import as_line, read_lines

_Optional = BeforeValidator(lambda value: None if value == "" else value)
Positive = Annotated[float | None, Field(gt=0, allow_inf_nan=False), _Optional]
Source = Literal["", "metadata", "stated"]
Series = Annotated[int, Field(ge=0)] | Literal["mosaic"] | None
StageAxes = Literal["", "+x+y", "-x+y", "+x-y", "-x-y", "+y+x", "-y+x", "+y-x", "-y-x"]
SET_ASIDE = "#refused:"
ATTEMPTS = 5
"""How often a sheet is changed anew that a person saves meanwhile; a second attempt takes milliseconds."""
NAME_RULE = "Use letters, digits, '.', '_' and '-' only, at most 64, beginning with a letter or digit"


def is_name(text: str) -> bool:
    """Whether `text` can name an acquisition or specimen (and so a folder and a word in a command)."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def clean_name(text: str) -> str:
    """Return a usable name that is as close to `text` as can be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:64].rstrip("._-") or "acquisition"


def _names(value: object) -> object:
    return tuple(part for part in value.split(";") if part) if isinstance(value, str) else value


class Acquisition(BaseModel):
    """One row of the sheet. Sizes are in pixels of the input, lengths in micrometres, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acquisition: str = Field(pattern=NAME_PATTERN, description="unique name; folder name of its results")
    specimen: str = Field(pattern=NAME_PATTERN, description="what was imaged; a specimen never stands in two splits")
    split: Split = Field(description="train, val, test, or predict (no truth needed)")
    input: str = Field(
        min_length=1,
        description="path of the TIFF, relative to the working directory or absolute; with `{t}`, `{z}` or `{c}` in it, of many TIFFs; "
        "with `{f}`, of the fields of a mosaic",
    )
    target: str = Field("", description="path of the TIFF with the truth of the same field, if one was acquired")
    series: Annotated[Series, _Optional] = Field(
        None,
        description="number from 0 of the image (position, field) in the TIFF, where it holds several; or `mosaic`: all are fields of one",
    )
    positions: str = Field(
        "", description="path of a table of a mosaic's stage positions (`field`, `x_um`, `y_um`), where the files do not hold them"
    )
    stage_axes: StageAxes = Field(
        "",
        description="along which axes of the image the stage's x and y run, such as `+x+y` (right and down) or `-y+x`; empty: found by "
        "what neighbouring fields of the mosaic show",
    )
    flat_field: str = Field("", description="path of a TIFF of the illumination, by which the fields of a mosaic are divided; empty: not")
    dark_level: Annotated[float | None, Field(ge=0, allow_inf_nan=False), _Optional] = Field(
        None, description="what the camera counts without light, which is not divided by `flat_field`; empty: 0 [counts]"
    )
    stated_pixel_size_um: Positive = Field(None, description="pixel size of the input stated by a person, where the file does not know it")
    stated_z_step_um: Positive = Field(None, description="z step stated by a person, where the file does not know it")
    stated_channels: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        (), description="channel names stated by a person (`;` between them), where the file does not know them"
    )
    na: Positive = Field(None, description="numerical aperture of the objective, if known (for the theoretical PSF)")
    emission_nm: Annotated[tuple[float, ...], BeforeValidator(_names)] = Field(
        (), description="emission wavelength per channel, `;` between them"
    )
    instrument: str = Field("", description="the microscope, by maker and model or by its name at the site; `routing` may ask for it")
    objective: str = Field("", description="the objective, in words; `routing` may ask for it")
    urgent: int = Field(0, ge=0, le=9, description="from 0 to 9: what is higher is restored first; among equals, what stands first here")
    samples: Annotated[int | None, Field(ge=1), _Optional] = Field(
        None, description="posterior samples of this acquisition; empty: `sampling.samples`; a short night may write fewer here"
    )
    note: str = Field("", description="free text, shown in the report")

    size_t: int = Field(0, ge=0, description="time points (measured)")
    size_c: int = Field(0, ge=0, description="channels (measured)")
    size_z: int = Field(0, ge=0, description="planes (measured)")
    size_y: int = Field(0, ge=0, description="rows of the input (measured)")
    size_x: int = Field(0, ge=0, description="columns of the input (measured)")
    dtype: str = Field("", description="data type of the input (measured)")
    pixel_size_um: Positive = Field(None, description="pixel size of the input that is used (measured or stated)")
    pixel_size_source: Source = Field("", description="where `pixel_size_um` is from: metadata (of the file) or stated (by a person)")
    z_step_um: Positive = Field(None, description="z step that is used; empty for a single plane")
    z_step_source: Source = Field("", description="where `z_step_um` is from")
    time_step_s: Positive = Field(None, description="time step; empty for a single time point or where unknown")
    channels: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field((), description="channel names, `;` between them (measured)")
    na_source: Source = Field("", description="where `na` is from; a file's value is filled in where a person left it empty")
    emission_source: Source = Field("", description="where `emission_nm` is from; a file's values are filled in likewise")
    instrument_source: Source = Field("", description="where `instrument` is from; a file's words are filled in likewise")
    objective_source: Source = Field("", description="where `objective` is from; a file's words are filled in likewise")
    magnification: Positive = Field(None, description="magnification of the objective, where the file holds it (measured)")
    exposure_ms: Annotated[tuple[float, ...], BeforeValidator(_names)] = Field(
        (), description="exposure time per channel in milliseconds, `;` between them, where the file holds it (measured)"
    )
    acquired: str = Field("", description="date and time of the acquisition as the file has it (measured)")
    assumed: str = Field("", description="what the file does not say and was assumed (measured)")
    layout: str = Field(
        "", description="fingerprint of where the fields of a mosaic lie, which stands beside the sheet in `<sheet>.mosaics` (measured)"
    )

    @property
    def is_mosaic(self) -> bool:
        """Whether the input is put together of several fields."""
        return self.series == "mosaic"

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


def settings_for(config: Config, row: Acquisition) -> Config:
    """Return the configuration with what the sheet says of one acquisition: its number of posterior samples."""
    if row.samples is None:
        return config
    fewer = {"samples": row.samples, "keep_samples": min(config.sampling.keep_samples, row.samples)}
    return config.model_copy(update={"sampling": config.sampling.model_copy(update=fewer)})


COLUMNS = tuple(Acquisition.model_fields)
Rows = dict[str, Acquisition]
T = TypeVar("T")


@dataclass(frozen=True)
class Unusable:
    """A line of the sheet that no row could be made of.

    Attributes
    ----------
    acquisition : its name as written.
    cells : by column; what stands beyond the last column stands under the key ''.
    error : what is wrong; `problem` is the same with what follows from it.
    above : how many rows stand above it.
    """

    acquisition: str
    cells: dict[str, str]
    error: str
    above: int

    @property
    def problem(self) -> str:
        """What is wrong, and what follows from it."""
        training = ", and no model is trained without it" if self.may_train else ""
        return f"{self.error} It is left out until somebody mends the line{training}."

    @property
    def files(self) -> list[Path]:
        """All that its cells may name as a file; where a tab is missing or surplus, files stand in other columns."""
        return [Path(word) for cell in self.cells.values() for word in cell.split("\t") if word and "\0" not in word]

    @property
    def may_train(self) -> bool:
        """Whether it may be a pair for training or validation: a cell says so, or nobody can tell from its split."""
        return not {"train", "val"}.isdisjoint(self.cells.values()) or self.cells.get("split", "") not in ("", "test", "predict")


def read_sheet(path: str | Path) -> Rows:
    """Read the sheet and return its rows by acquisition name, in the order of the file.

    Lines that no row can be made of are passed over, so that they cost no other acquisition anything; `read_rows` gives them too.

    Raises
    ------
    UserError
        If the file is missing, is no tab-separated text, or has an unknown column.
    """
    return read_rows(path)[0]


def find_acquisition(path: str | Path, name: str) -> Acquisition:
    """Return one measured row of the sheet.

    Raises
    ------
    UserError
        If the sheet has no such row, its line is unusable, or `cvdm register` has not measured it yet.
    """
    rows, unusable = read_rows(path)
    row = rows.get(name)
    if row is None:
        problems = [line.problem for line in unusable if line.acquisition == name]
        none = f"{path}: there is no acquisition {name!r}; give a name that stands in the sheet, or add it with `cvdm register`."
        raise UserError([*problems, none][0])
    if not row.registered:
        raise UserError(f"{path}: {name!r} has no measured shape and pixel size yet; run `cvdm register`.")
    return row


def read_rows(path: str | Path) -> tuple[Rows, list[Unusable]]:
    """Read the sheet: the usable rows, and every other line with its problem.

    Lines that `cvdm register` marked `#refused:` are read like all others: whoever mends one need not remove the mark.

    Raises
    ------
    UserError
        As `read_sheet`.
    """
    rows: Rows = {}
    names: dict[str, str] = {}
    unusable: list[Unusable] = []
    for number, cells in read_lines(path, COLUMNS):
        name = cells["acquisition"] = cells.get("acquisition", "").removeprefix(SET_ASIDE)
        where = f"{path}, line {number}"
        try:
            row = _parse_row(cells, where)
            if (other := names.setdefault(row.acquisition.lower(), row.acquisition)) in rows:
                raise UserError(f"{where}: the name {row.acquisition!r} stands already in the sheet (as {other!r}); names must differ.")
        except UserError as error:
            unusable.append(Unusable(name, cells, str(error), len(rows)))
        else:
            rows[row.acquisition] = row
    return rows, unusable


def rows_so_far(path: str | Path) -> tuple[Rows, list[Unusable]]:
    """Do as `read_rows`, and return nothing where no sheet was made yet."""
    return read_rows(path) if os.path.lexists(path) else ({}, [])


def _parse_row(values: dict[str, str], where: str) -> Acquisition:
    if "" in values:
        raise UserError(f"{where}: the line has more fields than the header has columns; remove the surplus tabs.")
    try:
        return Acquisition.model_validate({column: value for column, value in values.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0])
        if first["type"] == "missing":
            raise UserError(
                f"{where}: the column {column!r} is missing or empty; it holds: {Acquisition.model_fields[column].description}."
            ) from None
        if "pattern" in first["type"]:
            example = clean_name(values[column])
            raise UserError(f"{where}: {column} = {first['input']!r} is no usable name. {NAME_RULE}, for example {example!r}.") from None
        raise UserError(f"{where}: {column} = {first['input']!r} is not usable: {first['msg']}.") from None


def update_sheet(path: str | Path, change: Callable[[Rows, list[Unusable]], tuple[Rows | None, T]]) -> T:
    """Read the sheet, write the rows that `change` makes of it (None: as they are), and return what it gives beside them.

    `change` begins anew where a person has saved the sheet meanwhile. The caller holds the sheet's lock.

    Raises
    ------
    UserError
        As `read_sheet`, or if the sheet is saved again and again; it is as it was then.
    """
    for _ in range(ATTEMPTS):
        before = _content(path)
        rows, unusable = rows_so_far(path)
        changed, given = change(rows, unusable)
        if changed is None:
            return given
        if _content(path) == before:
            write_sheet(path, changed, unusable)
            return given
    raise UserError(f"{path}: somebody changed it again and again meanwhile, so that nothing was written; run the same command again.")


def write_sheet(path: str | Path, rows: Rows, set_aside: Sequence[Unusable] = ()) -> None:
    """Write the sheet by rename, so that a reader sees the old one or the new one, never a half; not where it would be the same.

    Lines in `set_aside` are kept in their places as they were, and marked.
    """
    lines: list[Sequence[str]] = [[_cell(getattr(row, column)) for column in COLUMNS] for row in rows.values()]
    for line in reversed(set_aside):
        surplus = line.cells.get("")
        cells = [line.cells.get(column, "") for column in COLUMNS[1:]] + (surplus.split("\t") if surplus else [])
        lines.insert(line.above, [SET_ASIDE + line.acquisition, *cells])
    text = "".join(map(as_line, [COLUMNS, *lines]))
    if _content(path) != text.encode("utf-8"):
        rewrite_file(path, text)


def _content(path: str | Path) -> bytes | None:
    return Path(path).read_bytes() if Path(path).exists() else None


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ";".join(_cell(part) for part in value)
    if isinstance(value, float):
        return format(value, ".10g")
    return "" if value is None else str(value)
