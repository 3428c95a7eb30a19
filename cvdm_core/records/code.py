"""Which code runs: a hash of the package's own files, and its git commit where there is one. A version changes with releases only."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
DIGITS = 12
ASK_SECONDS = 10  # for an answer of git, which may be slow on a network disk; without one the hash must do


@cache
def code_hash(*rooms: str) -> str:
    """Return 12 hexadecimal digits that change with any Python file of these folders and files of the package; of all without a name."""
    hasher = hashlib.sha256()
    for path in sorted(path for room in rooms or ("",) for path in _files(PACKAGE / room)):
        content = path.read_bytes()
        hasher.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return hasher.hexdigest()[:DIGITS]


def _files(room: Path) -> Iterable[Path]:
    return [room] if room.suffix else room.rglob("*.py")


def work_code(*rooms: str) -> str:
    """Return what must be the same for one process to go on with the pixels or weights of another: code of these places, torch's version.

    Torch without its build (`+cpu`, `+cu128`): the nodes of one cluster may have several.
    """
    return f"{code_hash(*rooms)}-{metadata.version('torch').partition('+')[0]}"


def commit() -> dict[str, str]:
    """Return the git commit of the package as `{"commit": ...}`, and whether its files were changed since; {} where that is not known."""
    if not (PACKAGE.parent / ".git").exists():
        return {}
    # Of somebody else's folder too, as for a lab that shares one: its code is run anyway.
    command = ["git", "-c", "safe.directory=*", "--no-optional-locks", "-C", str(PACKAGE.parent), "status", "--porcelain=v2", "--branch"]
    try:
        said = subprocess.run(
            [*command, "--", PACKAGE.name], capture_output=True, text=True, timeout=ASK_SECONDS, check=True, stdin=subprocess.DEVNULL
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    oid = next((line.split()[2] for line in said if line.startswith("# branch.oid ")), "(initial)")
    if oid == "(initial)":
        return {}
    changed = any(not line.startswith("#") for line in said)
    return {"commit": oid[:DIGITS] + (" with changes" if changed else "")}
