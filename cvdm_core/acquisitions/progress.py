"""What the ledger says of acquisitions once they are registered: how far they have come, and what failed on the way.

A state after `registered` rests on the receipts of its stage, a failure on the note that the stage left. The ledger keeps their paths and
a fingerprint of their content. What was made of other files than those registered now is kept until there is something newer, and proves
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cvdm_core import paths
from cvdm_core.acquisitions.arrivals import CLOCK_SKEW, printable
from cvdm_core.acquisitions.ledger import Entry, Ledger, State, ledger_file
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.records.receipts import fingerprint, read_json, sha256_file, write_json
from cvdm_core.routing import find_routes
from cvdm_core.sheet import Acquisition, read_rows

STAGES: tuple[State, ...] = ("ingested", "restored", "reported")
_RECEIPTS = (paths.ingest_receipt, paths.stitch_receipt, paths.report_receipt)
_FILES = ("input", "target", "series", "size_t", "size_c", "size_z", "size_y", "size_x")  # columns that tell which pixels a row means
_NO_PROOF: dict[str, object] = {"proofs": (), "proof_sha256": "", "proof_stamp": "", "kind": ""}


@dataclass(frozen=True)
class Failed:
    """A stage of an acquisition that failed: the class of the failure, the sentence about it, the note, and whether a person must act."""

    kind: str
    reason: str
    note: Path
    act: bool


def record_progress(config: Config, failures: Mapping[str, Failed]) -> None:
    """Add to the ledger how far everything that was registered from an inbox has come; `failures` by the acquisition's name.

    Raises
    ------
    UserError
        If another process is writing the sheet or its ledger.
    """
    sheet = Path(config.acquisitions)
    if not ledger_file(sheet).exists():
        return
    with locked(sheet):
        ledger = Ledger(ledger_file(sheet))
        known = [entry for entry in ledger.latest.values() if entry.acquisitions and _follows_registration(entry)]
        ledger.add(with_progress(config, ledger, known, failures))


def with_progress(
    config: Config, ledger: Ledger, entries: Iterable[Entry], failures: Mapping[str, Failed] | None = None
) -> Iterator[Entry]:
    """Give the lines that are due for `entries`: those that follow registration become the stages they have reached since the last line.

    Other entries are given as they are, without proofs.
    """
    sheet = Path(config.acquisitions)
    configs = find_routes(config, (read_rows(sheet)[0] if sheet.exists() else {}).values()).configs
    for entry in entries:
        if _follows_registration(entry):
            yield from _steps(lambda name: configs.get(name, config), entry, ledger.latest.get(entry.file), failures or {})
        else:
            yield entry.model_copy(update=_NO_PROOF)


def note_arrival(config: Config, row: Acquisition) -> None:
    """Note that the files of a row are to be ingested where something was ingested under its name, and it was not these files.

    By itself Snakemake sees a change of the row, and a newer time of a file that the row names; it sees nothing of the files behind a
    pattern, of the others of a set, and of a copy that keeps old times. Its ingest has the note for an input.

    Raises
    ------
    DiskError
        If the note cannot be written.
    OSError
        If a file cannot be read.
    """
    receipt = paths.ingest_receipt(config, row.acquisition)
    if receipt.is_file() and not _speaks_for(receipt, row):
        write_json(paths.arrival(config, row.acquisition), {"input": row.input, "registered": datetime.now(UTC).isoformat()})


def is_ingested(config: Config, acquisition: str) -> bool:
    """Whether the files of a registered acquisition were ingested, and not only others under its name."""
    arrival, receipt = _written(paths.arrival(config, acquisition)), _written(paths.ingest_receipt(config, acquisition))
    return receipt is not None and receipt >= (arrival or 0)


def _speaks_for(receipt: Path, row: Acquisition) -> bool:
    """Whether an ingest read what a row means now. Files that by any clock are older than it are not read again."""
    try:
        content = read_json(receipt)
        was, read = dict(content["details"]["row"]), dict(content["read"])
        began = datetime.fromisoformat(content["started"]).timestamp()
    except (UserError, KeyError, TypeError, ValueError):
        return False
    now = row.model_dump(mode="json")
    if any(was.get(column) != now[column] for column in _FILES):
        return False
    return all(_is_same(Path(file), digest, began) for file, digest in read.items())


def _is_same(file: Path, digest: str, since: float) -> bool:
    if not file.is_file():
        return False
    status = file.stat()
    return max(status.st_mtime, status.st_ctime) + CLOCK_SKEW < since or sha256_file(file) == digest


def _written(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _follows_registration(entry: Entry) -> bool:
    return entry.state == "registered" or entry.state in STAGES or bool(entry.kind)


def _steps(config_of: Callable[[str], Config], entry: Entry, before: Entry | None, failures: Mapping[str, Failed]) -> Iterator[Entry]:
    known = {**failures, **_still_failed(before)}
    if found := next((known[name] for name in entry.acquisitions if name in known), None):
        facts = {"state": "failed", "kind": printable(found.kind), "reason": printable(found.reason), "act": found.act}
        yield _proved(entry.model_copy(update=facts), [found.note], before)
        return
    plain = entry.model_copy(update={"state": "registered", "reason": "", "act": False, **_NO_PROOF})
    reached: list[tuple[State, list[Path]]] = []
    since = [_written(paths.arrival(config_of(name), name)) or 0 for name in entry.acquisitions]
    for state, receipt in zip(STAGES, _RECEIPTS, strict=True):
        files = [receipt(config_of(name), name) for name in entry.acquisitions]
        written = [_written(file) or 0 for file in files]
        if not all(written) or any(own < before for own, before in zip(written, since, strict=True)):
            break
        since = written
        reached.append((state, files))
    if not reached:
        yield plain
    new = STAGES.index(before.state) + 1 if before is not None and before.state in STAGES else 0
    for state, files in reached[min(new, len(reached) - 1) :] if reached else ():
        yield _proved(plain.model_copy(update={"state": state}), files, before)


def _still_failed(before: Entry | None) -> dict[str, Failed]:
    """Return the failure of the line before while its note lies there as it was: the next success takes it away."""
    if before is None or not before.kind or not all(Path(note).is_file() for note in before.proofs):
        return {}
    failed = Failed(before.kind, before.reason, Path(before.proofs[0]), before.act)
    return dict.fromkeys(before.acquisitions, failed)


def _proved(entry: Entry, files: Iterable[Path], before: Entry | None) -> Entry:
    """Return the entry with its proofs; they are hashed only where size or time differ from those of the line before."""
    found = sorted(files)
    proofs = tuple(str(file) for file in found)
    stamp = fingerprint([(stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, found)])
    if before is not None and (before.proofs, before.proof_stamp) == (proofs, stamp):
        digest = before.proof_sha256
    else:
        digests = [sha256_file(file) for file in found]
        digest = digests[0] if len(digests) == 1 else fingerprint(digests)
    return entry.model_copy(update={"proofs": proofs, "proof_sha256": digest, "proof_stamp": stamp})
