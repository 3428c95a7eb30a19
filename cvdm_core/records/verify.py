"""Do stores, models and tables still match their receipts? And is there any store that no receipt speaks for?"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvdm_core.errors import UserError
from cvdm_core.files import PARTIAL, checksum_file, files_below
from cvdm_core.records.receipts import read_json, sha256_file

STORE = ".ome.zarr"

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What a verification read: receipts of stages, stores they claim, and files with their bytes."""

    receipts: int = 0
    stores: int = 0
    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        """Return the numbers in words."""
        counted = ((self.receipts, "receipt"), (self.stores, "store"), (self.files, "file"))
        words = [f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s" for number, noun in counted]
        return f"{', '.join(words)}, {self.bytes:,} bytes"


def folder_checksums(
    folder: Path, known: Mapping[str, list[Any]] | None = None, files: Sequence[str] | None = None
) -> dict[str, dict[str, list[Any]]]:
    """Return bytes and checksum of every file of a store, by its path inside the store: what `Receipt.wrote` holds for a store.

    `known` has those that were taken while the files were written; they are not read again, and stand for what was meant. `files`
    are the names of all, from a caller who has listed them already.
    """
    known = known or {}
    names = files_below(folder) if files is None else files
    return {"files": {name: known.get(name) or [(folder / name).stat().st_size, checksum_file(folder / name)] for name in names}}


def verify(folders: Sequence[Path], check_store: Callable[[Path], None] | None = None, tally: Tally | None = None) -> list[str]:
    """Check everything that receipts below `folders` claim, byte for byte.

    Paths in receipts are relative to the working directory, as the stages were given them. A store that is still being written
    (`*.partial`) is mentioned in the log and is no problem, unless a receipt claims it.

    Parameters
    ----------
    folders
        Where to look for receipts and stores, at any depth.
    check_store
        Called with each claimed store; raises `UserError` if it is not a right one, whatever its receipt says (`images.validate`).
    tally
        What is read is added to it.

    Returns
    -------
    list of str
        One sentence for each problem, naming the store and the file, also for what cannot be read; empty if all is well.
    """
    receipts, stores, problems = _find(folders)
    tally = tally or Tally()
    claimed: set[Path] = set()
    for receipt in receipts:
        try:
            content = read_json(receipt)
        except UserError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(_unreadable(receipt, error))
            continue
        if "stage" not in content or not isinstance(content.get("wrote"), Mapping):
            continue
        tally.receipts += 1
        for name, record in _where_now(receipt, content):
            claimed.add(Path(name).resolve())
            tally.stores += name.endswith(STORE)
            try:
                found = _check(Path(name), record, receipt, tally)
                if check_store and name.endswith(STORE) and Path(name).is_dir():
                    found += _structure(Path(name), check_store, found)
            except OSError as error:
                found = [_unreadable(name, error)]
            problems += found
    for store in stores:
        if store.resolve() in claimed:
            continue
        if store.name.endswith(STORE):
            problems.append(f"{store}: no receipt speaks for this store, so it may be half-written; run the stage that writes it again.")
        else:
            log.warning("%s: left by a stage that is running or was stopped; it is no result.", store)
    return problems


def _find(folders: Sequence[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Return what may be receipts, the stores, and a sentence for each place that cannot be looked into: nobody knows what lies there."""
    receipts: list[Path] = []
    stores: list[Path] = []
    links = list(folders)
    closed: list[OSError] = []
    for folder in folders:
        for place, inner, files in _walk(folder, closed.append):
            shown = [place / name for name in files if not name.startswith(".")]
            receipts += (path for path in shown if path.suffix == ".json")
            stores += (place / name for name in inner if name.endswith((STORE, PARTIAL)))
            links += (path for path in shown if path.is_symlink())
    problems = [
        f"{link}: this link leads nowhere, so what lies behind it was not checked; mount its disk again, or delete the link."
        for link in links
        if link.is_symlink() and not os.path.exists(link)  # noqa: PTH110 - Path.exists raises where the way there is closed
    ]
    problems += (_unreadable(error.filename, error) for error in closed if not isinstance(error, FileNotFoundError))
    return sorted(receipts), sorted(stores), problems


def _unreadable(name: str | Path, error: OSError) -> str:
    return (
        f"{name} cannot be read ({error.strerror}), so it was not checked; mend its permissions, or, if the disk is damaged, run the stage "
        "that writes it again."
    )


def _walk(folder: Path, report: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk below a folder, also where links lead to folders on other disks; each is walked once, or links to above would never end."""
    seen: set[str] = set()
    for name, folders, files in os.walk(folder, onerror=report, followlinks=True):
        if (real := os.path.realpath(name)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(name), folders, files
        folders[:] = [name for name in folders if not name.endswith((STORE, PARTIAL))]


def _where_now(receipt: Path, content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what a receipt claims by path; a model's files lie beside its receipt, wherever and under which name it was trained."""
    wrote: Mapping[str, Any] = content["wrote"]
    if content["stage"] != "train" or not wrote:
        return list(wrote.items())
    trained = os.path.commonpath([Path(name).parent for name in wrote])
    return [(str(receipt.parent / os.path.relpath(name, trained)), record) for name, record in wrote.items()]


def _structure(store: Path, check_store: Callable[[Path], None], known: list[str]) -> list[str]:
    try:
        check_store(store)
    except OSError as error:
        return [] if known else [_unreadable(store, error)]
    except UserError as error:
        # A file that is missing or cut off was named already; a wrong key inside a file was not.
        named = any(f"{store}: {word} " in problem for problem in known for word in str(error).split())
        return [] if named else [str(error)]
    return []


def _check(path: Path, record: Any, receipt: Path, tally: Tally) -> list[str]:
    if isinstance(record, str):
        return _check_file(path, None, record, f"{path} (claimed by {receipt})", tally)
    files = record.get("files") if isinstance(record, Mapping) else None
    if not isinstance(files, Mapping):
        return [f"{receipt}: what it says about {path} is not understood ({json.dumps(record)[:80]}); run its stage again."]
    if not path.is_dir():
        return [f"{path}: the store is missing, but {receipt} claims it; run its stage again."]
    problems = []
    for name, (size, checksum) in files.items():
        problems += _check_file(path / name, size, checksum, f"{path}: {name}", tally)
    try:
        surplus = [name for name in files_below(path) if name not in files]
    except OSError as error:
        return problems or [_unreadable(error.filename, error)]
    return problems + [f"{path}: {name} is not in {receipt}; delete it, or run the stage again." for name in surplus]


def _check_file(path: Path, size: int | None, checksum: str, name: str, tally: Tally) -> list[str]:
    try:
        if not path.is_file():
            return [f"{name} is missing; run the stage that writes it again."]
        found = path.stat().st_size
        tally.files += 1
        tally.bytes += found
        if size is not None and found != size:
            return [f"{name} has {found} bytes instead of {size}; run the stage that writes it again."]
        if (sha256_file if size is None else checksum_file)(path) != checksum:
            return [f"{name} has changed since it was written; run the stage that writes it again."]
    except OSError as error:
        return [_unreadable(name, error)]
    return []
