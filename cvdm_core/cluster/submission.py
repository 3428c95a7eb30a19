"""sbatch that outlasts a restart of SLURM's controller, and that notes what was submitted.

Without it every job that is ready while the controller is away uses up all its attempts within seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cvdm_core.cluster.commands import real
from cvdm_core.cluster.history import ENDED, REFUSED, SUBMITTED, JobState, run_file, try_to_note
from cvdm_core.cluster.status import in_queue

PATIENCE = 3600.0
"""Seconds for which a controller that does not answer is asked again."""
PAUSE = 5.0
AWAY = ("Unable to contact slurm controller", "Socket timed out", "Zero Bytes were transmitted", "Connection refused", "Connection reset")


def submit(arguments: Sequence[str]) -> int:
    """Run sbatch with the arguments of Snakemake's plugin, until the controller has answered; return its exit status.

    An answer may be lost after the job was taken, so it is looked for in the queue before it is submitted again.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-J", "--job-name", default="")
    parser.add_argument("--comment", default="")
    parser.add_argument("--mem", default="")
    parser.add_argument("-t", "--time", default="")
    given, _ = parser.parse_known_args(arguments)
    path = real("sbatch")
    if path is None:
        print("sbatch: command not found", file=sys.stderr)
        return 127
    script = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    until = time.monotonic() + PATIENCE
    driver = _ancestors()
    while True:
        done = subprocess.run([path, *arguments], input=script, capture_output=True, check=False)
        out, error = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
        if done.returncode == 0 or not any(words in error for words in AWAY) or time.monotonic() > until:
            break
        time.sleep(PAUSE)
        if _ancestors() != driver:
            print("sbatch: not submitted, because the driver that wanted it has ended", file=sys.stderr)
            return 1
        taken = _taken(given.job_name, given.comment)
        if taken is not None:
            out, error, done = f"{taken}\n", "", subprocess.CompletedProcess(done.args, 0)
            break
    # Before it is noted: a job that was taken must not look refused because of a full disk.
    sys.stdout.write(out)
    sys.stderr.write(error)
    sys.stdout.flush()
    job = out.strip().partition(";")[0]
    if given.job_name:
        accepted = done.returncode == 0 and job.isdigit()
        asked = {key: value for key, value in (("mem_mb", given.mem), ("minutes", given.time)) if value}
        facts = asked if accepted else {"log": " ".join(error.split())[:600]}
        state = JobState(int(job) if accepted else 0, SUBMITTED if accepted else REFUSED, given.comment, facts=facts)
        try_to_note(run_file(given.job_name), [state])
    return done.returncode


def _ancestors() -> list[int]:
    """Return the shell that started this and the driver above it; either changes when the driver dies."""
    found = [os.getppid()]
    with suppress(OSError, IndexError, ValueError):
        found.append(int(Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def _taken(name: str, comment: str) -> int | None:
    """Return the id of a job of this run that was submitted with the comment and has not ended."""
    queued = in_queue(f"--name={name}") if name and comment else None
    found = [job for job, each in (queued or {}).items() if each.comment == comment and each.state not in ENDED]
    return max(found, default=None)
