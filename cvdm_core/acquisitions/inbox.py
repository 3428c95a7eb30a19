"""`cvdm register --inbox`: look once at a folder in which acquisitions arrive, and register those that are complete and not known.

Each acquisition is judged for itself, and the ledger keeps the judgement and its evidence. Raw files are only looked at and read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from cvdm_core.acquisitions.judging import Look
from cvdm_core.acquisitions.ledger import Entry, Ledger, ledger_file
from cvdm_core.acquisitions.progress import with_progress
from cvdm_core.acquisitions.refusals import tell
from cvdm_core.acquisitions.register import add_to_sheet
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.lock import locked


def register_inbox(
    config: Config,
    inbox: str | Path,
    *,
    specimen: str | None = None,
    split: str = "predict",
    pixel_size_um: float | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Entry]:
    """Register what is complete in `inbox`, note every change of state in the ledger, and print what is not registered and why.

    Parameters
    ----------
    config
        Names the sheet; `config.inbox` says when an acquisition is complete.
    inbox
        The folder. Acquisitions lie in it or in folders below it.
    specimen, split, pixel_size_um
        For added files, as for `register`.
    clock
        This machine's time [seconds since 1970].

    Returns
    -------
    list of Entry
        Those for which a person must act: something failed, was refused, changed after its registration, or vanished before ingestion.

    Raises
    ------
    UserError
        If the inbox cannot be looked at, an option is unusable, or the sheet cannot be read or is being written by another process.
    """
    folder = Path(inbox)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the inbox, and check that its file server is mounted.")
    sheet = Path(config.acquisitions)
    with locked(sheet):
        look = Look(config, folder, clock(), Ledger(ledger_file(sheet)))
        complete = look.judge_all()
        look.ledger.add(with_progress(config, look.ledger, look.entries.values()))
        if complete:
            given = [path for candidate in complete for path in (candidate.input, candidate.target) if path]
            outcome = add_to_sheet(config, given, specimen=specimen, split=split, pixel_size_um=pixel_size_um, anew=False)
            others = look.settle(complete, outcome.refusals)
            look.ledger.add(with_progress(config, look.ledger, look.entries.values()))
            tell(outcome.remarks, others)
    for number in look.ledger.damaged:
        print(f"note: {look.ledger.path}, line {number}: it cannot be read and is passed over.")
    now = [look.ledger.latest[key] for key in look.entries]
    _report(now)
    return [entry for entry in now if entry.act]


def _report(entries: Iterable[Entry]) -> None:
    """Print everything that is not simply registered, and how many are in which state."""
    states: Counter[str] = Counter()
    for entry in entries:
        states[entry.state] += 1
        if entry.act or entry.state == "arriving":
            print(f"{entry.state}: {entry.name} ({entry.file}): {entry.reason}")
    del states["gone"]
    print(f"inbox: {', '.join(f'{count} {state}' for state, count in sorted(states.items())) or 'nothing'}.")
