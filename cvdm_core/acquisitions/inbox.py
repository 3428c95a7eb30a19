"""`cvdm register --inbox`: look once at a folder in which acquisitions arrive, and register those that are complete and not known.

Each acquisition is judged for itself, and the ledger keeps the judgement and its evidence. Raw files are only looked at and read.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from cvdm_core.acquisitions.added import NOTHING_SAID, Added
from cvdm_core.acquisitions.arrivals import key_of, printable
from cvdm_core.acquisitions.judging import Look
from cvdm_core.acquisitions.ledger import Entry, Ledger, ledger_file
from cvdm_core.acquisitions.progress import STAGES, is_ingested, with_progress
from cvdm_core.acquisitions.refusals import tell
from cvdm_core.acquisitions.register import add_to_sheet
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.routing import Routes, find_routes
from cvdm_core.sheet import Unusable


def register_inbox(
    config: Config,
    inbox: str | Path,
    added: Added = NOTHING_SAID,
    *,
    clock: Callable[[], float] = time.time,
) -> list[Entry]:
    """Register what is complete in `inbox`, note every change of state in the ledger, and print what is not registered and why.

    Parameters
    ----------
    config
        Names the sheet; `config.inbox` says when an acquisition is complete.
    inbox
        The folder. Acquisitions lie in it or in folders below it.
    added
        What a person says of the files that are added; `config.inbox.instrument` is their microscope unless it says another.
    clock
        This machine's time [seconds since 1970].

    Returns
    -------
    list of Entry
        Those for which a person must act: something failed, was refused, changed after its registration, or vanished before ingestion;
        the lines of the sheet that are unusable; and, as of the kind "no model", what is registered and restored by no model.

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
        ledger = Ledger(ledger_file(sheet))
        _check_mounted(config, folder, ledger)
        look = Look(config, folder, clock(), ledger)
        complete = look.judge_all()
        unusable = look.unusable  # with the numbers of their lines before the sheet is written
        look.ledger.add(with_progress(config, look.ledger, look.entries.values()))
        if complete:
            given = [path for candidate in complete for path in (candidate.input, candidate.target) if path]
            outcome = add_to_sheet(config, given, replace(added, instrument=added.instrument or config.inbox.instrument), anew=False)
            others = look.settle(complete, outcome.refusals)
            look.ledger.add(with_progress(config, look.ledger, look.entries.values()))
            tell(outcome.remarks, [refusal for refusal in others if refusal.problem not in {line.problem for line in unusable}])
    for number in look.ledger.damaged:
        print(f"note: {look.ledger.path}, line {number}: it cannot be read and is passed over.")
    now = [look.ledger.latest[key] for key in look.entries]
    routes = find_routes(config, [row for rows in look.rows.values() for row in rows])
    told = {entry.reason for entry in now}
    broken = [entry for entry in map(partial(_without_row, look), unusable) if entry.reason not in told]
    _report(now, routes, broken)
    act = [entry for entry in now if entry.act] + broken
    return act + [entry for each in now for entry in _without_model(each, routes)]


def _without_row(look: Look, line: Unusable) -> Entry:
    """Return an unusable line of the sheet as an entry for which a person must act; it is not for the ledger."""
    where = {"file": look.config.acquisitions, "inbox": str(look.inbox)}
    return Entry(**where, name=printable(line.acquisition), state="failed", act=True, reason=printable(line.problem))


def _check_mounted(config: Config, folder: Path, ledger: Ledger) -> None:
    """Refuse an inbox that cannot be searched, or is empty and held what was not ingested yet: the mount point of a server that is away."""
    try:
        with os.scandir(folder) as found:
            if next(found, None) is not None:
                return
    except OSError as error:
        raise UserError(f"{folder}: it cannot be searched ({error.strerror}); check its permissions and the file server.") from None
    inbox = key_of(folder)
    # What was refused and never registered may simply have been deleted.
    held = [entry for entry in ledger.latest.values() if entry.inbox == inbox and (entry.state == "arriving" or entry.acquisitions)]
    held = [entry for entry in held if entry.state not in ("gone", *STAGES)]
    held = [entry for entry in held if not (entry.acquisitions and all(is_ingested(config, name) for name in entry.acquisitions))]
    if held:
        raise UserError(
            f"{folder}: it is empty, and at the last look it held {held[0].name}{f' and {len(held) - 1} more' * (len(held) > 1)}, not "
            "ingested yet; is its file server mounted? If it was emptied on purpose, put a file into it, of any kind, and look again."
        )


def _without_model(entry: Entry, routes: Routes) -> Iterator[Entry]:
    """Give a registered entry as one for which a person must act, where no model restores it."""
    if found := [routes.problems[name] for name in entry.acquisitions if name in routes.problems]:
        yield entry.model_copy(update={"act": True, "kind": "no model", "reason": found[0]})


def _report(entries: Iterable[Entry], routes: Routes, broken: Iterable[Entry]) -> None:
    """Print everything that is not simply registered, what no model restores, and how many are in which state."""
    states: Counter[str] = Counter()
    for entry in entries:
        states[entry.state] += 1
        if entry.act or entry.state == "arriving":
            print(f"{entry.state}: {entry.name} ({entry.file}): {entry.reason}")
    for entry in broken:
        print(f"left out: {entry.name}: {entry.reason}")
    for sentence in routes.sentences():
        print(f"not restored: {sentence}")
    del states["gone"]
    print(f"inbox: {', '.join(f'{count} {state}' for state, count in sorted(states.items())) or 'nothing'}.")
