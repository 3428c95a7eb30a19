"""The inbox: what is copied or exported again after it was registered arrives again, and old receipts do not speak for new pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from inbox_folder import Look, history, plane, sheet, states
from micromanager import write_mmstack
from register_folder import CONFIG, SHEET, break_line, tiff

from cvdm_core import paths
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


def test_a_damaged_file_may_be_copied_again_while_its_line_is_broken(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    fails("a", "damaged input")
    break_line(SHEET, "a")
    assert look(21)
    plane("a")
    assert look(22) and states() == {"a": "failed"}
    Path(SHEET).write_text(Path(SHEET).read_text().replace("1,4", "1.4"))
    assert not look(23)
    assert not look(40)
    assert states() == {"a": "registered"}


def test_a_file_that_changed_after_another_failure_is_a_changed_file(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    fails("a", "memory")
    tiff("inbox/a.tif", 48, 50)
    assert look(21) and look(40)
    assert states() == {"a": "changed"}


def series(value: int) -> str:
    for number in range(2):
        size = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
        image = np.full((16, 20), value, "uint16")
        tifffile.imwrite(f"inbox/run/x_t{number}.tif", image, ome=True, photometric="minisblack", metadata=size)
    return "x"


def file_set(value: int) -> str:
    """Write a set of two files, of which only the second one depends on `value`."""
    for number, planes in enumerate(({0: 7}, {1: value})):
        name = f"run_MMStack{'_1' * number}.ome.tif"
        images = {(0, 0, t, 0): np.full((16, 20), count, "uint16") for t, count in planes.items()}
        if value == 1 or number:
            write_mmstack(Path("inbox/run", name), images, Frames=2, Prefix="run", PixelSize_um=0.1)
    return "run_MMStack"


def restored() -> None:
    """Leave receipts of a restored image and of its report."""
    for receipt in (paths.stitch_receipt, paths.report_receipt):
        write_json(receipt(CONFIG, sheet()[0]), {"stage": "as if"})


@pytest.mark.parametrize("export", [series, file_set])
def test_what_is_exported_again_is_restored_again_and_old_results_do_not_speak_for_it(look: Look, export: Callable[[int], str]) -> None:
    Path("inbox/run").mkdir()
    name = export(1)
    look(0)
    look(20)
    row = read_sheet(SHEET)[name]
    ingest(CONFIG, name)
    restored()
    look(21)
    assert states()[name] == "reported"
    export(2)
    assert look(22)
    assert states()[name] == "changed"
    write_sheet(SHEET, {})
    look(23)
    assert not look(34)
    assert states()[name] == "registered" and read_sheet(SHEET)[name] == row
    assert paths.arrival(CONFIG, name).is_file()  # Snakemake sees this, and nothing else that has changed
    Path("inbox/other.txt").touch()
    Path("inbox/run").rename("away")
    assert look(35)
    Path("away").rename("inbox/run")
    ingest(CONFIG, name)
    assert not look(36)
    assert states()[name] == "ingested"
    restored()
    assert not look(37)
    assert states()[name] == "reported"


def test_a_row_that_is_removed_and_comes_back_for_the_same_files_is_not_ingested_again(look: Look) -> None:
    Path("inbox/run").mkdir()
    series(1)
    look(0)
    look(20)
    ingest(CONFIG, "x")
    look(21)
    write_sheet(SHEET, {})
    assert not look(22)
    assert not look(33)
    assert states() == {"x": "ingested"} and not paths.arrival(CONFIG, "x").exists()
