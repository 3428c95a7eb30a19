"""The inbox: a line of the sheet that somebody broke keeps its files, and asks for a person until it is mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from inbox_folder import Look, plane, reason, sheet, states
from register_folder import CONFIG, SHEET, break_line, tiff

from cvdm_core import paths
from cvdm_core.acquisitions.register import register
from cvdm_core.sheet import read_sheet, write_sheet


def test_a_broken_line_keeps_its_files_through_every_look_and_comes_back_as_it_was_when_it_is_mended(look: Look) -> None:
    tiff("inbox/p1_input.tif")
    tiff("inbox/p1_target.tif", 64, 80, pixel_um=0.05)
    look(0)
    look(20)
    row = read_sheet(SHEET)["p1"].model_copy(update={"split": "train", "specimen": "mouse7", "urgent": 5})
    write_sheet(SHEET, {"p1": row})
    receipt = paths.ingest_receipt(CONFIG, "p1")
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    assert not look(30) and states() == {"p1": "ingested"}
    break_line(SHEET, "p1")
    assert look(40) and look(50)
    assert sheet() == [] and states() == {"p1": "failed"} and "line 2: na = '1,4' is not usable" in reason("p1")
    plane("new")
    assert look(60) and look(80)
    assert sheet() == ["new"] and states() == {"p1": "failed", "new": "registered"}
    Path(SHEET).write_text(Path(SHEET).read_text().replace("1,4", "1.4"))
    assert not look(90)
    assert states() == {"p1": "ingested", "new": "registered"}
    assert next(iter(read_sheet(SHEET).items())) == ("p1", row.model_copy(update={"na": 1.4}))


def test_a_broken_line_whose_files_lie_elsewhere_asks_for_a_person_at_every_look(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    tiff("raw/z.tif")
    register(CONFIG, ["raw/z.tif"])
    assert not look(0)
    break_line(SHEET, "z")
    for minute in (1, 2):
        assert look(minute)
        assert f"left out: z: {SHEET}, line 2: na = '1,4' is not usable" in capsys.readouterr().out


def test_files_of_broken_lines_are_not_put_together_to_one_acquisition(look: Look) -> None:
    for name in ("cell_t1", "cell_t2"):
        plane(name)
        register(CONFIG, [f"inbox/{name}.tif"])
    for name in ("cell_t1", "cell_t2"):
        break_line(SHEET, name)
    assert look(0) and look(20) and look(40)
    assert sheet() == []


def test_a_broken_line_is_told_once_where_the_look_writes_the_sheet_anew(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    tiff("raw/z.tif")
    register(CONFIG, ["raw/z.tif"])
    break_line(SHEET, "z")
    header, line = Path(SHEET).read_text().splitlines()
    Path(SHEET).write_text(f"{header}\n\n\n{line}\n")  # whose number changes when the empty lines go
    plane("new")
    look(0)
    capsys.readouterr()
    assert look(20) and sheet() == ["new"]
    said = capsys.readouterr()
    assert (said.out + said.err).count("na = '1,4'") == 1


def test_files_are_kept_for_a_line_whose_cells_were_shifted_by_a_tab(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    Path(SHEET).write_text(Path(SHEET).read_text().replace("\tpredict", "\t\tpredict"))
    assert look(30) and look(31)
    assert sheet() == [] and states() == {"a": "failed"}
    Path(SHEET).write_text(Path(SHEET).read_text().replace("\t\tpredict", "\tpredict"))
    assert not look(40)
    assert sheet() == ["a"] and states() == {"a": "registered"}
