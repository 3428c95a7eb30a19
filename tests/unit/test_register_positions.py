"""A file with several positions becomes one acquisition a position, down to the store; a set is registered once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from micromanager import write_mmstack
from register_folder import CONFIG, SHEET, refused, rows, tiff
from store_tree import SETTINGS
from test_ome_sets import pixels_xml, uuid, write_set
from tiff_dialects import pixels

from cvdm_core import paths
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.register import register
from cvdm_core.config import parse
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.records.receipts import read_json
from cvdm_core.sheet import read_sheet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_positions(path: str, arrays: list[np.ndarray[Any, Any]], pixel_um: float = 0.1) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, array in enumerate(arrays):
            size = {f"PhysicalSize{axis}": pixel_um for axis in "XY"}
            file.write(array, photometric="minisblack", metadata={"axes": "YX", "Name": f"well {number}", **size})


def test_every_position_becomes_an_acquisition_with_its_own_pixels() -> None:
    inputs, targets = [pixels(16, 20) + n for n in range(3)], [pixels(32, 40) + n for n in range(3)]
    write_positions("raw/a_input.ome.tif", inputs)
    write_positions("raw/a_target.ome.tif", targets, 0.05)
    register(CONFIG, ["raw"])
    sheet = read_sheet(SHEET)
    assert {name: (row.series, row.specimen, row.note) for name, row in sheet.items()} == {
        f"a_s{number}": (number, "a", f"well {number}") for number in range(3)
    }
    config = parse({"acquisitions": SHEET, "store": SETTINGS, "model": {"scale": 2}}, "the test")
    ingest(config, "a_s2")
    np.testing.assert_array_equal(open_image(paths.raw_store(config, "a_s2")).values[0, 0, 0], inputs[2])
    np.testing.assert_array_equal(open_image(paths.target_store(config, "a_s2")).values[0, 0, 0], targets[2])
    assert open_image(paths.raw_store(config, "a_s2")).attrs["cvdm"]["series"] == 2
    before = Path(SHEET).read_bytes()
    register(CONFIG, ["raw"])
    assert Path(SHEET).read_bytes() == before


def test_a_row_that_names_no_position_is_refused_until_it_does() -> None:
    write_positions("a.ome.tif", [pixels(16, 20)] * 3)
    rows("a s predict a.ome.tif", columns="acquisition specimen split input")
    (problem,) = refused("a.ome.tif")
    assert "it holds 3 images of one size" in problem and "(0, 1, 2) into the column series of the row `a`" in problem
    rows("a s predict a.ome.tif 1", columns="acquisition specimen split input series")
    register(CONFIG, ["a.ome.tif"], Added(specimen="s"))
    assert {name: row.series for name, row in read_sheet(SHEET).items()} == {"a": 1, "a_s0": 0, "a_s2": 2}


def test_a_file_that_became_several_positions_is_not_ingested_as_the_first() -> None:
    tiff("a.tif", 16, 20)
    register(CONFIG, ["a.tif"])
    write_positions("a.tif", [pixels(16, 20)] * 2)
    config = parse({"acquisitions": SHEET, "store": SETTINGS}, "the test")
    with pytest.raises(UserError, match="it holds 2 images of one size"):
        ingest(config, "a")


def test_positions_and_targets_must_agree_in_number() -> None:
    write_positions("raw/a_input.ome.tif", [pixels(16, 20)] * 3)
    write_positions("raw/a_target.ome.tif", [pixels(32, 40)] * 2, 0.05)
    (problem,) = refused("raw")
    assert "it holds 3 images (positions or fields) and its target raw/a_target.ome.tif 2" in problem


def test_a_set_of_files_is_registered_once_and_hashed_whole() -> None:
    array = pixels(5, 16, 20)
    for name, frames in (("run_MMStack.ome.tif", range(3)), ("run_MMStack_1.ome.tif", range(3, 5))):
        Path("raw").mkdir(exist_ok=True)
        write_mmstack(Path("raw", name), {(0, 0, t, 0): array[t] for t in frames}, Frames=5, Prefix="run", PixelSize_um=0.1)
    register(CONFIG, ["raw"])
    assert [(row.acquisition, row.input, row.shape) for row in read_sheet(SHEET).values()] == [
        ("run_MMStack", "raw/run_MMStack.ome.tif", (5, 1, 1, 16, 20))
    ]
    config = parse({"acquisitions": SHEET, "store": SETTINGS}, "the test")
    ingest(config, "run_MMStack")
    np.testing.assert_array_equal(open_image(paths.raw_store(config, "run_MMStack")).values[:, 0, 0], array)
    assert set(read_json(paths.ingest_receipt(config, "run_MMStack"))["read"]) == {"raw/run_MMStack.ome.tif", "raw/run_MMStack_1.ome.tif"}
    Path(SHEET).unlink()
    (problem,) = refused("raw/run_MMStack_1.ome.tif")
    assert "continue the image that begins in run_MMStack.ome.tif" in problem


@pytest.mark.parametrize(
    ("named", "companion"), [("cell_TP{}.ome.tif", ""), ("before_{}.ome.tif", ""), ("cell_TP{}.ome.tif", "cell.companion.ome")]
)
def test_a_set_of_ome_tiffs_whose_names_are_like_a_pattern_is_registered_by_its_folder(named: str, companion: str) -> None:
    Path("raw").mkdir()
    write_set(Path("raw"), [named.format(t) for t in range(3)], companion, prefix="cell_TP")
    for _ in range(2):
        register(CONFIG, ["raw"])
        assert [(row.acquisition, row.input, row.shape) for row in read_sheet(SHEET).values()] == [
            ("cell_TP0", "raw/cell_TP0.ome.tif", (3, 2, 1, 9, 11))
        ]


def test_files_that_only_know_of_each_other_are_still_put_together() -> None:
    Path("raw").mkdir()
    names = [f"cell_TP{t}.ome.tif" for t in range(3)]
    for t, name in enumerate(names):
        text = "".join(pixels_xml([other], [uuid(number)]) for number, other in enumerate(names))
        text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid(t)}">{text}</OME>'
        tifffile.imwrite(Path("raw", name), pixels(2, 9, 11), photometric="minisblack", description=text, metadata=None)
    register(CONFIG, ["raw"])
    assert [(row.input, row.shape) for row in read_sheet(SHEET).values()] == [("raw/cell_TP{t}.ome.tif", (3, 2, 1, 9, 11))]


def test_an_acquisition_that_was_stopped_early_is_told_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    planes = {(0, 0, t, 0): pixels(16, 20) for t in range(3)}
    write_mmstack(Path("run_MMStack.ome.tif"), planes, Frames=5, Prefix="run", PixelSize_um=0.1)
    register(CONFIG, ["run_MMStack.ome.tif"])
    row = read_sheet(SHEET)["run_MMStack"]
    assert (row.size_t, row.assumed) == (3, "3 of 5 time points planned are there and taken for all")
    assert "3 of 5 time points planned are there and taken for all; if a file" in capsys.readouterr().err


def test_further_images_of_another_size_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_positions("a.ome.tif", [pixels(16, 20), pixels(5, 6)])
    register(CONFIG, ["a.ome.tif"])
    assert read_sheet(SHEET)["a"].shape == (1, 1, 1, 16, 20)
    assert "1 further image of another size in it is not taken" in capsys.readouterr().err
