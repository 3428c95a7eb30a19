"""A note of each stage that runs: written at its start and removed at its end. One that stays belongs to a process that was killed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cvdm_core.errors import DiskError, UserError
from cvdm_core.files import write_file


@dataclass(frozen=True)
class Running:
    """Who runs a stage; `began` is the start of the process in clock ticks since the machine's, `job` is SLURM's id, 0 without SLURM."""

    stage: str
    subject: str
    part: str
    host: str
    pid: int
    began: int
    job: int
    started: str

    @property
    def lives_here(self) -> bool | None:
        """Whether its process lives; None if that cannot be seen, because it runs or ran on another machine."""
        if self.host != platform.node():
            return None
        return _began(self.pid) == self.began


def note_name(stage: str, subject: str, part: str) -> str:
    """Return the name of the notes about a stage of a subject; `part` tells several jobs of both apart."""
    return f"{'.'.join(filter(None, (stage, subject, part)))}.json"


def running_path(results: str | Path, stage: str, subject: str, part: str = "") -> Path:
    """Return where the note of a running stage lies."""
    return Path(results) / ".running" / note_name(stage, subject, part)


@contextmanager
def announced(results: str | Path, stage: str, subject: str, part: str = "") -> Iterator[Running]:
    """Keep the note of a running stage for the body, and remove it afterwards, however the body ends; a kill leaves it.

    Under SLURM it also stays where the body was interrupted (SIGTERM): why, only SLURM knows.

    Raises
    ------
    UserError
        If another process of this machine is at the same work: both would write the same files.
    """
    path = running_path(results, stage, subject, part)
    other = _read(path)
    if other is not None and other.lives_here and other.pid != os.getpid():
        raise UserError(
            f"{path}: process {other.pid} on {other.host} is at this work since {other.started}; wait until it has ended, or end it, then "
            "run the same command again."
        )
    job = os.environ.get("SLURM_JOB_ID", "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mine = Running(stage, subject, part, platform.node(), os.getpid(), _began(os.getpid()), int(job) if job.isdecimal() else 0, now)
    with suppress(DiskError):  # the stage itself will say so
        write_file(path, json.dumps(asdict(mine)) + "\n")
    try:
        yield mine
    except (KeyboardInterrupt, SystemExit):
        if not mine.job:
            path.unlink(missing_ok=True)
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def announcements(results: str | Path) -> dict[Path, Running]:
    """Return the notes of all stages that run or were killed; one that cannot be read is left out."""
    found = {}
    for path in sorted((Path(results) / ".running").glob("*.json")):
        if (who := _read(path)) is not None:
            found[path] = who
    return found


def _read(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # removed meanwhile, or cut off by a full disk
        return None


def _began(pid: int) -> int:
    """Return when a process of this machine began, which tells it from a later one of the same number; 0 where it does not live."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if state in "ZX" else int(rest[18])  # ended, and only not yet cleared away
    except (OSError, ValueError, IndexError):
        return 0
