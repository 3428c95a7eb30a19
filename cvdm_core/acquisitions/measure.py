"""Measure one row of the sheet from the headers of its files, and refuse what could not be restored or trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvdm_core.acquisitions.mosaics import header_of_field, lay_out
from cvdm_core.acquisitions.vendors import is_vendor_file, refuse_vendor_file
from cvdm_core.errors import UserError, shell_word
from cvdm_core.images.acquired import Planes, open_acquired, read_acquired
from cvdm_core.images.mosaic import Mosaic
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.images.tiff_metadata import distinct_names
from cvdm_core.sheet import Acquisition

STORED_AS = {"bool": "uint8", "float16": "float32"}  # what a store cannot hold becomes the next larger type, without loss
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32")
SAME_LENGTH = 0.01  # relative difference of two lengths that still count as equal
_SIZES = ("size_t", "size_c", "size_z", "size_y", "size_x")
_LENGTHS = ("pixel_size_um", "pixel_size_source", "z_step_um", "z_step_source", "time_step_s")
_SOURCES = ("na_source", "emission_source", "instrument_source", "objective_source")
_MEASURED = (*_SIZES, "dtype", *_LENGTHS, "channels", *_SOURCES, "magnification", "exposure_ms", "acquired", "assumed", "layout")
_Said = float | tuple[float, ...] | str | None
UNMEASURED: Mapping[str, Any] = {column: Acquisition.model_fields[column].default for column in _MEASURED}
StateIn = Callable[[str], str]
ScaleOf = Callable[[Acquisition], int | None]


def measure(row: Acquisition, scale_of: ScaleOf, state_in: StateIn, sheet: str | Path) -> tuple[Acquisition, list[str]]:
    """Return the row with everything measured, and remarks on what was assumed or contradicts the file.

    Parameters
    ----------
    row
        What a person stated; measured columns are ignored.
    scale_of
        Tells of a measured row how many target pixels there must be for each input pixel along y and x; None where nobody knows.
    state_in
        Tells where a person can state what a file does not know: from the column's name to words for the sentence.
    sheet
        Path of the sheet, beside which the layout of a mosaic is kept.

    Raises
    ------
    UserError
        If a file is missing or damaged, has a data type that cannot be restored, lacks a pixel size or z step that nobody stated,
        or if the pair does not show one field at its scale.
    """
    _check_mosaic_columns(row)
    header = _inspect(row.input, row)
    pixel_size, source = _pixel_size(row, header, state_in)
    mosaic, layout = lay_out(row, sheet, pixel_size) if row.is_mosaic else (None, "")
    if mosaic is not None:
        header = replace(header, shape=(*header.shape[:3], *mosaic.shape))
    size_t, size_c, size_z = header.shape[:3]
    z_step = row.stated_z_step_um or header.z_step_um
    if size_z > 1 and z_step is None:
        command = f"run `cvdm register {shell_word(row.input)} --z-step-um 0.3` if it is 0.3 um"
        reason, state = header.metadata.z_step_reason, state_in("stated_z_step_um")
        raise UserError(f"{row.input}: it has {size_z} planes, but their distance is not known ({reason}); {state}, or {command}.")
    for column, count in (("stated_channels", len(row.stated_channels)), ("emission_nm", len(row.emission_nm))):
        if count not in (0, size_c):
            raise UserError(
                f"{row.input}: the column {column} holds {count} values and the image {size_c} channels; give one for each channel."
            )
    names = [name.strip() for name in row.stated_channels]
    if len(set(names)) < len(names) or not "".join(names).isprintable():
        raise UserError(
            f"{row.input}: the column stated_channels holds {';'.join(names)!r}; give each channel a name of its own, of letters that can "
            f"be printed, such as {';'.join(distinct_names(names, size_c))}."
        )
    if not row.target and row.split in ("train", "val"):
        raise UserError(
            f"{row.input}: the split is {row.split}, which needs a target, and none is named; name one, or use the split predict."
        )
    measured = row.model_copy(
        update={
            "na": row.na or header.na,
            "na_source": _source(row.na, header.na),
            "emission_nm": row.emission_nm or header.emission_nm,
            "emission_source": _source(row.emission_nm, header.emission_nm),
            "instrument": row.instrument or header.metadata.instrument,
            "instrument_source": _source(row.instrument, header.metadata.instrument),
            "objective": row.objective or header.metadata.objective,
            "objective_source": _source(row.objective, header.metadata.objective),
            "magnification": header.metadata.magnification,
            "exposure_ms": header.metadata.exposure_ms,
            "acquired": header.metadata.acquired,
            "assumed": _assumed(row, header),
            "layout": layout,
            **dict(zip(_SIZES, header.shape, strict=True)),
            "dtype": stored_dtype(header),
            "pixel_size_um": pixel_size,
            "pixel_size_source": source,
            "z_step_um": z_step if size_z > 1 else None,
            "z_step_source": "" if size_z == 1 else "stated" if row.stated_z_step_um else "metadata",
            "time_step_s": header.time_step_s if size_t > 1 else None,
            "channels": row.stated_channels or header.channels,
        }
    )
    if row.target:
        _check_pair(row, header, pixel_size, scale_of(measured))
    return measured, _remarks(row, header) + _remarks_on(row, mosaic)


def knows(path: str) -> tuple[bool, bool]:
    """Whether the file itself holds a believable pixel size, and, of a stack, z step. Raises `UserError` as `read_acquired`."""
    header = read_acquired(path)
    return header.pixel_size_um is not None, header.shape[2] > 1 and header.z_step_um is not None


@contextmanager
def open_chosen(row: Acquisition, path: str, pages: Literal["t", "z"]) -> Iterator[Planes]:
    """Open the image of a row's input or target that the column `series` names; a target that holds one image is taken whole.

    Raises
    ------
    UserError
        As `open_acquired`, or if the file holds several images of one size and the row names none.
    """
    number = 0 if row.series is None or row.series == "mosaic" else row.series
    if number and path == row.target and not read_acquired(path, pages).further:
        number = 0
    with open_acquired(path, pages, number) as planes:
        further = planes.header.further
        if further and row.series is None:
            numbers = ", ".join(map(str, sorted({number, *further})[:4])) + (", ..." if len(further) > 3 else "")
            again = f"`cvdm register {shell_word(row.input)}`"
            raise UserError(
                f"{path}: it holds {len(further) + 1} images of one size (positions or fields); write the number of one ({numbers}) into "
                f"the column series of the row `{row.acquisition}`, and {again} adds a row for each other."
            )
        yield planes


def stored_dtype(header: TiffHeader) -> str:
    """Return the data type that the pixels have in the store."""
    return STORED_AS.get(header.dtype.name, header.dtype.name)


def _inspect(path: str, row: Acquisition) -> TiffHeader:
    if is_vendor_file(Path(path)):
        raise UserError(refuse_vendor_file(Path(path)).problem)
    if row.is_mosaic:
        header = header_of_field(row)
    else:
        with open_chosen(row, path, "z" if row.stated_z_step_um else "t") as planes:
            header = planes.header
            planes.check_complete()
    if stored_dtype(header) not in DTYPES:
        raise UserError(f"{path}: its pixels are {header.dtype.name}, and only {', '.join(DTYPES)} can be restored; convert the file.")
    return header


def _check_mosaic_columns(row: Acquisition) -> None:
    if row.is_mosaic and row.target:
        raise UserError(f"{row.input}: a mosaic has no target, because pairs are learned from field by field; empty the column target.")
    if row.is_mosaic or not (row.positions or row.stage_axes or row.flat_field):
        return
    column = next(name for name in ("positions", "stage_axes", "flat_field") if getattr(row, name))
    raise UserError(f"{row.input}: the column {column} is for mosaics; write `mosaic` into the column series, or empty it.")


def _remarks_on(row: Acquisition, mosaic: Mosaic | None) -> list[str]:
    return [] if mosaic is None else [f"{row.acquisition}: {said}" for said in (mosaic.sentence, *mosaic.remarks)]


def _pixel_size(row: Acquisition, header: TiffHeader, state_in: StateIn) -> tuple[float, str]:
    if row.stated_pixel_size_um is not None:
        return row.stated_pixel_size_um, "stated"
    if header.pixel_size_um is None:
        command = f"run `cvdm register {shell_word(row.input)} --pixel-size-um 0.1` if it is 0.1 um"
        state = state_in("stated_pixel_size_um")
        raise UserError(f"{row.input}: the pixel size is not known ({header.pixel_size_reason}); {state}, or {command}.")
    y_um, x_um = header.pixel_size_um
    if abs(y_um / x_um - 1) > SAME_LENGTH:
        raise UserError(f"{row.input}: its pixels are not square ({y_um:.4g} um by {x_um:.4g} um, y and x); resample it to square pixels.")
    return x_um, "metadata"


def _source(written: _Said, found: _Said) -> str:
    """Return where a value is from that a person may write and a file may hold: a person's word stands, and shows where it differs."""
    if not written:
        return "metadata" if found else ""
    return "metadata" if _same(written, found) else "stated"


def _same(written: _Said, found: _Said) -> bool:
    if isinstance(written, str) or isinstance(found, str):
        return str(written).casefold() == str(found).casefold()
    one, other = np.atleast_1d(written or ()), np.atleast_1d(found or ())
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-9, atol=0))  # the sheet holds ten digits


def _assumed(row: Acquisition, header: TiffHeader) -> str:
    pages = f"pages are {'z planes' if row.stated_z_step_um else 'time points'}" if header.undeclared else ""
    return "; ".join(filter(None, (pages, header.metadata.shortfall)))


def _check_pair(row: Acquisition, header: TiffHeader, pixel_size_um: float, wanted: int | None) -> None:
    target = _inspect(row.target, row)
    if target.shape[:3] != header.shape[:3]:
        raise UserError(
            f"{row.target}: this is not the target of {row.input}: it has (times, channels, planes) {target.shape[:3]} "
            f"and the input {header.shape[:3]}; give the right file."
        )
    (rows, columns), found = header.shape[3:], target.shape[3:]
    scale = wanted or max(1, found[0] // rows)
    if found != (rows * scale, columns * scale):
        raise UserError(
            f"{row.target}: this is not the field of {row.input}: with model.scale {scale} an input of {rows} x {columns} pixels asks for "
            f"a target of {rows * scale} x {columns * scale}, and it has {found[0]} x {found[1]}; give the right file, or set model.scale."
        )
    if target.pixel_size_um and abs(target.pixel_size_um[1] * scale / pixel_size_um - 1) > SAME_LENGTH:
        raise UserError(
            f"{row.target}: its pixel size is {target.pixel_size_um[1]:.4g} um, and with model.scale {scale} the input's "
            f"{pixel_size_um:.4g} um asks for {pixel_size_um / scale:.4g} um; correct the one that is wrong, or set model.scale."
        )


def _remarks(row: Acquisition, header: TiffHeader) -> list[str]:
    remarks = []
    if (others := len(header.images) - 1 - len(header.further)) and not row.is_mosaic:
        remarks.append(
            f"{row.input}: {others} further {'image' if others == 1 else 'images'} of another size in it {'is' if others == 1 else 'are'} "
            "not taken; the column series chooses."
        )
    if header.undeclared:
        pages, other = (header.shape[2], "z planes") if row.stated_z_step_um else (header.shape[0], "time points")
        hint = "" if row.stated_z_step_um else "; if they are z planes, fill the column stated_z_step_um"
        remarks.append(f"{row.input}: the file does not say what its {pages} pages are, they are taken for {other}{hint}.")
    if row.stated_pixel_size_um and header.pixel_size_um and abs(header.pixel_size_um[1] / row.stated_pixel_size_um - 1) > SAME_LENGTH:
        stated, found = row.stated_pixel_size_um, header.pixel_size_um[1]
        remarks.append(f"{row.input}: the stated pixel size of {stated:.4g} um is used, although the file says {found:.4g} um.")
    if header.metadata.shortfall:
        remarks.append(f"{row.input}: {header.metadata.shortfall}; if a file of its set is missing, copy it too.")
    facts: tuple[tuple[str, _Said, _Said], ...] = (
        ("na", row.na, header.na),
        ("emission_nm", row.emission_nm, header.emission_nm),
        ("instrument", row.instrument, header.metadata.instrument),
        ("objective", row.objective, header.metadata.objective),
    )
    for what, written, said in facts:
        if written and said and not _same(written, said):
            remarks.append(f"{row.input}: the stated {what} of {written} is used, although the file says {said}.")
    return remarks
