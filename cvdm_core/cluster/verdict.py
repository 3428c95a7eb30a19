"""Why a job ended badly: class and sentence, from SLURM's state, the exit codes, and what SLURM itself wrote into the job's log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cvdm_core.cluster.history import DONE, FORGOTTEN, HELD, REFUSED, SUBMITTED, JobState
from cvdm_core.records.failures import FailureClass

OOM_SIGNAL = "0:125"
"""What SLURM gives as the exit code of a step that the kernel ended for want of memory."""
LOST = r"due to node|unable to confirm allocation|launch failed|slurm_script: no such file"
ASK_DOCTOR = "`cvdm doctor --profile slurm` says what to change."
KILLED = re.compile(r"(?:^|:)(?:9|137)(?::|$)")
MEMORY = r"oom[-_]kill|\boom\b|out[- ]of[- ]memory|exceeded job memory|memory limit"


def verdict(state: JobState) -> tuple[FailureClass, str]:
    """Return the class of a job's bad end, and one sentence with what to do."""
    facts = state.facts
    log = facts.get("log", "").lower()
    codes = (facts.get("ExitCode", ""), facts.get("DerivedExitCode", ""))
    rule = rule_of(state.comment)
    name = f"SLURM job {state.job}" + (f" on {facts['BatchHost']}" if "BatchHost" in facts else "")
    if state.state == REFUSED:
        return "configuration", f"SLURM refused the job ({facts.get('log', '')}); {ASK_DOCTOR}"
    if refused(state):
        return "configuration", f"{name} asked for what no node has (BadConstraints); {ASK_DOCTOR}"
    if state.state == HELD:
        return (
            "node",
            f"{name} was put back into the queue by SLURM and held there ({facts.get('Reason', '?')}), so that it was cancelled; run again "
            "and it goes on; if it happens again, ask the cluster's administrators.",
        )
    if state.state == "OUT_OF_MEMORY" or OOM_SIGNAL in codes or re.search(MEMORY, log):
        given = facts.get("MinMemoryNode") or facts.get("MinMemoryCPU") or "its share"
        return "memory", f"{name} needed more memory than the {given} it had; give it more: {_more(rule, 'mem_mb')}."
    if state.state in ("TIMEOUT", "DEADLINE") or "due to time limit" in log:
        limit = facts.get("TimeLimit", "its limit")
        return "time", f"{name} was ended at its time limit of {limit}; run again and it goes on, or {_more(rule, 'runtime')}."
    if state.state == "PREEMPTED" or "due to preemption" in log:
        return "preempted", f"{name} had to make room for another job, and SLURM did not start it again; run again and it goes on."
    if state.state in ("NODE_FAIL", "BOOT_FAIL", FORGOTTEN) or re.search(LOST, log):
        return (
            "node",
            f"{name} was lost with its node, or by SLURM; run again and it goes on; if it happens again, have the node looked at.",
        )
    if re.search(r"no space left|quota exceeded", log):
        return "disk", f"{name} found no space left on a disk; make space, then run again and it goes on."
    if found := re.search(r"(?:permission denied|read-only file system)(?:: '[^']*')?", facts.get("log", ""), re.IGNORECASE):
        return "disk", f"{name} may not use a file or folder ({found[0]}); mend its permissions, then run again and it goes on."
    if state.state == "CANCELLED":
        return "cancelled", f"{name} was cancelled by a person or by the site; run again and it goes on."
    if any(KILLED.search(code) for code in codes):
        return "killed", f"{name} was killed (SIGKILL), and not by SLURM; run again and it goes on; if it happens again, look at the node."
    return (
        "bug",
        f"{name} ended with exit code {codes[0] or '?'} before its stage could say why; its log has more: {facts.get('StdOut', '?')}.",
    )


def _more(rule: str, resource: str) -> str:
    # Not --set-resources: on the command line it stands in place of all the profile's own, the GPUs and partitions included.
    return f"write `{resource}: ...` below `{rule}:` in set-resources of the profile"


def refused(state: JobState) -> bool:
    """Whether SLURM does not run the job, at its submission or when its turn comes."""
    return state.state == REFUSED or state.facts.get("Reason") == "BadConstraints"


def rule_of(comment: str) -> str:
    """Return the rule of a job from its comment, such as `rule_ingest_wildcards_cells`."""
    return comment.removeprefix("rule_").partition("_wildcards_")[0]


def subject_of(comment: str, names: Iterable[str]) -> tuple[str, str]:
    """Return subject and part of a job, as its stage names them, from its comment.

    The wildcards stand there in the order acquisition, model, block, joined by a sign that names may hold too: so `names`, those of the
    acquisitions, are asked. Only blocks are parts.
    """
    wildcards = comment.partition("_wildcards_")[2]
    known = max((name for name in names if f"{wildcards}_".startswith(f"{name}_")), key=len, default=wildcards)
    return known, wildcards.rpartition("_")[2] if rule_of(comment) == "sample" and known != wildcards else ""


def mishaps(states: Iterable[JobState], classes: Mapping[int, str]) -> list[str]:
    """Return a sentence for each job that went wrong at first and was done in the end, from states in the order of time.

    `classes` has what the stages themselves said, by job; of the others SLURM speaks.
    """
    by_comment: dict[str, list[JobState]] = {}
    for state in states:
        by_comment.setdefault(state.comment, []).append(state)
    return [sentence for _, some in sorted(by_comment.items()) if (sentence := _mishap(some, classes))]


def _mishap(states: Sequence[JobState], classes: Mapping[int, str]) -> str:
    asked = {state.job: state.facts for state in states if state.state == SUBMITTED}
    ends = [state for state in states if state.ended and not state.settled]
    bad = {state.job: state for state in ends if state.state != DONE}
    if not bad or ends[-1].state != DONE:
        return ""
    steps = [f"{_class(state, classes.get(job))}{_given(asked.get(job, {}))}, job {job}" for job, state in bad.items()]
    what = states[0].comment.removeprefix("rule_").replace("_wildcards_", " of ")
    return f"{what}: {'; '.join(steps)}; done{_given(asked.get(ends[-1].job, {}))}, job {ends[-1].job}"


def _class(state: JobState, said: str | None) -> str:
    """Return the class of a job's end: a stage that was told to end does not know why, and SLURM may."""
    if said not in (None, "cancelled"):
        return str(said)
    kind = verdict(state)[0]
    return said if said and kind == "bug" else kind


def _given(facts: Mapping[str, str]) -> str:
    given = [f"{facts[key]} {unit}" for key, unit in (("mem_mb", "MB"), ("minutes", "min")) if facts.get(key)]
    return f" with {', '.join(given)}" if given else ""
