"""What came of a run: which acquisitions were finished, which failed, and how long GPUs worked for them, from receipts and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from cvdm_core import paths
from cvdm_core.acquisitions.progress import Failed
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.records.failures import failure_path
from cvdm_core.records.nights import StageFailure, read_nights
from cvdm_core.records.receipts import read_json
from cvdm_core.report.card import read_card
from cvdm_core.routing import Router
from cvdm_core.sheet import Acquisition

PASSING = ("cancelled", "killed", "preempted", "time")
"""Classes of failures for which nobody must act: the next run goes on. In two nights one after the other they are not passing."""
STOPPED = ("cancelled", "preempted")
"""Classes of what others ended, often we at the deadline: they say nothing of how far the next run comes."""
NIGHTS = 14
"""Nights that are looked back on."""
SKEW_S = 120.0
"""By how much the clock of a node may be behind ours."""


@dataclass(frozen=True)
class Outcome:
    """What came of the acquisitions that were to run.

    The fields are those of `Night`; `notes` is for the ledger, and `unlike` names those of `restored` whose model knows no such inputs.
    """

    restored: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    failed: tuple[StageFailure, ...] = ()
    notes: Mapping[str, Failed] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    megapixels: float = 0.0
    unlike: tuple[str, ...] = ()


def stamps(config: Config, rows: Mapping[str, Acquisition], names: Iterable[str]) -> dict[str, int]:
    """Return when the reports of acquisitions were made [ns], of those that have one."""
    router = Router(config)
    found = {name: paths.report_receipt(router.configuration(rows[name]), name) for name in names if name in rows}
    return {name: path.stat().st_mtime_ns for name, path in found.items() if path.is_file()}


def outcome(config: Config, rows: Mapping[str, Acquisition], names: Iterable[str], before: Mapping[str, int], since: float) -> Outcome:
    """Return what came of the acquisitions `names`.

    Parameters
    ----------
    rows
        From `to_restore`.
    before
        From `stamps`, before the run.
    since
        When the run began [seconds since 1970].
    """
    wanted = list(names)
    earlier = _failed_last(config.results)
    notes = {
        path: _again(failure) if (failure.subject, failure.stage) in earlier and _is_of(path, since) else failure
        for path, failure in failure_notes(config, {*wanted, config.model.name})
    }
    failed = tuple(notes.values())
    broken = {failure.subject for failure in failed}
    after = stamps(config, rows, wanted)
    restored = tuple(name for name in wanted if name not in broken and after.get(name, 0) != before.get(name, 0))
    unfinished = tuple(name for name in wanted if name not in broken and name not in restored)
    receipts = [paths.train_receipt(config)]
    router = Router(config)
    configs = {name: router.configuration(rows[name]) for name in wanted if name in rows}
    for name, own in configs.items():
        receipts += sorted((paths.restored_folder(own, name) / "blocks").glob("*.json"))
    return Outcome(
        restored=restored,
        unfinished=unfinished,
        failed=failed,
        notes={note.subject: Failed(note.kind, note.message, path, note.act) for path, note in notes.items() if note.subject in rows},
        gpu_seconds=sum(_gpu_seconds(path, since) for path in receipts),
        megapixels=sum(prod(rows[name].restored_shape(configs[name].model.scale)) for name in restored if name in configs) / 1e6,
        unlike=tuple(name for name in restored if name in configs and read_card(configs[name], rows[name]).unlike),
    )


def failure_notes(config: Config, subjects: set[str]) -> Iterator[tuple[Path, StageFailure]]:
    """Give the notes of failed stages of `subjects`; one that cannot be read is left to the index page."""
    folder = failure_path(config.results, "", "x").parent
    for path in sorted(folder.glob("*.json")):
        try:
            note = read_json(path)
        except (UserError, OSError):
            continue
        subject, stage, kind, message = (str(note.get(key, "")) for key in ("subject", "stage", "class", "message"))
        if subject in subjects:
            yield path, StageFailure(subject=subject, stage=stage, kind=kind, message=message, act=kind not in PASSING)


def failing(config: Config, subjects: set[str]) -> set[str]:
    """Return which of `subjects` have failed, and not got on since, so that a person must act, now or in one of the last nights."""
    asked = {(failure.subject, failure.stage) for night in read_nights(config.results, NIGHTS) for failure in night.failed if failure.act}
    return {
        failure.subject
        for _, failure in failure_notes(config, subjects)
        if failure.kind not in STOPPED and (failure.act or (failure.subject, failure.stage) in asked)
    }


def _failed_last(results: str) -> set[tuple[str, str]]:
    """Return subject and stage of what failed in the last night that ran anything."""
    nights = (night for night in read_nights(results, NIGHTS) if night.restored or night.unfinished or night.failed)
    return {(failure.subject, failure.stage) for night in islice(nights, 1) for failure in night.failed}


def _is_of(note: Path, since: float) -> bool:
    """Whether a note was written after `since`: one of before lies there until its stage has run again."""
    return note.stat().st_mtime > since - SKEW_S


def _again(failure: StageFailure) -> StageFailure:
    if failure.act or failure.kind in STOPPED:
        return failure
    message = f"{failure.message} It failed in the night before as well: a person must look why."
    return failure.model_copy(update={"message": message, "act": True})


def _gpu_seconds(path: Path, since: float) -> float:
    """Return how long a stage that began after `since` worked on a GPU; 0 where it had none, or there is no such receipt."""
    try:
        receipt = read_json(path)
        usage: Any = receipt.get("usage") or {}
        began = datetime.fromisoformat(str(receipt["started"])).timestamp()
        return float(usage["seconds"]) if usage.get("peak_gpu_memory_mb") is not None and began > since - SKEW_S else 0.0
    except (UserError, OSError, KeyError, ValueError, TypeError, AttributeError):
        return 0.0
