"""Receipts: a small JSON beside each result, written last and by rename. No receipt, no result.

Every `cvdm` stage runs inside `stage(...)`: a note says that it runs; on success the receipt is written; on failure a note of what failed
is left where the index page finds it, and an old note goes away with the next success.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cvdm_core import __version__
from cvdm_core.errors import DiskError, UserError
from cvdm_core.files import disk_named, remove_unfinished, write_file
from cvdm_core.records.code import code_hash, commit
from cvdm_core.records.failures import failure_path, judge, log_failure, write_failure
from cvdm_core.records.running import announced, running_path
from cvdm_core.records.usage import measured

VERSIONED_PACKAGES = (
    "torch", "numpy", "zarr", "numcodecs", "tifffile", "imagecodecs", "scipy", "scikit-image", "lightning", "safetensors",
    "multiview-stitcher",
)  # fmt: skip


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file as hexadecimal text, reading it piece by piece."""
    with open(path, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits that change whenever one of the JSON-able parts changes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write JSON durably; a reader sees the old file or the new one."""
    write_file(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a receipt.

    Raises
    ------
    UserError
        If it is missing or is not JSON.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: this receipt is missing, so its stage has not finished; run the workflow again.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path}: this receipt is damaged; delete it and run the workflow again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: this is not a receipt; delete it and run the workflow again.")
    return content


@cache
def versions() -> dict[str, str]:
    """Return the version, code (`records.code`) and, where known, git commit of this package, and the versions of Python and libraries."""
    installed = {name: metadata.version(name) for name in VERSIONED_PACKAGES}
    return {"cvdm": __version__, "code": code_hash(), **commit(), "python": platform.python_version(), **installed}


@dataclass
class Receipt:
    """What one stage did; fill the fields while the stage runs.

    `read` and `wrote` map a path to its sha256 (files) or to a mapping with checksums (stores). `records.usage` fills `job` and `usage`,
    but for `usage["megapixels"]`: what was worked through this time, as `cvdm_core.workload` counts it; none where it was found done.
    """

    stage: str
    subject: str
    read: dict[str, Any] = field(default_factory=dict)
    wrote: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)


@contextmanager
def stage(path: str | Path, stage: str, subject: str, results: str | Path, part: str = "") -> Iterator[Receipt]:
    """Run the body of one stage; write its receipt to `path` on success, a failure note below `results` otherwise.

    `subject` is the acquisition (or the model) and must be a checked name, because it becomes part of a file name; `part` tells
    several jobs of one stage and subject apart (blocks).
    """
    receipt = Receipt(stage, subject)
    begin = time.perf_counter()
    failed = failure_path(results, stage, subject, part)
    for file in (path, failed, running_path(results, stage, subject, part)):
        remove_unfinished(file)
    with announced(results, stage, subject, part) as who:
        try:
            # The disk: for what libraries write; our own files are named one by one.
            with measured(receipt, versions()), disk_named(Path(path).parent):
                yield receipt
        except BaseException as error:
            with suppress(DiskError):  # no place for the note either: the error itself is what must be seen
                told_to_end = isinstance(error, (KeyboardInterrupt, SystemExit))  # under SLURM it may know why, and is asked later
                (log_failure if who.job and told_to_end else write_failure)(results, who, *judge(error))
            raise
        machine = {"host": platform.node(), "system": platform.platform(), "cpus": os.cpu_count()}
        content = {**receipt.__dict__, "versions": versions(), "machine": machine}
        write_json(path, {**content, "started": who.started, "seconds": round(time.perf_counter() - begin, 3)})
    failed.unlink(missing_ok=True)
