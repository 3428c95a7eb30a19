"""Failures of which no stage could leave word: its process was killed, or SLURM never started it. They become notes like all others."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from cvdm_core.cluster.history import DONE, FAILED, RESTARTABLE, JobState, latest, note, read, run_files
from cvdm_core.cluster.status import LASTED, states_for_plugin
from cvdm_core.cluster.verdict import ASK_DOCTOR, mishaps, refused, rule_of, subject_of, verdict
from cvdm_core.errors import UserError
from cvdm_core.paths import receipts_of
from cvdm_core.records.failures import FailureClass, classes_of_jobs, failure_path, outlives, write_failure
from cvdm_core.records.receipts import read_json
from cvdm_core.records.running import Running, announcements
from cvdm_core.workload import STAGES_OF


def settle(results: Path, models: Path, names: Iterable[str]) -> None:
    """Write a failure note for each stage that was killed, and for each job that ended badly without one; once for each.

    `names` are the acquisitions of the sample sheet. What still runs, or may be started again by SLURM, is left as it is, and so is what
    was killed after its receipt was written: its work is done, no further attempt will come, and no success would take the note away.
    """
    files = run_files()
    for path in files:
        if any(not state.ended for state in latest(read(path)).values()):
            states_for_plugin(path.stem, path)
    last: dict[int, JobState] = {}
    for path in files:
        last |= latest(read(path))
    said = classes_of_jobs(results)
    for path, who in announcements(results).items():
        judged = _judged(who, last.get(who.job) if who.job else None, told_to_end=said.get(who.job) == "cancelled")
        if judged:
            if not any(receipt.get("started") == who.started for receipt in _receipts(results, models, who.stage, who.subject, who.part)):
                write_failure(results, who, *judged)
            path.unlink(missing_ok=True)
    known = list(names)
    for path in files:
        _settle_run(results, models, path, known)


def recent_mishaps(results: Path, days: float = 1) -> list[str]:
    """Return a sentence for each job of the last runs that was done only after it had gone wrong, in the same run or in an earlier one."""
    states = [state for path in run_files(days) for state in read(path)]
    return mishaps(sorted(states, key=attrgetter("time")), classes_of_jobs(results))


def _judged(who: Running, state: JobState | None, told_to_end: bool) -> tuple[FailureClass, str] | None:
    """Return class and sentence of a stage that left without a word, or None where it may still run."""
    if state is not None and not _over(state):
        return None
    if state is None or state.state == DONE:
        # Another machine's, or not one of ours: nothing can be said of it.
        if who.lives_here is not False:
            return None
        return "killed", (
            f"Its process {who.pid} on {who.host} was killed without a word, most often for want of memory; run again and it goes on."
        )
    kind, sentence = verdict(state)
    if kind != "bug":
        return kind, sentence
    if told_to_end:
        return "cancelled", f"SLURM job {who.job} on {who.host} was told to end (SIGTERM), and not by SLURM; run again and it goes on."
    # The stage would have said so itself if it had failed by itself.
    return "killed", (
        f"Its process on {who.host} (SLURM job {who.job}) was killed without a word, most often by the kernel for want of memory; "
        "run again and it goes on."
    )


def _receipts(results: Path, models: Path, stage: str, subject: str, part: str) -> list[dict[str, Any]]:
    """Return what the receipts of a stage say; a damaged one is told by whoever needs it."""
    found = []
    for path in receipts_of(results, models, stage, subject, part):
        with suppress(UserError):
            found.append(read_json(path))
    return found


def _settle_run(results: Path, models: Path, path: Path, names: list[str]) -> None:
    """Write the notes that are missing for one run of the driver, and mark its jobs as looked at.

    A note stands under the last stage of its job: only a success of the stage that a note names takes it away. Of several attempts the last
    one counts, also where an earlier driver or night sent the others. A job that had written its receipt was done before it ended badly.
    """
    states = read(path)
    looked_at = {(state.job, state.time) for state in states if state.settled}
    # By time, because a state that was looked at is written once more: a later attempt may still run, or have been done since.
    by_time = sorted(states, key=attrgetter("time"))
    # An attempt that asked for more than any node has says nothing of why there had to be one.
    never_ran = {state.job for state in states if refused(state)}
    too_much = {state.comment: state for state in by_time if state.job in never_ran}
    final = too_much | {state.comment: state for state in by_time if state.job not in never_ran}
    bad = [state for state in final.values() if state.state in FAILED and _over(state) and (state.job, state.time) not in looked_at]
    done = []
    for state in bad:
        rule, (subject, part) = rule_of(state.comment), subject_of(state.comment, names)
        stages = STAGES_OF.get(rule, (rule,))
        receipts = _receipts(results, models, stages[-1], subject, part)
        if any(receipt.get("job", {}).get("slurm_job_id") == str(state.job) for receipt in receipts):
            done.append(JobState(state.job, DONE, state.comment))
            continue
        older = [failure_path(results, stage, subject, part) for stage in stages]
        if not any(outlives(failure, state.job) for failure in older):
            for failure in older:
                failure.unlink(missing_ok=True)
            began = datetime.fromtimestamp(state.time, UTC).isoformat(timespec="seconds")
            who = Running(stages[-1], subject, part, state.facts.get("BatchHost", ""), 0, 0, state.job, began)
            kind, sentence = verdict(state)
            if state.comment in too_much and kind != "configuration":
                sentence += f" A further attempt asked for more than SLURM grants; {ASK_DOCTOR}"
            write_failure(results, who, kind, sentence)
    note(path, [*(replace(state, settled=True) for state in bad), *done])


def _over(state: JobState) -> bool:
    return state.ended and not (state.state in RESTARTABLE and time.time() - state.time < LASTED)
