"""One look at an inbox: in which state each acquisition is, and why. Nothing is registered here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cvdm_core.acquisitions.arrivals import (
    Evidence,
    Folders,
    check_complete,
    evidence_of,
    key_of,
    moment,
    printable,
    quiet_since,
)
from cvdm_core.acquisitions.candidates import Candidate, find_candidates
from cvdm_core.acquisitions.ledger import Entry, Ledger
from cvdm_core.acquisitions.progress import is_ingested, note_arrival
from cvdm_core.acquisitions.refusals import Refusal
from cvdm_core.config import Config
from cvdm_core.errors import DiskError, UserError
from cvdm_core.images.tiff_images import PartOfSet
from cvdm_core.sheet import Acquisition, Unusable, rows_so_far

AGAIN = "it is looked at again at every `cvdm register --inbox`"
DAMAGED = "damaged input"
"""Kind of the failure of a stage whose sentence asks for other files."""


@dataclass
class Look:
    """One look at the inbox. `entries` holds what is true now, by the ledger's key; `read` what `check_complete` found."""

    config: Config
    inbox: Path
    now: float
    ledger: Ledger
    entries: dict[str, Entry] = field(default_factory=dict)
    folders: Folders = field(default_factory=Folders)
    read: dict[Candidate, tuple[tuple[Path, ...], int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the sheet."""
        self.read_sheet()

    def read_sheet(self) -> None:
        """Read which files are registered, and which belong to a line that is unusable."""
        rows, self.unusable = rows_so_far(self.config.acquisitions)
        self.rows: dict[str, list[Acquisition]] = {}
        for row in rows.values():
            self.rows.setdefault(key_of(row.input), []).append(row)
        self.targets = {key_of(row.target) for row in rows.values() if row.target}
        named = {key_of(file): line for line in self.unusable for file in line.files}
        self.held = {key: line for key, line in named.items() if key not in self.rows and key not in self.targets}

    def judge_all(self) -> list[Candidate]:
        """Judge everything in the inbox and everything that the ledger knows of it; return what is to be registered."""
        candidates, refusals = find_candidates([self.inbox], lambda path: key_of(path) in self.rows or key_of(path) in self.held)
        self.inputs = {key_of(candidate.input) for candidate in candidates}
        self.recheck_registered()
        opened: dict[str, Candidate] = {}
        for candidate in candidates:
            if entry := self.guarded(candidate, self.judge):
                self.entries[entry.file] = entry
                if entry.state == "complete":
                    opened[entry.file] = candidate
        self.folders = Folders()  # looked at anew: what has not changed while it was read is complete
        complete = []
        for key, candidate in opened.items():
            entry = self.guarded(candidate, partial(self.confirmed, self.entries.pop(key)))
            if entry is not None and entry.state == "complete":
                complete.append(candidate)
                before = self.ledger.latest.get(entry.file)
                if before and before.state == "quarantined" and before.digest == entry.digest:
                    entry = before  # refused before: tried again, for the sheet or the configuration may have been mended
            if entry is not None:
                self.entries[entry.file] = entry
        for refusal in refusals:
            if refusal.file != str(self.inbox):  # an empty inbox is nothing to complain of
                alone = Candidate(refusal.acquisition, Path(refusal.file))
                if entry := self.guarded(alone, partial(self.judge_refused, refusal.problem)):
                    self.entries[entry.file] = entry
        for key, entry in self.ledger.latest.items():
            if entry.inbox == key_of(self.inbox) and key not in self.entries:
                self.entries[key] = self.no_longer_there(entry)
        return complete

    def recheck_registered(self) -> None:
        """Compare what was registered from this inbox with what is there, and note which files are taken."""
        self.taken: dict[str, str] = {}
        for key, entry in self.ledger.latest.items():
            rows = self.rows.get(key, [])
            if key in self.held and entry.inbox == key_of(self.inbox) and entry.state != "gone":
                # That its files were damaged is not forgotten: once the line is mended, others in their place are what was asked for.
                self.entries[key] = entry if entry.kind == DAMAGED else _left_out(entry, self.held[key])
            if not entry.acquisitions or entry.inbox != key_of(self.inbox) or entry.named != _named(rows):
                continue
            found = self.recheck(entry, rows)
            if found.state == "changed" and entry.kind == DAMAGED:
                continue  # copied again, as it was asked for: it arrives anew
            if found.state in ("gone", "failed") or all(row.registered for row in rows):
                self.entries[key] = found

    def recheck(self, entry: Entry, rows: list[Acquisition]) -> Entry:
        """Compare one registered acquisition with the evidence of its registration."""
        name = rows[0].acquisition
        try:
            files = self.registered_files(rows, entry.others)
            self.taken |= {key_of(file): name for file in files}
            found = evidence_of(files)
        except FileNotFoundError as error:
            lost = not all(is_ingested(self.config, row.acquisition) for row in rows)
            reason = f"{error.filename}: it is not there any more; it was ingested before."
            if lost:
                reason = (
                    f"{error.filename}: it is not there any more, and was not ingested yet; bring it back (is the file server mounted?), "
                    f"or remove the row `{name}` from {self.config.acquisitions}."
                )
            return entry.model_copy(update={"state": "gone", "act": lost, "reason": printable(reason)})
        except OSError as error:
            return entry.model_copy(update={"state": "failed", "act": True, "reason": _unreadable(error)})
        if found.digest == entry.digest:
            return entry.model_copy(update={"state": "registered", "act": False, "reason": ""})
        then = Evidence(entry.digest, entry.files, entry.bytes, entry.newest, 0)
        reason = (
            f"{rows[0].input}: it changed after registration: {found}; it was {then}. Bring the old files back, or, if the new ones "
            f"are right, remove the row `{name}` from {self.config.acquisitions}, and they are registered anew."
        )
        return entry.model_copy(update={"state": "changed", "act": True, "kind": "", "reason": printable(reason)})

    def registered_files(self, rows: list[Acquisition], others: Iterable[str]) -> list[Path]:
        """Return every file of an acquisition in the sheet."""
        files = set(self.folders.files_of(_named(rows)))
        return sorted(files | {Path(rows[0].input).parent / name for name in others})

    def guarded(self, candidate: Candidate, judge: Callable[[Candidate], Entry | None]) -> Entry | None:
        """Judge one acquisition; what the file system says against it becomes its state and costs the others nothing."""
        try:
            return judge(candidate)
        except FileNotFoundError:
            if candidate.input.is_symlink():
                reason = f"{candidate.input}: it is a link to a file that is not there (is its file server mounted?); {AGAIN}."
                return self.entry(candidate, state="failed", act=True, reason=printable(reason))
            return None  # it vanished while it was looked at: the ledger, if it knows it, says so
        except OSError as error:
            return self.entry(candidate, state="failed", act=True, reason=_unreadable(error))
        except DiskError as error:
            return self.entry(candidate, state="failed", act=True, reason=str(error))

    def judge(self, candidate: Candidate) -> Entry | None:
        """Return the state of one acquisition that lies in the inbox, or None where it is none of its own."""
        key = key_of(candidate.input)
        if (key in self.entries and not self.lacks_target(candidate)) or key in self.targets:
            return None
        for path in filter(None, (candidate.input, candidate.target)):
            if line := self.held.get(key_of(path)):
                return _left_out(self.quiet(candidate), line)
        own = {key_of(path) for path in self.folders.files_of([candidate.input])}
        owners = sorted({self.taken[path] for path in own & self.taken.keys()} - {row.acquisition for row in self.rows.get(key, [])})
        if owners and own <= self.taken.keys():
            return None
        waiting = self.waits(candidate)
        if waiting.state == "arriving":
            return waiting
        if owners:
            problem = (
                f"{candidate.input}: some of its files belong to `{owners[0]}` already; remove that row from {self.config.acquisitions}, "
                "and all are registered as one, or move the new files into a folder of their own."
            )
            return _refused(waiting, problem)
        return self.opened(candidate, waiting)

    def lacks_target(self, candidate: Candidate) -> bool:
        """Whether a target has come for a registered acquisition that has none."""
        rows = self.rows.get(key_of(candidate.input), [])
        return candidate.target is not None and not all(row.target for row in rows)

    def judge_refused(self, problem: str, candidate: Candidate) -> Entry:
        """Return the state of files that make no acquisition as they lie: refused once they are quiet."""
        waiting = self.waits(candidate)
        return waiting if waiting.state == "arriving" else _refused(waiting, problem)

    def waits(self, candidate: Candidate) -> Entry:
        """Return `arriving` with the reason, or `complete` as far as can be told without opening a file."""
        entry = self.quiet(candidate)
        missing = self.folders.missing_marker(candidate, self.inbox, self.config.inbox.marker) if entry.state == "complete" else ""
        if not missing:
            return entry
        return entry.model_copy(update={"state": "arriving", "reason": printable(f"{missing}; {AGAIN}.")})

    def quiet(self, candidate: Candidate) -> Entry:
        """Return `arriving` while the files change or changed lately, and `complete` otherwise."""
        found = self.folders.evidence(candidate, self.inbox)
        before = self.ledger.latest.get(key_of(candidate.input))
        known = before if before and before.state != "gone" else None
        since = quiet_since(found, known.digest if known else "", known.since if known else self.now, self.now)
        facts: dict[str, Any] = {"digest": found.digest, "files": found.files, "bytes": found.bytes, "newest": found.newest, "since": since}
        due = since + 60 * self.config.inbox.quiet_minutes
        if self.now < due:
            reason = f"it is still written, or was lately ({found}); if nothing changes it is complete from {moment(due)}, and {AGAIN}."
            return self.entry(candidate, reason=reason, **facts)
        return self.entry(candidate, state="complete", **facts)

    def opened(self, candidate: Candidate, waiting: Entry) -> Entry:
        """Return the state of a quiet acquisition after a look into its files."""
        try:
            self.read[candidate] = check_complete(candidate)
        except PartOfSet as error:
            if key_of(error.first) in self.inputs:
                reason = f"it is a part of {error.first.name}, which is not registered yet; {AGAIN}."
                return waiting.model_copy(update={"state": "arriving", "reason": printable(reason)})
            return _refused(waiting, str(error))
        except UserError as error:
            reason = f"nothing has changed since {moment(waiting.since)}, but it is not complete: {error} When its files change, {AGAIN}."
            return waiting.model_copy(update={"state": "failed", "act": True, "reason": printable(reason)})
        return waiting

    def confirmed(self, waiting: Entry, candidate: Candidate) -> Entry:
        """Return the state of an acquisition that was whole when it was opened, after another look at all its files."""
        again = self.waits(candidate)
        if again.digest != waiting.digest:
            return again
        files, images = self.read[candidate]
        others = set(files) - set(self.folders.files_of([candidate.input, candidate.target or ""]))
        for file in sorted(others) if candidate.input.parent == self.inbox else ():
            part = self.quiet(Candidate(file.name, file))
            if part.state == "arriving":
                reason = printable(f"{file.name} is a part of it, and ") + part.reason
                return waiting.model_copy(update={"state": "arriving", "reason": reason})
        waiting = waiting.model_copy(
            update={"others": tuple(sorted(file.name.encode(errors="backslashreplace").decode() for file in others))}
        )
        rows = self.rows.get(key_of(candidate.input), [])
        all_images = len(rows) >= images or any(row.series in (None, "mosaic") for row in rows)
        if rows and all_images and all(row.registered for row in rows) and not self.lacks_target(candidate):
            return self.registered(waiting, rows)
        return waiting

    def registered(self, entry: Entry, rows: list[Acquisition]) -> Entry:
        """Return the state of an acquisition that stands measured in the sheet, with the evidence to compare with from now on."""
        if entry.file in self.ledger.latest:  # else the ledger was lost, and a whole archive might be read
            for row in rows:
                note_arrival(self.config, row)
        found = evidence_of(self.registered_files(rows, entry.others))
        facts = {"digest": found.digest, "files": found.files, "bytes": found.bytes, "newest": found.newest}
        names = tuple(row.acquisition for row in rows)
        return entry.model_copy(
            update={"state": "registered", "reason": "", "act": False, "acquisitions": names, "named": _named(rows), **facts}
        )

    def settle(self, complete: Iterable[Candidate], refusals: Iterable[Refusal]) -> list[Refusal]:
        """Note what registration made of the complete ones; return the refusals of others."""
        self.read_sheet()
        problems = {refusal.file: refusal.problem for refusal in refusals}
        for candidate in complete:
            if entry := self.guarded(candidate, partial(self.settled, problems)):
                self.entries[entry.file] = entry
        mine = {str(path) for candidate in complete for path in (candidate.input, candidate.target)}
        return [refusal for refusal in refusals if refusal.file not in mine]

    def settled(self, problems: Mapping[str, str], candidate: Candidate) -> Entry:
        """Return the state of a complete acquisition after its registration; `problems` by the file that was refused."""
        entry = self.entries[key_of(candidate.input)]
        rows = self.rows.get(key_of(candidate.input), [])
        if said := [problems[str(path)] for path in (candidate.input, candidate.target) if str(path) in problems]:
            return _refused(entry, said[0])
        return self.registered(entry, rows) if rows and all(row.registered for row in rows) else entry

    def no_longer_there(self, entry: Entry) -> Entry:
        """Return the state of what the ledger knows and the inbox does not hold (any more) as an acquisition of its own."""
        if entry.state == "gone":
            return entry
        if entry.kind == DAMAGED and entry.named == _named(self.rows.get(entry.file, [])):
            return entry  # of a series that is copied again not all is there yet
        reason = "it is not there any more, or belongs to another acquisition now; nothing was registered from it."
        if entry.acquisitions:
            reason = "it is not in the sheet any more, and not in the inbox as it was."
        return entry.model_copy(update={"state": "gone", "act": False, "reason": reason, "acquisitions": ()})

    def entry(self, candidate: Candidate, **facts: Any) -> Entry:
        """Return a line about a candidate, arriving unless `facts` say otherwise."""
        reason = printable(facts.pop("reason", ""))
        where = {"file": key_of(candidate.input), "inbox": key_of(self.inbox)}
        return Entry(**({"state": "arriving"} | where | facts), name=printable(candidate.name), reason=reason)


def _named(rows: Iterable[Acquisition]) -> tuple[str, ...]:
    return tuple(sorted({path for row in rows for path in (row.input, row.target) if path}))


def _refused(entry: Entry, problem: str) -> Entry:
    return entry.model_copy(update={"state": "quarantined", "act": True, "reason": printable(problem)})


def _left_out(entry: Entry, line: Unusable) -> Entry:
    """Return the state of files whose line in the sheet is unusable: they stay the line's, and wait for a person."""
    return entry.model_copy(update={"state": "failed", "act": True, "kind": "", "reason": printable(line.problem)})


def _unreadable(error: OSError) -> str:
    return printable(f"{error.filename}: it cannot be read ({error.strerror}); check its permissions and the file server; {AGAIN}.")
