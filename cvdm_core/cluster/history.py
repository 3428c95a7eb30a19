"""What became of every job: one file of JSON lines for each run of a driver, below `logs/cluster`, added to by the wrappers.

SLURM forgets a job some minutes after its end (MinJobAge), and not every site keeps accounts. So what is known of a job is written down
when the driver asks for it anyway: at its submission, and whenever its state has changed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path("logs") / "cluster"
DAYS = 14
"""Runs that were last added to before this many days are not looked at any more."""
SUBMITTED, REFUSED, FORGOTTEN, HELD = "SUBMITTED", "REFUSED", "FORGOTTEN", "HELD"
DONE = "COMPLETED"
FAILED = {
    "BOOT_FAIL",
    "CANCELLED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
    FORGOTTEN,
    HELD,
    REFUSED,
}
ENDED = {DONE, *FAILED}
RESTARTABLE = {"PREEMPTED", "NODE_FAIL"}
"""States out of which SLURM may still start the job again."""
NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class JobState:
    """A state of a job, seen at `time` (seconds since 1970).

    `comment` names rule and wildcards (`rule_ingest_wildcards_cells`); a submission that SLURM refused has the id 0. `facts` is what SLURM
    said of a job that failed, or what was asked for at its submission (`mem_mb`, `minutes`); `settled`: the failure notes know of the end.
    """

    job: int
    state: str
    comment: str
    time: float = field(default_factory=time.time)
    facts: Mapping[str, str] = field(default_factory=dict)
    settled: bool = False

    @property
    def ended(self) -> bool:
        """Whether the job is over, as far as the state alone can tell."""
        return self.state in ENDED


def run_file(run: str) -> Path:
    """Return the file of a run of the driver, by the name that the driver gave to all its jobs.

    Raises
    ------
    ValueError
        If the name cannot be that of a file.
    """
    if not NAME.fullmatch(run):
        raise ValueError(f"no name of a run: {run!r}")
    return FOLDER / f"{run}.jsonl"


def stop_file(run: str) -> Path:
    """Return the file that is there once a run of the driver was told to end."""
    return run_file(run).with_suffix(".stopped")


def note(path: Path, states: Iterable[JobState]) -> None:
    """Add states to a run's file; a line is written whole, also where several wrappers write at once.

    Raises
    ------
    OSError
        If the disk does not take them.
    """
    text = "".join(json.dumps(asdict(state)) + "\n" for state in states)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o664)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a full disk, or a kill, cut the last line off
            text = "\n" + text
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def try_to_note(path: Path, states: Iterable[JobState]) -> None:
    """Add states to a run's file, for whom the answer to Snakemake comes first: what the disk does not take is said, and is no failure."""
    try:
        note(path, states)
    except OSError as error:
        print(f"{path}: what became of jobs could not be written down ({error.strerror})", file=sys.stderr)


def read(path: Path) -> list[JobState]:
    """Return the states of a run's jobs in the order in which they were seen; lines that were cut off are left out.

    Raises
    ------
    OSError
        If the file is there and cannot be read.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(JobState(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def latest(states: Iterable[JobState]) -> dict[int, JobState]:
    """Return the last state of each job that got an id."""
    return {state.job: state for state in states if state.job}


def run_files(days: float = DAYS) -> list[Path]:
    """Return the files of the runs of the last days, the oldest first."""
    since = time.time() - days * 86400
    dated = [(path.stat().st_mtime, path) for path in FOLDER.glob("*.jsonl")]
    return [path for when, path in sorted(dated) if when >= since]
