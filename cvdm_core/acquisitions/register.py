"""Registration: from TIFF files to measured rows of the sample sheet, from which every later job is planned.

Every row's header is read anew, but for ingested rows whose files were taken away. Good rows are written; whatever is refused costs
nobody else anything: a row that stood in the sheet stays there unmeasured (so that nothing is planned for it), a line that is no row stays
in its place and keeps its name and files, a new file is left out, and each refusal is printed, kept beside the sheet for the index page
(see `earlier`), and makes the command end with an error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import track

from cvdm_core.acquisitions.added import NOTHING_SAID, Added
from cvdm_core.acquisitions.arrivals import Folders
from cvdm_core.acquisitions.candidates import Candidate, find_candidates
from cvdm_core.acquisitions.draft import Draft, identity
from cvdm_core.acquisitions.earlier import still_refused
from cvdm_core.acquisitions.measure import UNMEASURED, knows, measure
from cvdm_core.acquisitions.positions import split_positions, whole_mosaic
from cvdm_core.acquisitions.refusals import Refusal, read_refusals, refusals_file, tell, write_refusals
from cvdm_core.config import Config, Split
from cvdm_core.errors import UserError, shell_word
from cvdm_core.images.sequence import FIELD, is_pattern
from cvdm_core.lock import locked
from cvdm_core.paths import ingest_receipt
from cvdm_core.records.receipts import read_json
from cvdm_core.routing import Router, find_routes
from cvdm_core.sheet import NAME_RULE, Acquisition, Rows, Series, Unusable, clean_name, is_name, read_rows, update_sheet

Measured = dict[Acquisition, tuple[Acquisition, list[str]]]
"""Rows with what was measured of them, and remarks, by the row before."""
RESERVED = ("index.html",)  # stands beside the acquisitions in the folder of results


@dataclass(frozen=True)
class Outcome:
    """What a registration came to: everything refused, what a person should know, what no model restores, and how many are measured."""

    refusals: list[Refusal]
    remarks: list[str]
    unrouted: list[str]
    registered: int


def register(config: Config, paths: Sequence[str | Path], added: Added = NOTHING_SAID) -> None:
    """Add files to the sample sheet, measure every row from the headers of its files, and write the sheet.

    Parameters
    ----------
    config
        Names the sheet (`acquisitions`) and the model of each acquisition, whose scale its pair must have.
    paths
        TIFF files, and folders that hold them (see `candidates`); none measures what stands in the sheet. What is registered already
        is not added twice.
    added
        What a person says of them.

    Raises
    ------
    UserError
        After everything has been written, if anything was refused; before, if an option is unusable, the sheet cannot be read, or
        somebody else is writing it.
    """
    path = Path(config.acquisitions)
    with locked(path):
        outcome = add_to_sheet(config, paths, added)
    tell([*outcome.remarks, *outcome.unrouted], outcome.refusals)
    if outcome.refusals:
        count = len(outcome.refusals)
        raise UserError(
            f"{path}: {count} {'acquisition was' if count == 1 else 'acquisitions were'} refused, as told above and in "
            f"{refusals_file(path)}; registered: {outcome.registered}."
        )
    print(f"{path}: registered: {outcome.registered}.")


def add_to_sheet(config: Config, paths: Sequence[str | Path], added: Added = NOTHING_SAID, *, anew: bool = True) -> Outcome:
    """Do the work of `register`, with its parameters, for a caller who holds the sheet's lock and tells the outcome.

    Where `anew` is false, rows that are measured already are left as they are, and their files unopened.
    """
    added.check()
    path = Path(config.acquisitions)
    if not paths:
        read_rows(path)  # says so where there is none
    before = read_refusals(path)
    measured: Measured = {}  # so that beginning anew, where a person has saved the sheet meanwhile, measures nothing twice

    def change(rows: Rows, unusable: list[Unusable]) -> tuple[Rows, tuple[Draft, list[str]]]:
        sheet = _draft(rows, unusable, config, paths, added)
        remarks = _guesses(sheet, {Path(given) for given in paths}) + _measure_all(sheet, config, anew, measured)
        return sheet.rows, (sheet, remarks)

    sheet, remarks = update_sheet(path, change)
    write_refusals(path, [*sheet.refusals, *still_refused(before, sheet, paths)])
    unrouted = find_routes(config, sheet.rows.values()).sentences()
    return Outcome(sheet.refusals, remarks, unrouted, sum(row.registered for row in sheet.rows.values()))


def _draft(rows: Rows, unusable: list[Unusable], config: Config, paths: Sequence[str | Path], added: Added) -> Draft:
    """Return the sheet with what is added, before anything is measured."""
    path = Path(config.acquisitions)
    sheet = Draft(path, rows, unusable, [Refusal(line.acquisition, line.cells.get("input", ""), line.problem, "yes") for line in unusable])
    registered = {file for file, _ in sheet.files} | sheet.held
    candidates, refused = find_candidates([Path(given) for given in paths], lambda path: identity(path) in registered)
    if added.name is not None and len(candidates) + len(refused) != 1:
        raise UserError(f"--name {added.name}: it names one acquisition, and {len(candidates)} were given; leave it out, or give one file.")
    sheet.refusals += refused
    given = {identity(candidate.input) for candidate in candidates} | registered
    for whole in candidates if added.name is None else [replace(candidate, name=added.name) for candidate in candidates]:
        is_mosaic = added.mosaic or FIELD in str(whole.input)
        images = (whole_mosaic if is_mosaic else split_positions)(whole, lambda path: identity(path) in given)
        if isinstance(images, Refusal):
            sheet.refusals.append(images)
            continue
        for candidate in images:
            _add(sheet, candidate, added)
    _refuse_repeated_files(sheet)
    _refuse_leaks(sheet)
    return sheet


def _add(sheet: Draft, candidate: Candidate, added: Added) -> None:
    """Add one candidate to the sheet, or complete the row that holds its input already."""
    wanted = candidate.name
    owner = sheet.owner(candidate.input, candidate.series)
    if owner is not None:
        if added.name is not None and wanted != owner:
            problem = f"{candidate.input}: it is registered already, as `{owner}`; leave out --name {added.name}."
            sheet.refuse(added.name, candidate.input, problem)
        elif identity(sheet.rows[owner].input) == identity(candidate.input):
            _complete(sheet, sheet.rows[owner], candidate, added)
        return
    if not sheet.held.isdisjoint(map(identity, filter(None, (candidate.input, candidate.target)))):  # its line is refused
        return
    problem = _unusable_name(sheet, candidate, wanted) or _unusable_specimen(candidate, added.specimen) or _unusable_path(candidate)
    if problem:
        sheet.refuse(wanted, candidate.input, problem)
        return
    sheet.add(
        Acquisition(
            acquisition=wanted,
            specimen=added.specimen or candidate.specimen or wanted,
            split=cast(Split, added.split),
            instrument=added.instrument,
            input=str(candidate.input),
            target=str(candidate.target or ""),
            series=candidate.series,
            note=candidate.note,
            **_missing_lengths(candidate, added),
        )
    )


def _complete(sheet: Draft, row: Acquisition, candidate: Candidate, added: Added) -> None:
    """Fill into a row that stood in the sheet what has come since: its target, its pixel size and z step."""
    facts: dict[str, Any] = {"target": str(candidate.target or ""), **_missing_lengths(candidate, added)}
    new = {column: value for column, value in facts.items() if value and not getattr(row, column)}
    if new:  # what was measured without them does not hold any more
        sheet.rows[row.acquisition] = row.model_copy(update={**UNMEASURED, **new})


def _missing_lengths(candidate: Candidate, added: Added) -> dict[str, float]:
    """Return what a person says of lengths that the file does not know, by the sheet's column."""
    said = {"stated_pixel_size_um": added.pixel_size_um, "stated_z_step_um": added.z_step_um}
    if not any(said.values()):
        return {}
    try:
        known = dict(zip(said, knows(str(candidate.input)), strict=True))
    except UserError:  # measuring the row says it
        return {}
    return {column: value for column, value in said.items() if value is not None and not known[column]}


def _unusable_name(sheet: Draft, candidate: Candidate, wanted: str) -> str:
    clean = clean_name(wanted)
    command = f"cvdm register {shell_word(str(candidate.input))} --name"
    if not is_name(wanted) or wanted.lower() in RESERVED:
        clean = f"{clean}_1" if clean.lower() in RESERVED else clean
        return f"{candidate.input}: {wanted!r} is no usable name. {NAME_RULE}: `{command} {clean}`."
    other = sheet.names.get(wanted.lower())
    if other is None:
        return ""
    whose = sheet.rows[other].input if other in sheet.rows else f"an unusable line of {sheet.path}"
    return f"{candidate.input}: the name {wanted!r} belongs to {whose} already: `{command} {wanted}_2`."


def _unusable_specimen(candidate: Candidate, specimen: str | None) -> str:
    if specimen is None or is_name(specimen):
        return ""
    return f"{candidate.input}: {specimen!r} is no usable name of a specimen. {NAME_RULE}: `--specimen {clean_name(specimen)}`."


def _unusable_path(candidate: Candidate) -> str:
    for path in filter(None, (candidate.input, candidate.target)):
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in str(path)):  # controls, and bytes that are no UTF-8
            return f"{str(path)!r}: the path holds characters that cannot stand in a table; rename the file."
    return ""


def _refuse_repeated_files(sheet: Draft) -> None:
    first: dict[tuple[Path, Series], Acquisition] = {}
    for row in list(sheet.rows.values()):
        other = first.setdefault((identity(row.input), row.series), row)
        if other is not row:
            problem = f"{row.input}: it is the input of `{other.acquisition}` and of `{row.acquisition}`; remove one row from {sheet.path}."
        elif row.target and identity(row.target) == identity(row.input):
            problem = f"{row.input}: it is named as input and as target of `{row.acquisition}`; correct the row in {sheet.path}."
        else:
            continue
        sheet.refuse_row(row, row.input, problem)


def _refuse_leaks(sheet: Draft) -> None:
    """Refuse rows whose specimen stands in another split further up: a model would be judged on what it was trained on."""
    first: dict[str, Acquisition] = {}
    for row in list(sheet.rows.values()):
        other = first.setdefault(row.specimen.lower(), row)
        if other.split != row.split and row.acquisition not in sheet.refused:
            sheet.refuse_row(
                row,
                row.input,
                f"{row.input}: the specimen `{row.specimen}` stands in the split {other.split} (`{other.acquisition}`) and in {row.split} "
                f"(`{row.acquisition}`); put all of a specimen into one split, or name another --specimen.",
            )


def _measure_all(sheet: Draft, config: Config, anew: bool, measured: Measured) -> list[str]:
    scale_of = Router(config).pair_scale
    console = Console(stderr=True)
    waiting = [row for row in sheet.rows.values() if row.acquisition not in sheet.refused and (anew or not row.registered)]
    folders = Folders()
    ingested = [row for row in waiting if row.registered and _taken_away(config, row, folders)]
    remarks = [f"{row.input}: its files are not there any more; it was ingested before, and its row stays as it is." for row in ingested]
    kept = {row.acquisition for row in ingested}
    waiting = [row for row in waiting if row.acquisition not in kept]
    for row in track(waiting, "reading headers", console=console, transient=True, disable=not console.is_terminal):
        try:
            if row not in measured:
                measured[row] = measure(row, scale_of, _state_in(sheet, row), sheet.path)
            sheet.rows[row.acquisition], said = measured[row]
        except UserError as error:
            sheet.refuse_row(row, row.input, str(error))
        else:
            remarks += said
    return remarks


def _taken_away(config: Config, row: Acquisition, folders: Folders) -> bool:
    """Whether raw files of a measured row are gone, whose pixels were ingested as it stands: a model may be trained on them."""
    try:
        if all(file.exists() for file in folders.files_of([row.input, row.target])):
            return False
    except FileNotFoundError:  # no file of a pattern is left
        pass
    except OSError:  # a closed folder, or a file server that is away: measuring it says so
        return False
    try:
        was = read_json(ingest_receipt(config, row.acquisition))["details"]["row"]
        return bool((was["input"], was["target"]) == (row.input, row.target))
    except (UserError, OSError, KeyError, TypeError):
        return False


def _state_in(sheet: Draft, row: Acquisition) -> Callable[[str], str]:
    def words(column: str) -> str:
        if row.acquisition not in sheet.new:
            return f"state it: put it in micrometres into the column {column} of the row `{row.acquisition}` in {sheet.path}"
        cells = f"acquisition={row.acquisition} specimen={row.specimen} split={row.split} input={row.input}"
        if row.target:
            cells += f" target={row.target}"
        if row.series is not None:
            cells += f" series={row.series}"
        return f"state it: add the line {cells} {column}=<micrometres> to {sheet.path}"

    return words


def _guesses(sheet: Draft, paths: set[Path]) -> list[str]:
    """Tell which new rows hold a pattern that nobody wrote."""
    guessed = [sheet.rows[name].input for name in sheet.new if name in sheet.rows and Path(sheet.rows[name].input) not in paths]
    return [
        f"{pattern}: the files that match are taken for one acquisition; if they are not, remove its row and name the files one by one."
        for pattern in sorted(filter(is_pattern, guessed))
    ]
