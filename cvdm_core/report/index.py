"""The page over all acquisitions: what came out, what did not, why, and what to do.

This page is read when something went wrong, so nothing that is missing or damaged may keep it from being written: each acquisition is
looked at for itself, and what could not be read is said in its place.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from cvdm_core import paths
from cvdm_core.acquisitions.ledger import Entry, ledger_file, read_entries
from cvdm_core.acquisitions.refusals import refusals_file
from cvdm_core.cluster.aftermath import recent_mishaps, settle
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.records.receipts import read_json
from cvdm_core.report.card import CardFacts, read_card, seconds_of
from cvdm_core.report.metrics import signed
from cvdm_core.report.nights import last_nights, trends
from cvdm_core.report.page import render
from cvdm_core.routing import Routes, find_routes
from cvdm_core.sheet import Acquisition, Unusable, read_rows

SHOWN = 200
"""Cards with pictures at most: the newest. Thousands would make a page of tens of megabytes."""


@dataclass(frozen=True)
class Failure:
    """What a stage that failed left in writing."""

    stage: str
    subject: str
    kind: str
    message: str
    when: str


@dataclass(frozen=True)
class Card:
    """One acquisition on the page; `config` is the one that it is restored with."""

    row: Acquisition
    config: Config
    route: str
    state: str
    detail: str
    link: str
    facts: CardFacts
    failures: tuple[Failure, ...]
    pair: Pair | None
    mosaic: tuple[str, ...]

    @property
    def needs_a_look(self) -> bool:
        """Whether there is more to say of it than fits the table of older acquisitions and training data."""
        return (
            bool(self.failures or self.facts.unlike) or len(self.mosaic) > 1 or (self.pair is not None and self.pair.verdict != "aligned")
        )


@dataclass(frozen=True)
class Pair:
    """The training-pair certificate of an acquisition in short: its verdict and its sentence."""

    verdict: str
    sentence: str


def write_index(config: Config) -> Path:
    """Write the page over all acquisitions of the sheet, in its order, and return its path."""
    problems: list[str] = []
    rows: dict[str, Acquisition] = {}
    unusable: list[Unusable] = []
    try:
        rows, unusable = read_rows(config.acquisitions)
    except UserError as error:
        problems.append(str(error))
    try:
        settle(Path(config.results), Path(config.models), rows)
        happened = recent_mishaps(Path(config.results))
    except Exception as error:  # what is noted already must be shown all the same
        happened = []
        problems.append(f"What SLURM says of killed jobs could not be noted ({' '.join(str(error).split())[:200]}).")
    held: list[Entry] = []
    try:
        held = read_held(ledger_file(config.acquisitions))
    except OSError as error:
        problems.append(
            f"{error.filename}: the inbox's ledger cannot be read ({error.strerror}); what waits there for a person is not known."
        )
    refused = [each for each in read_refused(Path(config.acquisitions)) if not _is_mended(rows, each)]
    told = {*(refusal["problem"] for refusal in refused), *(entry.reason for entry in held)}
    problems += [line.problem for line in unusable if line.problem not in told]
    failures = read_failures(Path(config.results) / ".failures")
    routes = find_routes(config, rows.values())
    of: dict[str, list[Failure]] = {}
    for failure in failures:
        of.setdefault(failure.subject, []).append(failure)
    cards = [_card(config, routes, row, of.get(name, [])) for name, row in rows.items()]
    cards.sort(key=lambda card: card.state == "training only")  # people come for what was restored
    newest = {card.row.acquisition for card in [card for card in cards if card.state != "training only"][-SHOWN:]}
    shown = [card for card in cards if card.needs_a_look or card.row.acquisition in newest]
    names = {card.row.acquisition for card in shown}
    page = paths.index_page(config)
    content = render(
        "index.html.j2",
        cards=shown,
        older=[card for card in cards if card.row.acquisition not in names],
        nights=last_nights(config.results),
        trends=trends((card.row, card.facts) for card in cards),
        problems=problems,
        refused=refused,
        held=held,
        other_failures=[failure for failure in failures if failure.subject not in rows],
        happened=happened,
        totals=_totals(config, cards),
        models=sorted({route.model for route in routes.routes.values()}) or [config.model.name],
        unrouted=routes.sentences(),
        sheet=config.acquisitions,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_file(page, content)
    return page


def read_failures(folder: Path) -> list[Failure]:
    """Read the notes of failed stages; a note that cannot be read is listed as such."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            note = read_json(path)
        except (UserError, OSError) as error:
            found.append(Failure("?", path.stem, "unreadable note", str(error), ""))
            continue
        keys = ("stage", "subject", "class", "message", "started")
        found.append(Failure(*(str(note.get(key, "")) for key in keys)))
    return found


def read_held(ledger: Path) -> list[Entry]:
    """Return what arrived in an inbox and waits for a person; what failed in a stage has a note of its own."""
    latest = read_entries(ledger.read_bytes())[0].values() if ledger.exists() else ()
    return [entry for entry in latest if entry.act and not entry.kind]


def read_refused(sheet: Path) -> list[dict[str, str]]:
    """Read the files that `cvdm register` refused: rows with acquisition, file and problem, from beside the sheet."""
    try:
        text = refusals_file(sheet).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return []  # register leaves no such file where it refused nothing
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return [{key: str(row.get(key) or "") for key in ("acquisition", "file", "problem")} for row in rows]


def _is_mended(rows: Mapping[str, Acquisition], refusal: Mapping[str, str]) -> bool:
    """Whether what was refused is a measured row now: somebody mended its line, and `cvdm register` was not needed for it."""
    row = rows.get(refusal["acquisition"])
    return row is not None and row.registered and row.input == refusal["file"]


def _card(config: Config, routes: Routes, row: Acquisition, failures: Sequence[Failure]) -> Card:
    config = routes.configs.get(row.acquisition, config)
    page = paths.report_page(config, row.acquisition)
    unrouted = row.acquisition in routes.problems
    done = not unrouted and page.is_file() and paths.report_receipt(config, row.acquisition).is_file()
    state, detail = ("no model", "") if unrouted and not failures else _state(config, row, failures, done)
    facts = read_card(config, row) if done else CardFacts()
    link = quote(os.path.relpath(page, paths.index_page(config).parent).replace(os.sep, "/")) if done else ""
    route = routes.routes.get(row.acquisition)
    chosen = f"{route.model}, by {' and '.join(route.chosen_by)}" if route and route.chosen_by else ""
    return Card(row, config, chosen, state, detail, link, facts, tuple(failures), _pair(config, row), _mosaic(config, row))


def _pair(config: Config, row: Acquisition) -> Pair | None:
    """Return what the receipt of ingest certifies; None without a target, before ingest, or where the receipt is damaged (verify tells)."""
    if not row.target:
        return None
    try:
        found = read_json(paths.ingest_receipt(config, row.acquisition))["details"]["pair"]
        return Pair(str(found["verdict"]), str(found["sentence"]))
    except (UserError, OSError, KeyError, TypeError):
        return None


def _mosaic(config: Config, row: Acquisition) -> tuple[str, ...]:
    """Return what is to be said of a mosaic: one sentence, then remarks; empty where it is none, or not ingested yet."""
    if not row.is_mosaic:
        return ()
    try:
        found = read_json(paths.ingest_receipt(config, row.acquisition))["details"]["mosaic"]
        return str(found["sentence"]), *map(str, found["remarks"])
    except (UserError, OSError, KeyError, TypeError):
        return ()


def _state(config: Config, row: Acquisition, failures: Sequence[Failure], done: bool) -> tuple[str, str]:
    """Return the state of an acquisition and a few words about it."""
    if failures:
        return "failed", "an older result is kept" if done else ""
    if done:
        return "restored", ""
    if row.split not in config.restore:
        ingested = paths.ingest_receipt(config, row.acquisition).is_file()
        return "training only", "in the training data" if ingested and row.split == "train" else ""
    receipts = {
        "ingested": paths.ingest_receipt(config, row.acquisition),
        "restored": paths.stitch_receipt(config, row.acquisition),
        "measured": paths.evaluate_receipt(config, row.acquisition),
    }
    reached = [word for word, path in receipts.items() if path.is_file()]
    return "not yet", f"{reached[-1]} so far" if reached else ""


def _totals(config: Config, cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Return the run in numbers: states, pixels, computing time, and what was gained on average."""
    states = [card.state for card in cards]
    totals: list[tuple[str, str]] = [
        (state, str(states.count(state))) for state in ("restored", "failed", "no model", "not yet", "training only") if state in states
    ]
    finished = [card for card in cards if card.state == "restored"]
    pixels = sum(math.prod(card.row.restored_shape(card.config.model.scale)) for card in finished)
    if pixels:
        totals.append(("megapixels restored", f"{pixels / 1e6:.3g}"))
    if restoring := sum(card.facts.seconds for card in cards if card.state == "restored"):
        totals.append(("time in restoration jobs", _duration(restoring)))
    if training := seconds_of(paths.train_receipt(config)):
        totals.append(("time of training", _duration(training)))
    if strange := sum(bool(card.facts.unlike) for card in finished):
        totals.append(("unlike the training data", str(strange)))
    gains = [card.facts.gain for card in finished if card.row.split == "test" and card.facts.gain is not None]
    if gains:
        label = f"mean gain in scale-invariant PSNR ({len(gains)} test acquisition{'s' if len(gains) > 1 else ''})"
        totals.append((label, f"{signed(sum(gains) / len(gains), 1)} dB"))
    return totals


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
