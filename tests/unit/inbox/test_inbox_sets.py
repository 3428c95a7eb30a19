"""The inbox: what consists of several files, or is several acquisitions in one, is registered as a whole and once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from inbox_folder import Look, plane, reason, sheet, states
from micromanager import write_mmstack
from register_folder import SHEET, rows, tiff
from test_ome_sets import write_set

from cvdm_core.acquisitions.ledger import Ledger, ledger_file
from cvdm_core.sheet import read_sheet


def test_the_target_of_a_row_is_no_arrival(look: Look) -> None:
    plane("noisy")
    tiff("inbox/clean.tif", 64, 80, pixel_um=0.05)
    rows("x s predict inbox/noisy.tif inbox/clean.tif")
    look(0)
    assert not look(20)
    assert states() == {"noisy": "registered"} and sheet() == ["x"]


def test_a_missing_plane_of_a_pattern_is_named_and_its_coming_completes_it(look: Look) -> None:
    for number in (0, 1, 3):
        plane(f"run/img_t{number}")
    look(0)
    assert look(20)
    assert states() == {"img": "failed"} and "1 of 4 planes are missing (t 2)" in reason("img")
    plane("run/img_t2")
    look(21)
    assert states() == {"img": "arriving"}
    assert not look(32)
    assert states() == {"img": "registered"} and read_sheet(SHEET)["img"].size_t == 4


def test_a_file_that_becomes_part_of_a_pattern_is_registered_with_it_only(look: Look) -> None:
    plane("run/img_t0")
    look(0)
    plane("run/img_t1")
    look(5)
    look(20)
    assert sheet() == ["img"] and states() == {"img_t0": "gone", "img": "registered"}


def test_a_new_channel_of_a_registered_pattern_is_not_registered_twice(look: Look) -> None:
    for number in (0, 1):
        plane(f"run/img_t{number}_ch0")
    look(0)
    look(20)
    for number in (0, 1):
        plane(f"run/img_t{number}_ch1")
    look(30)
    assert look(50)
    assert sorted(states().values()) == ["quarantined", "registered"] and sheet() == ["img_ch0"]
    assert "belong to `img_ch0` already" in reason("img")


def test_a_target_that_comes_first_waits_for_its_input_and_one_that_comes_later_joins(look: Look) -> None:
    tiff("inbox/a_target.tif", 64, 80, pixel_um=0.05)
    plane("b_input")
    look(0)
    assert states() == {"a": "arriving", "b": "arriving"}
    assert look(20)
    assert states() == {"a": "quarantined", "b": "registered"} and "no a_input.tif lies beside it" in reason("a")
    plane("a_input")
    tiff("inbox/b_target.tif", 64, 80, pixel_um=0.05)
    look(21)
    assert not look(32)
    assert {name: row.target for name, row in read_sheet(SHEET).items()} == {"b": "inbox/b_target.tif", "a": "inbox/a_target.tif"}
    assert all(row.registered for row in read_sheet(SHEET).values())


def test_a_target_that_comes_later_and_does_not_fit_is_refused(look: Look) -> None:
    plane("a_input")
    look(0)
    look(20)
    tiff("inbox/a_target.tif", 64, 79, pixel_um=0.05)
    look(21)
    assert look(32)
    assert states() == {"a": "quarantined"} and "not the field of" in reason("a") and not read_sheet(SHEET)["a"].registered


def test_two_positions_of_a_file_are_two_rows_and_one_arrival(look: Look) -> None:
    with tifffile.TiffWriter("inbox/p.ome.tif", ome=True) as file:
        for number in range(2):
            size = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
            file.write(np.full((16, 20), number, "uint16"), photometric="minisblack", metadata={"axes": "YX", **size})
    look(0)
    assert not look(20)
    assert sheet() == ["p_s0", "p_s1"] and states() == {"p": "registered"}
    assert Ledger(ledger_file(SHEET)).latest[str(Path("inbox/p.ome.tif").resolve())].acquisitions == ("p_s0", "p_s1")
    assert not look(30)


def test_a_position_that_is_refused_is_not_forgotten(look: Look) -> None:
    plane("p_s1")
    look(0)
    look(20)
    positions = [np.full((16, 20), number, "uint16") for number in range(2)]
    with tifffile.TiffWriter("inbox/p.ome.tif", ome=True) as file:
        for array in positions:
            file.write(array, photometric="minisblack", metadata={"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1})
    look(21)
    assert look(40) and look(50)
    assert sheet() == ["p_s1", "p_s0"] and states()["p"] == "quarantined" and "the name 'p_s1' belongs to" in reason("p")


def test_a_set_of_files_in_the_inbox_itself_waits_for_its_last_file(look: Look) -> None:
    def stack(name: str, frames: range) -> None:
        planes = {(0, 0, t, 0): np.full((16, 20), t, "uint16") for t in frames}
        write_mmstack(Path("inbox", name), planes, Frames=5, Prefix="run", PixelSize_um=0.1)

    stack("run_MMStack.ome.tif", range(3))
    look(0)
    stack("run_MMStack_1.ome.tif", range(3, 5))
    look(5)
    assert not look(11)  # the first file is quiet, the last is not
    assert states() == {"run_MMStack": "arriving", "run_MMStack_1": "arriving"}
    assert "run_MMStack_1.ome.tif is a part of it" in reason("run_MMStack")
    assert not look(16)
    assert states() == {"run_MMStack": "registered", "run_MMStack_1": "arriving"}
    assert not look(17)
    assert states() == {"run_MMStack": "registered", "run_MMStack_1": "gone"} and sheet() == ["run_MMStack"]
    stack("run_MMStack_1.ome.tif", range(4, 5))
    assert look(18)
    assert states()["run_MMStack"] == "changed"


def test_a_set_of_ome_tiffs_whose_names_are_like_a_pattern_is_registered_once(look: Look) -> None:
    Path("inbox/run").mkdir()
    write_set(Path("inbox/run"), [f"cell_TP{t}.ome.tif" for t in range(3)], prefix="cell_TP")
    last = Path("inbox/run/cell_TP2.ome.tif")
    content = last.read_bytes()
    last.unlink()
    look(0)
    assert look(20)
    assert set(states().values()) == {"failed"} and "1 of the 3 files of its set are not beside it" in reason("cell_TP0")
    last.write_bytes(content)
    look(21)
    look(40)
    assert not look(41)
    assert sheet() == ["cell_TP0"] and states() == {"cell_TP0": "registered", "cell_TP1": "gone", "cell_TP2": "gone"}
    before = ledger_file(SHEET).read_bytes()
    assert not look(60) and ledger_file(SHEET).read_bytes() == before
