"""The inbox: what is copied or exported again after it was registered arrives again, and old receipts do not speak for new pixels."""

from __future__ import annotations

from pathlib import Path

from inbox_folder import Look, history, plane, sheet, states
from register_folder import CONFIG, SHEET, tiff

from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.progress import Failed, record_progress
from cvdm_core.records.failures import failure_path
from cvdm_core.records.receipts import write_json
from cvdm_core.sheet import read_sheet, write_sheet


def fails(name: str, kind: str) -> None:
    """Let the night find that an acquisition cannot be ingested."""
    note = failure_path(CONFIG.results, "ingest", name)
    write_json(note, {"stage": "ingest", "subject": name, "class": kind, "message": "It is cut off."})
    record_progress(CONFIG, {name: Failed(kind, "It is cut off.", note, act=True)})


def test_a_damaged_file_that_is_copied_again_arrives_again_and_is_restored(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    rows = read_sheet(SHEET)
    write_sheet(SHEET, {"a": rows["a"].model_copy(update={"note": "the good one"})})
    fails("a", "damaged input")
    assert look(21)
    assert states() == {"a": "failed"}
    plane("a")
    assert not look(22)
    assert states() == {"a": "arriving"}
    assert not look(33)
    assert states() == {"a": "registered"} and read_sheet(SHEET)["a"].note == "the good one"
    ingest(CONFIG, "a")
    assert not look(34) and not look(35)
    assert history("a")[3:] == ["failed", "arriving", "registered", "ingested"]


def test_a_damaged_series_that_is_copied_again_is_no_acquisition_before_all_of_it_is_there(look: Look) -> None:
    for number in (0, 1):
        plane(f"run/x_t{number}")
    look(0)
    look(20)
    fails("x", "damaged input")
    for number in (0, 1):
        Path(f"inbox/run/x_t{number}.tif").unlink()
    assert look(21)
    plane("run/x_t0")
    assert look(22) and look(40)
    assert states() == {"x": "failed"} and sheet() == ["x"]
    plane("run/x_t1")
    assert not look(41)
    assert states() == {"x": "arriving"}
    assert not look(52)
    assert states() == {"x": "registered"} and sheet() == ["x"]


def test_a_file_that_changed_after_another_failure_is_a_changed_file(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    fails("a", "memory")
    tiff("inbox/a.tif", 48, 50)
    assert look(21) and look(40)
    assert states() == {"a": "changed"}
