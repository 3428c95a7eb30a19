"""Notes of what failed, of which class, and what to do, for the index page and for whoever plans the next night.

Classes: what ended the work decides, and not what somebody guesses afterwards. docs/operator.md says what to do about each.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from cvdm_core.errors import DamagedInputError, DeviceError, DiskError, TimeUpError, UserError
from cvdm_core.files import disk_named, write_file
from cvdm_core.records.running import Running, note_name

FailureClass = Literal["memory", "time", "preempted", "node", "disk", "damaged input", "configuration", "cancelled", "killed", "bug"]
CLASSES: tuple[str, ...] = get_args(FailureClass)
OF_STAGES: set[FailureClass] = {"damaged input", "configuration", "disk", "bug"}
"""Classes that rest on what a stage itself found; the others tell how its process ended."""


def failure_path(results: str | Path, stage: str, subject: str, part: str = "") -> Path:
    """Return where the note of a failed stage lies, for the index page."""
    return Path(results) / ".failures" / note_name(stage, subject, part)


def write_failure(results: str | Path, who: Running, kind: FailureClass, message: str) -> None:
    """Leave the note of a failed stage, and a line in the log of all failures.

    Raises
    ------
    DiskError
        If there is no space, or no permission, for it.
    """
    content = _content(who, kind, message)
    write_file(failure_path(results, who.stage, who.subject, who.part), json.dumps(content, indent=1, sort_keys=True) + "\n")
    log_failure(results, who, kind, message)


def log_failure(results: str | Path, who: Running, kind: FailureClass, message: str) -> None:
    """Leave a line in the log of all failures, and no note: where SLURM may know better why, and is asked later.

    Raises
    ------
    DiskError
        If there is no space, or no permission, for it.
    """
    content = _content(who, kind, message)
    log = _log(results)
    with disk_named(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(content, sort_keys=True) + "\n")


def _content(who: Running, kind: FailureClass, message: str) -> dict[str, object]:
    about = {name: getattr(who, name) for name in ("stage", "subject", "part", "host", "pid", "job", "started")}
    return {**about, "class": kind, "message": message}


def outlives(note: Path, job: int) -> bool:
    """Whether a note is there that the bad end of a SLURM job does not replace.

    It is of that job or a later one, was written outside of SLURM, or holds what only a stage can know.
    """
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        by_stage = content["class"] in OF_STAGES and content["pid"] > 0
        return by_stage or content["job"] is None or int(content["job"]) >= job
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def classes_of_jobs(results: str | Path) -> dict[int, str]:
    """Return the class of the last failure of each SLURM job, also of those that a later attempt made good."""
    try:
        lines = _log(results).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # a line that a kill or a full disk cut off
            content = json.loads(line)
            found[int(content["job"])] = str(content["class"])
    return found


def _log(results: str | Path) -> Path:
    """Return the file to which every failure adds a line; nothing is taken from it."""
    return Path(results) / ".failures" / "all.jsonl"


def judge(error: BaseException) -> tuple[FailureClass, str]:
    """Return the class of an error that ended a stage, and what to say."""
    match error:
        case DiskError():
            return "disk", str(error)
        case DeviceError():
            return "node", str(error)
        case TimeUpError():
            return "time", str(error)
        case DamagedInputError():
            return "damaged input", str(error)
        case UserError():
            return "configuration", str(error)
        case KeyboardInterrupt() | SystemExit():
            return "cancelled", "The stage was stopped from outside; run the workflow again and it goes on."
        case _ if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            return "memory", f"{error}; give the job more memory, or lower sampling.tile or training.batch."
        case OSError():
            return "disk", f"{error}; check space and permissions, then run the workflow again."
    return "bug", f"{type(error).__name__}: {error}; the log has the traceback, please report it."
