"""Jobs that a driver left in the queue when it was killed. They are ended before a new driver submits anything.

They are cancelled and not adopted: Snakemake's plugin knows only jobs that it submitted itself, and nothing is lost by it, because every
stage goes on from what it has on disk (finished shards, the saved state of a training).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvdm_core.cluster.commands import real, run, said
from cvdm_core.cluster.history import ENDED, FOLDER
from cvdm_core.errors import UserError

PATIENCE = 600.0
"""Seconds for which a controller that does not answer is asked again."""
ENDING = 300.0
"""Seconds that cancelled jobs may take to end: KillWait is 30 s by default, and a node may be slow."""
PAUSE = 2.0


@dataclass(frozen=True)
class Leftover:
    """A job in the queue, pending, running or ending; `comment` names its rule."""

    job: int
    state: str
    comment: str

    @property
    def named(self) -> str:
        """Id, rule and state, for messages."""
        return f"{self.job} ({self.comment.removeprefix('rule_')}, {self.state})"


def find(folder: Path) -> list[Leftover]:
    """Return the jobs of Snakemake's that were submitted from `folder` and have not ended.

    Raises
    ------
    UserError
        If SLURM's controller does not answer.
    """
    found = []
    for line in said("squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%T|%k|%Z").splitlines():
        job, state, comment, place = line.split("|", 3)
        if comment.startswith(("rule_", "group_")) and Path(place) == folder and state not in ENDED:
            found.append(Leftover(int(job), state, comment))
    return found


def clear(say: Callable[[str], None], folder: Path | None = None) -> list[Leftover]:
    """Cancel the jobs that a dead driver left, wait until they are really gone, and return them.

    The caller holds the driver's lock, so that none of them belongs to a driver that lives. Without SLURM there is nothing to do.

    Raises
    ------
    UserError
        If the controller does not answer for ten minutes, or a job goes on running.
    """
    place = (folder or Path.cwd()).absolute()
    if real("squeue") is None:
        return []
    left = _find_patiently(place, say)
    if not left:
        return []
    say(f"an earlier driver left {len(left)} jobs in the queue; they are cancelled: {', '.join(job.named for job in left)}")
    until = time.monotonic() + ENDING
    remaining = left
    while remaining:
        # Once more for each look: a job that is being requeued can escape the first.
        _cancel(remaining)
        time.sleep(PAUSE)
        remaining = _find_patiently(place, say)
        if time.monotonic() < until:
            continue
        if any(job.state != "COMPLETING" for job in remaining):
            raise UserError(
                f"the jobs {', '.join(job.named for job in remaining)} of an earlier run do not end; cancel them with scancel, or ask the "
                "cluster's administrators, then run the same command again."
            )
        # A node that does not answer: its job can stay like this for days, and stages replace files whole.
        say(f"not waited for any longer, because SLURM only clears up after them: {', '.join(job.named for job in remaining)}")
        break
    return left


def _cancel(jobs: list[Leftover]) -> None:
    going = [str(job.job) for job in jobs if job.state != "COMPLETING"]
    if not going:
        return
    try:
        run("scancel", *going)
    except subprocess.TimeoutExpired:
        return  # looked at again, and cancelled again


def _find_patiently(place: Path, say: Callable[[str], None]) -> list[Leftover]:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return find(place)
        except UserError as error:
            if not FOLDER.is_dir():
                return []  # nothing was ever submitted from here
            if time.monotonic() > until:
                raise
            say(f"{error} Asking again.")
            time.sleep(5 * PAUSE)
