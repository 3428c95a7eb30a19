"""A night in words: the message that people get, and what the command prints."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cvdm_core.records.nights import Night

SHOWN = 20
"""Lines of one kind in a message; the index page has all."""


def subject(night: Night, where: str) -> str:
    """Return one line: whether a person must act, and the night in numbers; `where` names the installation."""
    verdict = ("nobody needs to do anything", "a person must act", "THE NIGHT COULD NOT RUN")[night.status]
    return f"cvdm {where}: {verdict} ({numbers(night)})"


def numbers(night: Night) -> str:
    """Return the night in numbers."""
    counts = {
        "restored": len(night.restored),
        "failed": len({failure.subject for failure in night.failed}),
        "unfinished": len(night.unfinished),
        "deferred": len(night.deferred),
        "with fewer samples": len(night.reduced),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to restore"


def text(night: Night, places: Iterable[str], inbox: str) -> str:
    """Return the whole message; `places` are lines that say where more is to be found, and `inbox` is the folder that was looked at."""
    until = f", to be done by {_local(night.until)}" if night.until else ""
    lines = [f"From {_local(night.started)} to {_local(night.ended)}, profile {night.profile}{until}: {numbers(night)}."]
    if night.gpu_seconds or night.megapixels:
        lines.append(f"{night.gpu_seconds / 3600:.1f} GPU hours, {night.megapixels:.0f} megapixels restored.")
    if not inbox and night.status < 2:
        lines.append("No inbox is set (`inbox.folder`); only what stands in the sheet was restored.")
    lines += _part("What needs a person:", night.problems)
    lines += _part("Failed:", [f"{each.subject}, {each.stage}, {each.kind}: {each.message}" for each in night.failed])
    lines += _part("Deferred:", [f"{name}: {reason}" for name, reason in night.deferred.items()])
    lines += _part("With fewer samples:", [f"{name}: {count} of {of}" for name, (count, of) in night.reduced.items()])
    lines += _part("Not finished; they go on the next night:", night.unfinished)
    lines += _part("Remarks:", night.remarks)
    return "\n".join([*lines, "", *places]) + "\n"


def _part(title: str, entries: Iterable[str]) -> list[str]:
    found = list(entries)
    more = [f"- and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return ["", title, *(f"- {entry}" for entry in found[:SHOWN]), *more] if found else []


def _local(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M %Z")
