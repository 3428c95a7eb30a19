"""Mosaic acquisitions: where their fields lie is measured once, at registration, and kept beside the sheet.

The shape of a mosaic, from which every job is planned, follows from where its fields lie, and the stage alone does not tell that: a
camera turned by one degree moves the far corner by hundreds of pixels, and axes may be mirrored. So registration reads the overlaps of
one plane, writes `<sheet>.mosaics/<acquisition>.json`, and puts its fingerprint into the sheet; ingest places fields as that file says
and nothing else. It is measured anew only when the files, or what the row states, have changed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.images.fields import Fields, open_fields
from cvdm_core.images.flat_field import FlatField
from cvdm_core.images.mosaic import Mosaic, MosaicPlanes, from_json
from cvdm_core.images.mosaic_arrangement import arrange
from cvdm_core.images.stage import Stage
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.records.receipts import fingerprint, sha256_file
from cvdm_core.sheet import Acquisition

METHOD = 1  # a change of how places are measured counts this up, so that they are measured anew
_COLUMNS = ("field", "x_um", "y_um")
_LARGEST_TABLE = 16 * 2**20  # bytes


def layout_file(sheet: str | Path, acquisition: str) -> Path:
    """Return where the places of a mosaic's fields stand."""
    return Path(sheet).with_name(f"{Path(sheet).stem}.mosaics") / f"{acquisition}.json"


def lay_out(row: Acquisition, sheet: str | Path, pixel_um: float) -> tuple[Mosaic, str]:
    """Return where the fields of a row lie, and the fingerprint of that; measured where it was not yet.

    Raises
    ------
    UserError
        If the fields, their positions or the flat field cannot be used; see `open_fields` and `arrange`.
    """
    path = layout_file(sheet, row.acquisition)
    with _open_corrected(row) as (fields, others):
        stages = _stages(row, fields)
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in fields.files]
        stated = [row.stage_axes, row.dark_level, pixel_um, [sha256_file(file) for file in others]]
        inputs = fingerprint(METHOD, stamps, stated, sorted(stages.items()))
        known = _read(path)
        if known is None or known[1] != inputs:
            mosaic = arrange(fields, stages, pixel_um, row.stage_axes)
            write_file(path, json.dumps({"inputs": inputs, **mosaic.to_json()}, indent=1) + "\n")
            known = mosaic, inputs
    return known[0], _digest(path)


@contextmanager
def open_mosaic(row: Acquisition, sheet: str | Path) -> Iterator[MosaicPlanes]:
    """Open the input of a registered mosaic as one image.

    Raises
    ------
    UserError
        If the places of its fields are not those of its registration, or as `open_fields`.
    """
    path = layout_file(sheet, row.acquisition)
    known = _read(path)
    if known is None or _digest(path) != row.layout:
        raise UserError(f"{path}: the places of the fields are not those that were registered; run `cvdm register` again.")
    mosaic = known[0]
    with _open_corrected(row) as (fields, others):
        if set(fields.names) != {field.name for field in mosaic.fields} or fields.header.shape[3:] != mosaic.field_shape:
            raise UserError(f"{row.input}: its fields are not those that were registered; run `cvdm register` again.")
        fields.check_complete()
        yield MosaicPlanes(fields, mosaic, (*others, path))


def header_of_field(row: Acquisition) -> TiffHeader:
    """Return what the first field of a row's mosaic says, after a look at all of them and at the last pixel of each."""
    with open_fields(row.input, "z" if row.stated_z_step_um else "t") as fields:
        fields.check_complete()
        return fields.header


@contextmanager
def _open_corrected(row: Acquisition) -> Iterator[tuple[Fields, tuple[Path, ...]]]:
    """Open the fields, with their flat field where there is one, and name the files besides them that the pixels depend on."""
    with open_fields(row.input, "z" if row.stated_z_step_um else "t") as fields:
        others: Sequence[Path] = ()
        if row.flat_field:
            flat = FlatField(row.flat_field, fields.header, row.dark_level or 0.0)
            fields.correct_with(flat)
            others = flat.files
        yield fields, tuple(others)


def _read(path: Path) -> tuple[Mosaic, str] | None:
    """Return a layout and the fingerprint of what it was measured from; None where it is not there or no layout."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        inputs = str(content.pop("inputs"))
        return from_json(content), inputs
    except (FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _stages(row: Acquisition, fields: Fields) -> dict[str, Stage]:
    """Return where the stage stood for every field: the table speaks where there is one, else the files."""
    if row.positions:
        return _from_table(Path(row.positions), fields)
    found = {name: stage for name, stage in fields.stages.items() if stage is not None}
    if missing := [name for name in fields.names if name not in found]:
        named = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{row.input}: the stage positions of {len(missing)} of its {len(fields.names)} fields ({named}) are not in the files; write a "
            "table with the columns field, x_um and y_um, and its path into the column positions."
        )
    return found


def _from_table(path: Path, fields: Fields) -> dict[str, Stage]:
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise UserError(f"{path}: it has more than {_LARGEST_TABLE:,} bytes, so it is no table of positions; give the right file.")
        lines = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter="\t"))
    except OSError as error:
        raise UserError(f"{path}: the table of positions cannot be read ({error.strerror}); check the column positions.") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: the table of positions is no tab-separated UTF-8 text; save it as such.") from None
    found: dict[str, Stage] = {}
    for number, line in enumerate(lines, 2):
        if missing := [column for column in _COLUMNS if line.get(column) in (None, "")]:
            raise UserError(f"{path}, line {number}: the column {missing[0]!r} is missing or empty; a line holds {', '.join(_COLUMNS)}.")
        name = line["field"]
        if name not in fields.names or name in found:
            known = ", ".join(map(repr, fields.names[:3])) + (", ..." if len(fields.names) > 3 else "")
            what = "stands twice" if name in found else f"is none of the mosaic's ({known})"
            raise UserError(f"{path}, line {number}: the field {name!r} {what}; give each field one line.")
        found[name] = _coordinate(path, number, line["y_um"]), _coordinate(path, number, line["x_um"])
    if missing := [name for name in fields.names if name not in found]:
        raise UserError(f"{path}: {len(missing)} of the {len(fields.names)} fields have no line (the first is {missing[0]!r}); add them.")
    return found


def _coordinate(path: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, line {number}: {text!r} is no position; give micrometres as a number, with a point.")
    return value
