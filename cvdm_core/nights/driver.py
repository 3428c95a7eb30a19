"""Starting Snakemake for a night: its plan as a dry run, and the run itself with an end that nothing can put off."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cvdm_core.doctor.dry_run import planned
from cvdm_core.errors import UserError
from cvdm_core.files import disk_named

CANCEL_S = 300
"""Seconds that a driver gets to cancel its jobs before it is killed; what it leaves in the queue the next one finds."""
TIMED_OUT = (124, 137)


@dataclass(frozen=True)
class Job:
    """A job that a dry run plans: its rule, its acquisition (empty without one), and its threads."""

    rule: str
    acquisition: str
    threads: int


def planned_jobs(command: Sequence[str]) -> list[Job]:
    """Return the jobs that `nightly` would run, from a dry run.

    Raises
    ------
    UserError
        If the workflow cannot be planned.
    """
    # The local profile hides rules, and with them what is read here; another word stands in its place. Every rule's own number of threads
    # is shown only where there are enough cores.
    dry = [*command, "--dry-run", "--nolock", "--quiet", "host", "--cores", "9999", "--", "nightly"]
    return parse_jobs(planned(dry))


def parse_jobs(text: str) -> list[Job]:
    """Return the jobs that a dry run of Snakemake lists, without targets."""
    found = []
    for part in re.split(r"^(?=rule \w+:$)", text, flags=re.MULTILINE)[1:]:
        wildcards = re.search(r"^ +wildcards: (.*)$", part, re.MULTILINE)
        named = re.search(r"\bacquisition=([^,\s]+)", wildcards[1]) if wildcards else None
        threads = re.search(r"^ +threads: (\d+)$", part, re.MULTILINE)
        rule = part.partition(":")[0].split()[-1]
        found.append(Job(rule, named[1] if named else "", int(threads[1]) if threads else 1))
    return found


class Driver:
    """A running Snakemake that ends at a time, even when this process is killed: coreutils' `timeout` stands between."""

    def __init__(self, command: Sequence[str], seconds: float, log: Path) -> None:
        """Start it; what it says goes to `log`.

        After `seconds` it gets the signal of Ctrl-C, on which Snakemake cancels its jobs, and `CANCEL_S` later it is killed.
        """
        guard = shutil.which("timeout")
        if guard is None:
            raise UserError("timeout: this command of GNU coreutils is not here; install coreutils.")
        guarded = [guard, "--signal=INT", f"--kill-after={CANCEL_S}", f"{max(1.0, seconds):.0f}", *command]
        with disk_named(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(guarded, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit status; one of `TIMED_OUT` where it was stopped."""
        return self.process.wait()

    def stop(self) -> None:
        """Stop it now, as at the end of its time; where it has ended already, whatever is left of it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(CANCEL_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # `timeout` leads a group of its own, and may itself have been killed alone
        self.process.wait()
