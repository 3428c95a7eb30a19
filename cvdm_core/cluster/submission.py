"""sbatch that outlasts a restart of SLURM's controller and a full queue, and that notes what was submitted.

Without it every job that is ready while the controller is away, or while the queue takes no more of one's jobs, uses up all its attempts
within seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cvdm_core.cluster.commands import real, run
from cvdm_core.cluster.history import ENDED, REFUSED, SUBMITTED, JobState, run_file, stop_file, try_to_note
from cvdm_core.cluster.status import Queued, in_queue


@dataclass(frozen=True)
class Hindrance:
    """Why sbatch is asked again: what it says then, after how many seconds, and for how many in all."""

    words: str
    pause: float
    patience: float


AWAY = Hindrance(
    "Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|Connection refused|Connection reset", 5.0, 3600.0
)
"""The controller does not answer; whether it took the job is not known."""
FULL = Hindrance(
    r"(?:Assoc|QOS)(?:Grp|Max)Submit\w*Limit|MaxSubmitJobsPer|temporarily unable to accept job|job queue full", 30.0, 24 * 3600.0
)
"""As many jobs are in the queue as may be; places come free when jobs end. SLURM's general sentence (`Job violates accounting/QOS policy`)
stands for limits too that no waiting mends."""
CLUSTERS = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")


class NotWantedError(Exception):
    """Nobody waits for the job any more; says why."""


def submit(arguments: Sequence[str]) -> int:
    """Run sbatch with the arguments of Snakemake's plugin, until the controller has answered; return its exit status."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-J", "--job-name", default="")
    parser.add_argument("--comment", default="")
    parser.add_argument("--mem", default="")
    parser.add_argument("-t", "--time", default="")
    parser.add_argument("-M", "--clusters", "--cluster", default="")
    given, _ = parser.parse_known_args(arguments)
    path = real("sbatch")
    if path is None:
        print("sbatch: command not found", file=sys.stderr)
        return 127
    script = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        status, out, error = _answer([path, *arguments], script, given)
    except KeyboardInterrupt:
        # The plugin still sends all that it has in hand, each job in a process of its own, before it ends.
        with suppress(OSError, ValueError):
            stop_file(given.job_name).parent.mkdir(parents=True, exist_ok=True)
            stop_file(given.job_name).touch()
        print("sbatch: not submitted, because the driver was told to end", file=sys.stderr)
        return 130
    except NotWantedError as why:
        print(f"sbatch: not submitted, because {why}", file=sys.stderr)
        return 1
    # Before it is noted: a job that was taken must not look refused because of a full disk.
    sys.stdout.write(out)
    sys.stderr.write(error)
    sys.stdout.flush()
    if given.job_name:
        try_to_note(run_file(given.job_name), [_as_noted(given, status, out, error)])
    return status


def _answer(command: Sequence[str], script: bytes | None, given: argparse.Namespace) -> tuple[int, str, str]:
    """Return the exit status, the output and the complaints of sbatch, or why the job is not sent, or taken back."""
    if refusal := _elsewhere(given.clusters):
        return 1, "", refusal
    done = _sent(command, script, given.job_name, given.comment)
    out, error = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    if done.returncode == 0 and (refusal := _taken_back(out)):
        return 1, "", refusal
    return done.returncode, out, error


def _as_noted(given: argparse.Namespace, status: int, out: str, error: str) -> JobState:
    job = out.strip().partition(";")[0]
    if status == 0 and job.isdigit():
        asked = {key: value for key, value in (("mem_mb", given.mem), ("minutes", given.time)) if value}
        return JobState(int(job), SUBMITTED, given.comment, facts=asked)
    return JobState(0, REFUSED, given.comment, facts={"log": " ".join(error.split())[:600]})


def _sent(command: Sequence[str], script: bytes | None, name: str, comment: str) -> subprocess.CompletedProcess[bytes]:
    """Return the controller's answer, or its last where patience is at an end.

    An answer may be lost after the job was taken, so that the job is submitted again only after a look into the queue has not found it.

    Raises
    ------
    NotWantedError
        If the driver was told to end, or has ended.
    """
    driver = _ancestors()
    _ask_whether_wanted(name, driver)
    done = subprocess.run(command, input=script, capture_output=True, check=False)
    since = time.monotonic()
    while name and comment and (hindrance := _hindrance(done)) and time.monotonic() - since < hindrance.patience:
        _say_why(name, done)
        time.sleep(hindrance.pause)
        _ask_whether_wanted(name, driver)
        if hindrance is AWAY:
            queued = in_queue(f"--name={name}")
            if queued is None:
                continue
            if job := _taken(queued, comment):
                return subprocess.CompletedProcess(command, 0, f"{job}\n".encode(), b"")
        done = subprocess.run(command, input=script, capture_output=True, check=False)
        if _hindrance(done) is not hindrance:
            since = time.monotonic()
    return done


def _say_why(name: str, done: subprocess.CompletedProcess[bytes]) -> None:
    """Write down what sbatch says for whoever looks why nothing is sent: the plugin shows nothing of it before the end."""
    with suppress(OSError):
        file = run_file(name).with_suffix(".waiting")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(time.strftime("%Y-%m-%d %H:%M:%S ").encode() + done.stderr)


def _hindrance(done: subprocess.CompletedProcess[bytes]) -> Hindrance | None:
    error = done.stderr.decode("utf-8", "replace")
    return next((each for each in (AWAY, FULL) if done.returncode and re.search(each.words, error)), None)


def _ask_whether_wanted(name: str, driver: list[int]) -> None:
    if _ancestors() != driver:
        raise NotWantedError("the driver that wanted it has ended")
    if name and os.access(stop_file(name), os.F_OK):
        raise NotWantedError("the driver was told to end")


def _ancestors() -> list[int]:
    """Return the shell that started this and the driver above it; either changes when the driver dies."""
    found = [os.getppid()]
    with suppress(OSError, IndexError, ValueError):
        found.append(int(Path(f"/proc/{found[0]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def _taken(queued: Mapping[int, Queued], comment: str) -> int | None:
    """Return the id of a job that was submitted with the comment and has not ended."""
    return max((job for job, each in queued.items() if each.comment == comment and each.state not in ENDED), default=None)


def _elsewhere(option: str) -> str:
    """Return why the job cannot be sent to the cluster that is asked for: only this cluster's queue is looked at afterwards."""
    asked = {"--clusters": option} if option else {name: os.environ[name] for name in CLUSTERS if os.environ.get(name)}
    own = _own_cluster() if asked else ""
    return "".join(
        f"sbatch: {name} sends jobs to the cluster {cluster}, and the workflow sees only the queue of the cluster where it was started; "
        f"take {name} away, or start it on {cluster}\n"
        for name, cluster in asked.items()
        if cluster != own
    )


def _taken_back(answer: str) -> str:
    """Cancel a job that another cluster has taken, and return the sentence on it; empty for a job of this cluster."""
    job, _, cluster = answer.strip().partition(";")
    own = _own_cluster() if cluster else ""
    if cluster == own or not own:
        return ""
    with suppress(FileNotFoundError, subprocess.TimeoutExpired):
        run("scancel", f"--clusters={cluster}", job)
    return (
        f"sbatch: job {job} was taken by the cluster {cluster} and cancelled there, because the workflow sees only the queue of {own}; "
        f"send jobs to {own}, or start the workflow on {cluster}\n"
    )


def _own_cluster() -> str:
    """Return the name of this cluster, as soon as its controller answers; empty where patience is at an end."""
    until = time.monotonic() + AWAY.patience
    while True:
        with suppress(FileNotFoundError, subprocess.TimeoutExpired):
            if found := re.search(r"^ClusterName\s*=\s*(\S+)", run("scontrol", "show", "config").stdout, re.MULTILINE):
                return found[1]
        if time.monotonic() > until:
            return ""
        time.sleep(AWAY.pause)
