"""Dry runs of Snakemake in forks of a process that has imported it: each as new as a started one, for a fifth of the CPU."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# The server is started at the first use, once in each pytest process, and ends with it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["snakemake.cli", "snakemake.report", "snakemake.executors.local", "pulp"])


def dry_run(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `snakemake --dry-run` with `arguments` in `folder`, in a process of its own with exactly this environment."""
    command = ["snakemake", "--dry-run", *arguments]
    with tempfile.NamedTemporaryFile() as said:
        process = FORKS.Process(target=_snakemake, args=(str(folder), command, dict(environment), said.name))
        process.start()
        process.join(timeout=300)
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(command, process.exitcode, Path(said.name).read_text(encoding="utf-8"), "")


def _snakemake(folder: str, command: list[str], environment: dict[str, str], said: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = command

    from snakemake.cli import main

    main(command[1:])
