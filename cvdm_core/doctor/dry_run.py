"""How Snakemake is called, and a dry run of it, whose plan is read; and where it does not work, what of its output is the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cvdm_core.errors import DiskError, UserError
from cvdm_core.files import write_file

PLAN_S = 900
"""Seconds: a dry run of thousands of acquisitions on a busy network disk."""
LOG = Path("logs/plan.log")
LONGEST = 600
"""Characters of a reason."""
# `WorkflowError in file "...", line 97:`, `MissingRuleException:`, `ValueError: what` at the end of a traceback, `snakemake: error: what`
_REASON = re.compile(r"^(?:[\w.]*(?:Error|Exception)(?: in [^\n]*?)?|snakemake\S*: error): *(.*)$", re.MULTILINE)
_PLACE = re.compile(r'^(?: +File "|Traceback )', re.MULTILINE)


def snakemake(profile: Path, configs: Sequence[Path]) -> list[str]:
    """Return the beginning of a command line: Snakemake of this environment with a profile and configuration files.

    Raises
    ------
    UserError
        If there is no Snakemake in this environment, or it may not keep its cache.
    """
    program = Path(sys.executable).with_name("snakemake")
    if not program.is_file():
        raise UserError(f"{program}: Snakemake is not in this environment; run `make env` and use .env/bin/cvdm.")
    _make_cache()
    return [str(program), "--profile", str(profile), *(["--configfile", *map(str, configs)] if configs else [])]


def _make_cache() -> None:
    """Make the folder into which Snakemake writes before it reads anything: where it may not, it ends with a traceback."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "snakemake")  # noqa: PTH111 (without a home too)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        raise UserError(
            f"{cache}: Snakemake cannot keep its cache there ({error.strerror}); type `export XDG_CACHE_HOME=$PWD/build/cache` before the "
            "same command, for a cache in a folder that all nodes see."
        ) from None


def planned(command: Sequence[str]) -> str:
    """Run a dry run of Snakemake and return what it said, which lists its jobs.

    Raises
    ------
    UserError
        If the workflow cannot be planned; all that Snakemake said is then in `LOG`.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PLAN_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"`{' '.join(command)}` took more than {PLAN_S} s; is the file system slow?") from None
    said = done.stdout + done.stderr
    if done.returncode:
        raise UserError(f"Snakemake cannot plan the workflow: {reason(said)} ({_kept(command, said)})")
    return said


def reason(said: str) -> str:
    """Return the first error in what Snakemake said, on one line and without the place in the workflow; else the end of what it said."""
    found = _REASON.search(said)
    if found is None:
        text = said[-LONGEST:]
    else:
        text = _PLACE.split(said[found.start(1) :], maxsplit=1)[0]
        kind = found[0].partition(":")[0].partition(" in ")[0]
        text = text if kind in ("WorkflowError", "snakemake") else f"{kind}: {text}"
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _kept(command: Sequence[str], said: str) -> str:
    """Write all that was said to `LOG`, and say where it is to be found."""
    try:
        write_file(LOG, f"$ {' '.join(command)}\n{said}")
    except (OSError, DiskError):
        return f"`{' '.join(command)}` says more"
    return f"{LOG} has all that Snakemake said"
