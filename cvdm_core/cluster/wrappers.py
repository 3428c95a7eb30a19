"""squeue, sacct, sbatch and srun as Snakemake's plugin calls them; whatever else is asked goes to SLURM's own command unchanged."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cvdm_core.cluster.commands import real
from cvdm_core.cluster.history import run_file
from cvdm_core.cluster.status import printed, states_for_plugin
from cvdm_core.cluster.steps import run_step
from cvdm_core.cluster.submission import submit


def main(command: str, arguments: Sequence[str]) -> int:
    """Answer in place of a command of SLURM's, and return the exit status."""
    if command == "sbatch":
        return submit(arguments)
    if command == "srun":
        return run_step(arguments)
    name = asked_run(arguments)
    if name is not None:
        sys.stdout.write(printed(states_for_plugin(name, run_file(name))))
        return 0
    path = real(command)
    if path is None:
        print(f"{command}: command not found", file=sys.stderr)
        return 127
    os.execv(path, [path, *arguments])


def asked_run(arguments: Sequence[str]) -> str | None:
    """Return the name of the run, where the arguments are the plugin's question for all its jobs."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--name", default=None)
    parser.add_argument("--format", default="")
    given, _ = parser.parse_known_args(arguments)
    return given.name if given.format in ("%i|%T", "JobIdRaw,State") else None
