"""The inbox's ledger: one line of JSON for each change of an acquisition's state or of the evidence for it, never rewritten.

The last line of an acquisition is its state. Lines are synced to the disk before anything follows from them. A line that a kill cut
off was never said: it is removed when the ledger is next opened. What is later than `registered` rests on receipts (`progress`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cvdm_core.files import disk_named

State = Literal["arriving", "complete", "registered", "ingested", "restored", "reported", "changed", "gone", "failed", "quarantined"]


class Entry(BaseModel):
    """What is known of one acquisition of an inbox.

    Attributes
    ----------
    file : absolute path of its input (or the pattern of its inputs), by which lines belong together.
    inbox : absolute path of the inbox.
    name : the name that its file suggests.
    reason : why it is in this state and what to do, or empty.
    act : whether a person must do something.
    digest, files, bytes, newest : the evidence: fingerprint of all names, sizes and modification times; how many files and bytes; the
        latest modification time [seconds since 1970, the file server's clock]. From `registered` on, those of the registered files.
    since : since when the files are known to be so [seconds since 1970, this machine's clock].
    acquisitions : its rows in the sheet, from `registered` on.
    named : the paths of input and target in those rows, from `registered` on.
    others : names of files that belong to it beside input and target (a set of OME-TIFFs), from `registered` on.
    proofs : receipts that show the state, or the note of the stage that failed, after `registered`.
    proof_sha256 : of the one proof, or a fingerprint of those of several.
    proof_stamp : fingerprint of their sizes and times; while it is the same they are not read again.
    kind : class of the failure of a stage, such as `out of memory`; empty where it failed before its registration, or not at all.
    time : when the line was written, UTC.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    inbox: str
    name: str
    state: State
    reason: str = ""
    act: bool = False
    digest: str = ""
    files: int = 0
    bytes: int = 0
    newest: float = 0.0
    since: float = 0.0
    acquisitions: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    proof_sha256: str = ""
    proof_stamp: str = ""
    kind: str = ""
    time: str = ""

    def says_the_same(self, other: Entry | None) -> bool:
        """Whether nothing but the time of writing differs, so that no line is due."""
        return other is not None and other.model_copy(update={"time": self.time}) == self


def ledger_file(sheet: str | Path) -> Path:
    """Return the ledger's path, `<sheet stem>.inbox.jsonl` beside the sheet."""
    return Path(sheet).with_name(f"{Path(sheet).stem}.inbox.jsonl")


def read_entries(content: bytes) -> tuple[dict[str, Entry], list[int]]:
    """Return each acquisition's last line by its file, and the numbers of lines that cannot be read."""
    latest: dict[str, Entry] = {}
    damaged: list[int] = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError:
            damaged.append(number)
        else:
            latest[entry.file] = entry
    return latest, damaged


class Ledger:
    """The ledger of a sheet; `latest` holds each acquisition's last line by its file."""

    def __init__(self, path: Path) -> None:
        """Read the ledger, if there is one, and remove a line that a kill cut off; the caller holds the sheet's lock.

        `damaged` holds the numbers of other lines that cannot be read, which are passed over.
        """
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        self.latest, self.damaged = read_entries(content[:whole])

    def add(self, entries: Iterable[Entry]) -> None:
        """Append the entries that say something new, and sync them to the disk.

        Raises
        ------
        DiskError
            If there is no space, or no permission, for them.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new = [entry.model_copy(update={"time": now}) for entry in entries if not entry.says_the_same(self.latest.get(entry.file))]
        if not new:
            return
        with disk_named(self.path), open(self.path, "ab") as stream:
            stream.write("".join(entry.model_dump_json() + "\n" for entry in new).encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        self.latest |= {entry.file: entry for entry in new}
