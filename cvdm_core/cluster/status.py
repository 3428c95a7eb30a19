"""The answer to the question that Snakemake's SLURM plugin asks all the time: in which state are the jobs of this run?

Version 2.8.0 of the plugin waits for ever in five cases, and each has its cure here:

* the controller does not answer (a restart): after five failures within milliseconds the plugin forgets all its jobs. It is told of no job
  in place of an error, and asks again later;
* a job ends PREEMPTED or NODE_FAIL and SLURM does not start it again: once that state has lasted, the plugin is told FAILED;
* SLURM has forgotten a job, or says `CANCELLED by 0`: accounting is asked where there is one; a job that nobody knows any more has FAILED;
* SLURM puts a job back into the queue and holds it there, most often because the node's prolog failed: it is cancelled, and has FAILED. A
  person's hold is left alone;
* while the controller is away the plugin asks sacct: it gets the same answer.

None of the answers needs the disk, so that a full one makes no job forgotten either.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cvdm_core.cluster.commands import run
from cvdm_core.cluster.history import FAILED, FORGOTTEN, HELD, RESTARTABLE, JobState, latest, read, try_to_note

SECONDS = 40  # the plugin gives up after 60
LASTED = 30.0
"""A job that stays preempted for so many seconds is not started again: SLURM puts it back into the queue as soon as its processes end."""
WAITING = ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT")
HOLDS = ("launch failed requeued held", "job requeued in held state", "job requeued in special exit state", "JobHoldMaxRequeue")
"""What SLURM says of a job that it put back and that nobody starts unless a person comes; JobHeldUser and JobHeldAdmin are a person's."""
FACTS = (
    "ExitCode",
    "DerivedExitCode",
    "Reason",
    "Restarts",
    "TimeLimit",
    "RunTime",
    "MinMemoryNode",
    "MinMemoryCPU",
    "BatchHost",
    "StdOut",
)
LOG_BYTES = 65536
LOG_LINES = re.compile(
    r"(?:slurmstepd|srun|sbatch)[^:\s]*: error: .*|.*\bDUE TO\b.*|.*[Oo]ut [Oo]f [Mm]emory.*|.*No space left on device.*"
    r"|.*Permission denied.*|.*Read-only file system.*"
)


class Queued(NamedTuple):
    """What the queue shows of a job; `reason` says why it waits."""

    state: str
    reason: str
    comment: str


def states_for_plugin(name: str, path: Path) -> dict[int, str]:
    """Return the state of each job of a run in words that the plugin knows; empty where the controller does not answer.

    What is new is added to the run's file `path`.
    """
    queued = in_queue(f"--name={name}")
    if queued is None:
        return {}
    try:
        before = latest(read(path))
    except OSError:
        # What the queue shows is true. Of what it does not show nothing can be said before the file can be read again.
        return {job: for_plugin(state, None) for job, (state, _, _) in queued.items()}
    held = _end_held(queued)
    known = {job: state.comment for job, state in before.items()} | {job: each.comment for job, each in queued.items()}
    now = {job: state.state if state.ended else FORGOTTEN for job, state in before.items()}
    now |= {job: each.state for job, each in queued.items() if now.get(job) != HELD}
    now |= accounted(job for job, state in now.items() if state == FORGOTTEN)
    now |= dict.fromkeys(held, HELD)
    changed = {job: state for job, state in now.items() if job not in before or before[job].state != state}
    try_to_note(path, (JobState(job, state, known[job], facts=_facts(job, state, held)) for job, state in changed.items()))
    return {job: for_plugin(state, before.get(job)) for job, state in now.items()}


def for_plugin(state: str, before: JobState | None) -> str:
    """Translate a state; `before` is the one that was noted last."""
    if state in RESTARTABLE:
        lasted = before is not None and before.state == state and time.time() - before.time > LASTED
        return "FAILED" if lasted else "PENDING"
    return "FAILED" if state in (FORGOTTEN, HELD) else state


def in_queue(*which: str) -> dict[int, Queued] | None:
    """Return the jobs that squeue shows, finished ones too; None where the controller does not answer."""
    try:
        done = run("squeue", "--noheader", "--states=all", "--format=%A|%T|%r|%k", *which, seconds=SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    rows = [line.split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 3]
    return {int(job): Queued(*rest) for job, *rest in rows}


def _end_held(queued: Mapping[int, Queued]) -> dict[int, str]:
    """Cancel the jobs that SLURM put back and holds, and return its reasons; nothing where that fails, and they are looked at again."""
    held = {job: reason for job, each in queued.items() if each.state in WAITING and (reason := each.reason.replace("_", " ")) in HOLDS}
    if not held:
        return {}
    try:
        done = run("scancel", *map(str, held), seconds=SECONDS / 4)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    return held if done.returncode == 0 else {}


def accounted(jobs: Iterable[int]) -> dict[int, str]:
    """Return the states of jobs that accounting knows; nothing where there is no accounting."""
    ids = ",".join(map(str, jobs))
    if not ids:
        return {}
    try:
        done = run("sacct", "-X", "--noheader", "--parsable2", "--format=JobIDRaw,State", "-j", ids, seconds=SECONDS / 4)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    rows = [line.split("|", 1) for line in done.stdout.splitlines() if "|" in line]
    # `CANCELLED by 0` names who did it.
    return {int(job): state.split()[0] for job, state in rows if job.isdigit() and state} if done.returncode == 0 else {}


def _facts(job: int, state: str, held: Mapping[int, str]) -> dict[str, str]:
    facts = facts_of(job) if state in FAILED else {}
    return {**facts, "Reason": held[job]} if job in held else facts


def facts_of(job: int) -> dict[str, str]:
    """Return what SLURM says of a job that went wrong, with the last words of its log; what it does not say is left out."""
    try:
        done = run("scontrol", "show", "job", "--details", "--oneliner", str(job), seconds=SECONDS / 4)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return {}
    values = dict(re.findall(r"(\w+)=(.*?)(?=\s+\S+=|\s*$)", done.stdout))
    facts = {key: values[key] for key in FACTS if values.get(key, "(null)") not in ("(null)", "")}
    words = last_words(Path(facts["StdOut"])) if "StdOut" in facts else ""
    return {**facts, "log": words} if words else facts


def last_words(log: Path) -> str:
    """Return what SLURM itself, and the system, wrote at the end of a job's log."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(line.strip() for line in LOG_LINES.findall(text)[-4:])[:600]


def printed(states: Mapping[int, str]) -> str:
    """Return states as the plugin reads them."""
    return "".join(f"{job}|{state}\n" for job, state in states.items())
