"""SLURM's own commands, also where the wrappers of `workflow/slurm` stand before them on the PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from cvdm_core.errors import UserError

SECONDS = 30  # a controller that needs longer than this to answer is not well
WRAPPER = "cvdm_wrapper.py"
TASTE = re.compile(r"(SQUEUE|SCANCEL|SACCT|SCONTROL|SINFO)_\w+|SLURM_TIME_FORMAT|SLURM_CLUSTERS")
"""Variables with which a person makes these commands show something else: other columns, other jobs, other clusters."""


def real(command: str) -> str | None:
    """Return the path of a command of SLURM's, past the wrappers; None where there is none."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(command, path=folder) if folder else None
        if found and Path(found).resolve().name != WRAPPER:
            return found
    return None


def run(command: str, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM's and return what came of it, whatever a person has set for their own eyes.

    Raises
    ------
    FileNotFoundError
        If there is no such command.
    subprocess.TimeoutExpired
        If it takes too long.
    """
    path = real(command)
    if path is None:
        raise FileNotFoundError(command)
    return subprocess.run(
        [path, *arguments],
        env={name: value for name, value in os.environ.items() if not TASTE.fullmatch(name)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
        errors="replace",
    )


def said(command: str, *arguments: str) -> str:
    """Run a command of SLURM's that must succeed, and return its output.

    Raises
    ------
    UserError
        If it is not there, does not answer, or fails.
    """
    line = " ".join((command, *arguments))
    try:
        done = run(command, *arguments)
    except FileNotFoundError:
        raise UserError(f"{command}: this command of SLURM is not here; add SLURM's folder to PATH (often `module load slurm`).") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"`{line}` got no answer within {SECONDS} s; ask the cluster's administrators.") from None
    if done.returncode:
        text = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"`{line}` failed ({text}); is SLURM's controller running?")
    return done.stdout
