"""The page over all acquisitions: what came out, what did not, why, and what to do.

This page is read when something went wrong, so nothing that is missing or damaged may keep it from being written: each acquisition is
looked at for itself, and what could not be read is said in its place.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np

from cvdm_core import paths
from cvdm_core.acquisitions.refusals import refusals_file
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.records.receipts import read_json
from cvdm_core.report import tables
from cvdm_core.report.page import render
from cvdm_core.report.pictures import ScaleBar, display_shape, match, png_uri, resize, scale_bar, window
from cvdm_core.report.planes import find_sources, open_plane, read_field
from cvdm_core.sheet import Acquisition, read_sheet

THUMBNAIL = 128  # longer side [pixels]


@dataclass(frozen=True)
class Failure:
    """What a stage that failed left in writing."""

    stage: str
    subject: str
    kind: str
    message: str
    when: str


@dataclass(frozen=True)
class Thumbnail:
    """Left half input, right half restored."""

    src: str
    width: int
    height: int
    bar: ScaleBar


@dataclass(frozen=True)
class Card:
    """One acquisition on the page."""

    row: Acquisition
    state: str
    detail: str
    link: str
    thumbnail: Thumbnail | None
    figures: tuple[tables.KeyFigure, ...]
    failures: tuple[Failure, ...]
    gain: float
    problem: str
    pair: Pair | None
    mosaic: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """The training-pair certificate of an acquisition in short: its verdict and its sentence."""

    verdict: str
    sentence: str


def write_index(config: Config) -> Path:
    """Write the page over all acquisitions of the sheet, in its order, and return its path."""
    failures = read_failures(Path(config.results) / ".failures")
    problems: list[str] = []
    rows: dict[str, Acquisition] = {}
    try:
        rows = read_sheet(config.acquisitions)
    except UserError as error:
        problems.append(str(error))
    cards = [_card(config, row, [failure for failure in failures if failure.subject == name]) for name, row in rows.items()]
    cards.sort(key=lambda card: card.state == "training only")  # people come for what was restored
    page = paths.index_page(config)
    content = render(
        "index.html.j2",
        cards=cards,
        problems=problems,
        refused=read_refused(Path(config.acquisitions)),
        other_failures=[failure for failure in failures if failure.subject not in rows],
        totals=_totals(config, cards),
        model=config.model.name,
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


def read_refused(sheet: Path) -> list[dict[str, str]]:
    """Read the files that `cvdm register` refused: rows with acquisition, file and problem, from beside the sheet."""
    try:
        text = refusals_file(sheet).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return []  # register leaves no such file where it refused nothing
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return [{key: str(row.get(key) or "") for key in ("acquisition", "file", "problem")} for row in rows]


def _card(config: Config, row: Acquisition, failures: Sequence[Failure]) -> Card:
    page = paths.report_page(config, row.acquisition)
    done = page.is_file() and paths.report_receipt(config, row.acquisition).is_file()
    state, detail = _state(config, row, failures, done)
    thumbnail: Thumbnail | None = None
    figures: tuple[tables.KeyFigure, ...] = ()
    gain, problems = math.nan, []
    if done:
        try:
            thumbnail = _thumbnail(config, row)
        except Exception as error:  # the page must be written whatever a damaged store raises; the reader is told
            problems.append(f"The picture could not be read ({_short(error)}); run `cvdm verify` to see what is damaged.")
        try:
            frame = tables.read_metrics(paths.restored_folder(config, row.acquisition) / "metrics.tsv")
            figures = tuple(tables.key_figures(frame, math.nan)[:3])
            before, after = tables.before_after(frame, "psnr_si")
            gain = after - before
        except Exception as error:
            problems.append(f"The metrics could not be read ({_short(error)}).")
    link = quote(os.path.relpath(page, paths.index_page(config).parent).replace(os.sep, "/")) if done else ""
    return Card(
        row, state, detail, link, thumbnail, figures, tuple(failures), gain, " ".join(problems), _pair(config, row), _mosaic(config, row)
    )


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


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


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


def _thumbnail(config: Config, row: Acquisition) -> Thumbnail:
    """Draw the first channel of the input and of the restored image, half and half, in one display window."""
    sources = find_sources(config, row)
    whole = open_plane(*sources.of("restored"), 0)
    shape = display_shape((whole.shape[0], whole.shape[1]), THUMBNAIL)
    shrinks = whole.shape[0] / shape[0]
    restored, raw = (read_field(sources, kind, 0, shape, shrinks) for kind in ("restored", "input"))
    picture = np.where(np.arange(shape[1]) < shape[1] // 2, match(raw, restored)(raw), restored)
    bar = scale_bar(whole.shape[1] * whole.attrs["pixel_size_um"][1], share=0.4)
    return Thumbnail(png_uri(resize(picture, shape), window(restored), levels=64), shape[1], shape[0], bar)


def _totals(config: Config, cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Return the run in numbers: states, pixels, computing time, and what was gained on average."""
    states = [card.state for card in cards]
    totals: list[tuple[str, str]] = [
        (state, str(states.count(state))) for state in ("restored", "failed", "not yet", "training only") if state in states
    ]
    finished = [card.row for card in cards if card.state == "restored"]
    pixels = sum(math.prod(row.restored_shape(config.model.scale)) for row in finished)
    if pixels:
        totals.append(("megapixels restored", f"{pixels / 1e6:.3g}"))
    seconds = {name: _seconds(path) for name, path in _receipts(config, finished)}
    if restoring := sum(value for name, value in seconds.items() if name != "train"):
        totals.append(("time in restoration jobs", _duration(restoring)))
    if seconds.get("train"):
        totals.append(("time of training", _duration(seconds["train"])))
    gains = [card.gain for card in cards if card.state == "restored" and math.isfinite(card.gain)]
    if gains:
        label = f"mean gain in PSNR over the input ({len(gains)} with truth)"
        totals.append((label, f"{tables.signed(sum(gains) / len(gains), 1)} dB"))
    return totals


def _receipts(config: Config, rows: Sequence[Acquisition]) -> list[tuple[str, Path]]:
    found = [("train", paths.train_receipt(config))]
    for row in rows:
        folder = paths.restored_folder(config, row.acquisition)
        receipts = [paths.ingest_receipt(config, row.acquisition), *sorted(folder.glob("blocks/*.json")), *sorted(folder.glob("*.json"))]
        found += [(str(path), path) for path in receipts]
    return found


def _seconds(path: Path) -> float:
    """Return how long the stage of a receipt took; 0 where the receipt is missing or damaged (verify tells)."""
    try:
        return float(read_json(path).get("seconds", 0.0))
    except (UserError, OSError, TypeError, ValueError):
        return 0.0


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
