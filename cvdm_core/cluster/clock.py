"""The time that is left to this job. Under cgroups no signal comes before SIGKILL, so whoever has something to save asks here."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass

from cvdm_core.cluster.commands import run

SHARE, LEAST, MOST = 0.1, 5.0, 60.0
"""How long before its limit a job stops: a tenth of the time that it had, within these bounds [seconds]."""
ASK_SECONDS = 10.0


@dataclass(frozen=True)
class Deadline:
    """When this process should stop, on the clock of `time.monotonic`; None where nothing limits it."""

    at: float | None = None

    @classmethod
    def of_this_job(cls) -> Deadline:
        """Ask SLURM for the limit of the job in which this runs; without SLURM, or an answer, there is none."""
        job = os.environ.get("SLURM_JOB_ID")
        if not job:
            return cls()
        try:
            done = run("squeue", "--noheader", f"--jobs={job}", "--format=%L", seconds=ASK_SECONDS)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return cls()
        left = seconds(done.stdout.strip())
        if left is None:
            return cls()
        return cls(time.monotonic() + left - min(MOST, max(LEAST, SHARE * left)))

    def comes_within(self, needed: float = 0.0) -> bool:
        """Whether it is over before so many more seconds have passed."""
        return self.at is not None and time.monotonic() + needed > self.at


def seconds(text: str) -> float | None:
    """Turn a time of squeue's (`1-02:03:04`, `02:03:04`, `3:04`) into seconds; None is no limit, or no time."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + rest
