"""The inbox: what is changed, taken away or edited after it was registered is noticed; what did not change is not read again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from inbox_folder import Look, plane, reason, sheet, states
from register_folder import CONFIG, SHEET, tiff

from cvdm_core import paths
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.register import register
from cvdm_core.errors import UserError
from cvdm_core.sheet import read_sheet, write_sheet


def test_a_change_after_registration_is_said_until_somebody_acts(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    plane("a")
    shutil.copy2("inbox/a.tif", "kept.tif")
    look(0)
    look(20)
    row = read_sheet(SHEET)
    tiff("inbox/a.tif", 48, 50)
    assert look(21) and look(22)
    assert states() == {"a": "changed"} and read_sheet(SHEET) == row
    assert "changed: a (" in capsys.readouterr().out and "it changed after registration: 1 file, " in reason("a")
    shutil.copy2("kept.tif", "inbox/a.tif")
    assert not look(23)
    assert states() == {"a": "registered"}
    tiff("inbox/a.tif", 48, 50)
    assert look(24)
    write_sheet(SHEET, {})
    assert not look(25)
    assert not look(36)
    assert states() == {"a": "registered"} and read_sheet(SHEET)["a"].size_y == 48


def test_a_file_that_vanishes_is_said_and_is_an_alarm_only_where_pixels_are_lost(look: Look) -> None:
    plane("a")
    plane("b")
    Path("inbox/other.txt").touch()
    look(0)
    Path("inbox/a.tif").unlink()
    assert not look(1)
    assert states() == {"a": "gone", "b": "arriving"}
    look(20)
    Path("inbox/b.tif").rename("b.tif")
    assert look(21)
    assert states() == {"a": "gone", "b": "gone"} and "not ingested yet" in reason("b")
    receipt = paths.ingest_receipt(CONFIG, "b")
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    assert not look(22)
    Path("b.tif").rename("inbox/b.tif")
    assert not look(23)
    assert states()["b"] == "ingested"


def test_a_row_that_a_person_edits_is_no_changed_file(look: Look) -> None:
    plane("a\u00a0b/a")  # a space that is no plain one
    tiff("truth.tif", 64, 80, pixel_um=0.05)
    look(0)
    look(20)
    row = read_sheet(SHEET)["a"]
    write_sheet(SHEET, {"a": row.model_copy(update={"target": "truth.tif"})})
    register(CONFIG, [])
    assert not look(72)
    assert states() == {"a": "registered"}
    tiff("truth.tif", 66, 80, pixel_um=0.05)
    assert look(73)
    assert states() == {"a": "changed"}
    Path("truth.tif").unlink()
    with pytest.raises(UserError, match="refused"):
        register(CONFIG, [])
    assert look(74)
    assert states() == {"a": "gone"} and "truth.tif: it is not there any more, and was not ingested yet" in reason("a")


def test_what_a_person_registered_is_known_and_measured_rows_are_not_read_again(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    plane("a")
    register(CONFIG, ["inbox/a.tif"], Added(name="other"))
    look(0)
    look(20)
    assert sheet() == ["other"] and states() == {"a": "registered"}
    opened: list[str] = []
    monkeypatch.setattr("cvdm_core.acquisitions.register.measure", lambda row, *_: (opened.append(row.acquisition) or row, []))
    plane("b")
    look(21)
    look(32)
    assert opened == ["b"]
