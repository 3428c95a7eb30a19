"""The ledger after registration: each stage once, with its proof, and failures until they are mended."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from register_folder import CONFIG, SHEET, tiff

from cvdm_core import paths
from cvdm_core.acquisitions import progress
from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.ledger import Entry, Ledger, ledger_file
from cvdm_core.acquisitions.progress import Failed, record_progress
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.records.receipts import sha256_file, write_json

LATER = 3600 * 3.0


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiff("inbox/a.tif")
    look()
    assert lines() == ["complete", "registered"]


def look() -> bool:
    return bool(register_inbox(CONFIG, "inbox", clock=lambda: time.time() + LATER))


def lines() -> list[str]:
    return [json.loads(line)["state"] for line in ledger_file(SHEET).read_text().splitlines()]


def latest() -> Entry:
    return next(iter(Ledger(ledger_file(SHEET)).latest.values()))


def receipt(of: object, text: str = "1") -> Path:
    path = of(CONFIG, "a")  # type: ignore[operator]
    write_json(path, {"stage": text})
    return path  # type: ignore[no-any-return]


def failure(kind: str = "memory", act: bool = True) -> dict[str, Failed]:
    note = Path(CONFIG.results) / ".failures/sample.a.0000.json"
    write_json(note, {"class": kind})
    return {"a": Failed(kind, "it took too much\nmemory", note, act)}


def test_each_stage_stands_there_once_with_its_receipt_and_the_receipts_sha256() -> None:
    ingested = receipt(paths.ingest_receipt)
    look()
    assert (latest().state, latest().proofs, latest().proof_sha256) == ("ingested", (str(ingested),), sha256_file(ingested))
    receipt(paths.stitch_receipt)
    reported = receipt(paths.report_receipt)
    record_progress(CONFIG, {})
    for again in (look, lambda: record_progress(CONFIG, {})):
        again()
        assert lines() == ["complete", "registered", "ingested", "restored", "reported"]
    assert latest().proof_sha256 == sha256_file(reported)


def test_stages_that_passed_between_two_looks_are_not_left_out() -> None:
    for of in (paths.ingest_receipt, paths.stitch_receipt, paths.report_receipt):
        receipt(of)
    look()
    assert lines()[2:] == ["ingested", "restored", "reported"]


def test_a_receipt_is_read_again_only_when_it_was_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for of in (paths.ingest_receipt, paths.stitch_receipt, paths.report_receipt):
        receipt(of)
    look()
    read: list[Path] = []
    monkeypatch.setattr(progress, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    look()
    assert read == []
    receipt(paths.report_receipt, "made anew")
    look()
    assert len(read) == 1 and lines()[4:] == ["reported", "reported"]


def test_a_failure_stays_until_its_note_is_gone_and_asks_for_a_person_at_every_look() -> None:
    receipt(paths.ingest_receipt)
    failed = failure()
    record_progress(CONFIG, failed)
    assert look() and look()
    assert lines()[2:] == ["failed"]
    assert (latest().kind, latest().reason, latest().act) == ("memory", "it took too much\\nmemory", True)
    failed["a"].note.unlink()
    assert not look()
    assert (lines()[2:], latest().kind, latest().reason) == (["failed", "ingested"], "", "")


def test_a_file_that_changed_is_said_whatever_was_made_of_it() -> None:
    receipt(paths.ingest_receipt)
    look()
    tiff("inbox/a.tif", 48, 50)
    assert look()
    assert (latest().state, latest().proofs) == ("changed", ())


def test_a_ledger_of_the_version_before_is_read_and_a_busy_sheet_is_refused() -> None:
    old = json.loads(ledger_file(SHEET).read_text().splitlines()[-1])
    for key in ("proofs", "proof_sha256", "proof_stamp", "kind"):
        del old[key]
    ledger_file(SHEET).write_text(json.dumps(old) + "\n")
    receipt(paths.ingest_receipt)
    with locked(SHEET), pytest.raises(UserError, match="is writing it"):
        record_progress(CONFIG, {})
    record_progress(CONFIG, {})
    assert lines() == ["registered", "ingested"]
