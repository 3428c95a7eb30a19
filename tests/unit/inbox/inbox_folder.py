"""An inbox in the working directory, and what its ledger and the sheet say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from register_folder import SHEET, tiff

from cvdm_core.acquisitions.ledger import Ledger, ledger_file
from cvdm_core.sheet import read_sheet

Look = Callable[..., bool]


def raw() -> dict[Path, tuple[int, bytes]]:
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in Path("inbox").rglob("*") if file.is_file()}


def states() -> dict[str, str]:
    return {entry.name: entry.state for entry in Ledger(ledger_file(SHEET)).latest.values()}


def reason(name: str) -> str:
    return next(entry.reason for entry in Ledger(ledger_file(SHEET)).latest.values() if entry.name == name)


def history(name: str) -> list[str]:
    lines = ledger_file(SHEET).read_text().splitlines()
    return [line.split('"state":"')[1].split('"')[0] for line in lines if f'"name":"{name}"' in line]


def sheet() -> list[str]:
    return list(read_sheet(SHEET)) if Path(SHEET).exists() else []


def plane(name: str) -> None:
    tiff(f"inbox/{name}.tif")
