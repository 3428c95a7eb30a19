"""The last nights on the index page, and how quality went over time for each instrument."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from statistics import median

from markupsafe import Markup

from cvdm_core.records.nights import Night, read_nights
from cvdm_core.report import figures
from cvdm_core.report.card import CardFacts
from cvdm_core.sheet import Acquisition

NIGHTS = 14
LISTED = 100
"""Acquisitions that are named as deferred or shortened; `nights.jsonl` names all."""
INSTRUMENTS = 5
"""Instruments that have a line of their own in a chart: those with the most acquisitions."""
UNKNOWN = "no instrument given"
CHARTS = (
    ("rsp", "RSP of the restored image"),
    ("gain", "gain in scale-invariant PSNR over the input [dB]"),
)


@dataclass(frozen=True)
class NightLine:
    """One night as a line of the table."""

    when: str
    verdict: str
    good: bool
    restored: int
    failures: str
    unfinished: int
    deferred: int
    reduced: int
    gpu_hours: str
    megapixels: str


@dataclass(frozen=True)
class Nights:
    """The table of the last nights, the latest first; `waiting` and `shortened` are what the latest one put off or shortened."""

    lines: tuple[NightLine, ...]
    waiting: tuple[tuple[str, str], ...]
    shortened: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def last_nights(results: str | Path) -> Nights:
    """Return the last nights for the page; nothing where there was none."""
    nights = read_nights(results, NIGHTS)
    latest = nights[0] if nights else None
    waiting = tuple(latest.deferred.items())[:LISTED] if latest else ()
    shortened = tuple((name, f"{count} of {of} samples") for name, (count, of) in latest.reduced.items())[:LISTED] if latest else ()
    return Nights(tuple(map(_line, nights)), waiting, shortened, latest.problems + latest.remarks if latest else ())


def _line(night: Night) -> NightLine:
    verdicts = ("nothing to do", "a person must act", "could not run")
    classes = Counter({failure.subject: failure.kind for failure in night.failed}.values())
    return NightLine(
        when=_local(night.started),
        verdict=verdicts[min(max(night.status, 0), 2)],
        good=night.status == 0,
        restored=len(night.restored),
        failures=", ".join(f"{count} {kind}" for kind, count in classes.most_common()),
        unfinished=len(night.unfinished),
        deferred=len(night.deferred),
        reduced=len(night.reduced),
        gpu_hours=f"{night.gpu_seconds / 3600:.1f}",
        megapixels=f"{night.megapixels:,.0f}",
    )


def _local(moment: str) -> str:
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return moment


def trends(cards: Iterable[tuple[Acquisition, CardFacts]]) -> list[Markup]:
    """Return a chart for each quality figure that was measured on two days or more: medians of a day, a line for each instrument."""
    days: dict[str, dict[str, dict[date, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row, card in cards:
        try:
            day = datetime.fromisoformat(card.measured).date()
        except ValueError:
            continue
        values = dict(card.quality) | ({} if card.gain is None else {"gain": card.gain})
        for name, value in values.items():
            days[name][row.instrument or UNKNOWN][day].append(value)
    drawn = []
    for name, label in CHARTS:
        most = sorted(days[name].items(), key=lambda item: -sum(map(len, item[1].values())))[:INSTRUMENTS]
        lines = {instrument: [(day, median(values)) for day, values in sorted(of.items())] for instrument, of in most}
        chart = figures.trend(lines, label)
        if chart is not None:
            drawn.append(chart)
    return drawn
