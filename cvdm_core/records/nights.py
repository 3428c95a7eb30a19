"""The nights: one line of JSON for each in `<results>/nights.jsonl`, only ever added to. The index page shows the last of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cvdm_core.files import disk_named

PIECE = 100_000
"""Bytes that are read from the end of the file at first; it has a line of a few kilobytes for each night of years."""


class StageFailure(BaseModel):
    """A stage that failed: of which acquisition (or model), its class, the sentence about it, and whether a person must act."""

    model_config = ConfigDict(frozen=True)

    subject: str
    stage: str
    kind: str
    message: str
    act: bool = True


class Night(BaseModel):
    """What came of one night.

    Attributes
    ----------
    started, ended : UTC, ISO 8601.
    until : the deadline, UTC, or empty.
    profile : folder of the Snakemake profile.
    status : the exit status: 0 nobody needs to do anything, 1 a person must act, 2 it could not run.
    problems : why a person must act, a sentence each.
    remarks : what else is worth knowing, a sentence each: how it was planned, for one.
    registered : acquisitions that came into the sheet.
    restored : acquisitions whose report was made.
    unfinished : acquisitions that were planned, and neither were finished nor failed.
    failed : stages that failed, of acquisitions that were planned.
    deferred : acquisitions that were put off, with the reason.
    reduced : acquisitions restored with fewer samples: (how many, of how many).
    gpu_seconds : seconds of training and sampling on GPUs.
    megapixels : pixels of the acquisitions restored, on the restored grid.
    """

    model_config = ConfigDict(frozen=True)

    started: str
    ended: str
    until: str = ""
    profile: str = ""
    status: int = 0
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    failed: tuple[StageFailure, ...] = ()
    deferred: Mapping[str, str] = {}
    reduced: Mapping[str, tuple[int, int]] = {}
    gpu_seconds: float = 0.0
    megapixels: float = 0.0


def nights_file(results: str | Path) -> Path:
    """Return where the nights stand."""
    return Path(results) / "nights.jsonl"


def add_night(results: str | Path, night: Night) -> None:
    """Append a night and sync it to the disk; a line that a kill cut off before is ended first.

    Raises
    ------
    DiskError
        If there is no space, or no permission, for it.
    """
    path = nights_file(results)
    with disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size:
                stream.seek(size - 1)
            cut_off = size > 0 and stream.read(1) != b"\n"
            stream.write(b"\n" * cut_off + night.model_dump_json().encode("utf-8") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def read_nights(results: str | Path, last: int) -> list[Night]:
    """Return the last nights, the latest first; lines that cannot be read are passed over, a missing file has none."""
    found: list[Night] = []
    try:
        with open(nights_file(results), "rb") as stream:
            begin = size = stream.seek(0, os.SEEK_END)
            while begin and len(found) < last:
                begin = max(0, size - max(PIECE, 2 * (size - begin)))
                stream.seek(begin)
                found = _parsed(stream.read(size - begin).split(b"\n")[1 if begin else 0 :])
    except OSError:
        return []
    return found[:last]


def _parsed(lines: list[bytes]) -> list[Night]:
    found = []
    for line in reversed(lines):
        with suppress(ValidationError):
            found.append(Night.model_validate_json(line))
    return found
