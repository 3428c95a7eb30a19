"""What registration refused is told until its file is registered, given again, or gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from register_folder import CONFIG, SHEET, refused, rows, tiff
from test_register_positions import write_positions
from tiff_dialects import pixels

from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.refusals import read_refusals, refusals_file
from cvdm_core.acquisitions.register import register
from cvdm_core.errors import UserError
from cvdm_core.report.index import write_index
from cvdm_core.sheet import read_sheet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def earlier() -> list[str]:
    return [refusal.file for refusal in read_refusals(SHEET)]


def test_a_refused_file_is_told_until_it_is_given_again_and_accepted() -> None:
    tiff("raw/bad.tif", pixel_um=None)
    tiff("raw/good.tif")
    refused("raw/bad.tif")
    register(CONFIG, ["raw/good.tif"])
    register(CONFIG, [])
    assert earlier() == ["raw/bad.tif"] and list(read_sheet(SHEET)) == ["good"]
    assert "raw/bad.tif: the pixel size is not known" in write_index(CONFIG).read_text()
    assert len(refused("raw")) == 1
    register(CONFIG, ["raw"], Added(pixel_size_um=0.1))
    assert earlier() == [] and list(read_sheet(SHEET)) == ["good", "bad"]


def test_a_refused_file_that_is_removed_or_stands_in_the_sheet_is_told_no_more() -> None:
    for name in ("gone", "stated", "broken", "left", "series_T0"):
        tiff(f"raw/{name}.tif", pixel_um=None)
    refused("raw/gone.tif", "raw/stated.tif", "raw/broken.tif", "raw/left.tif", "raw/series_T{t}.tif")
    Path("raw/gone.tif").unlink()
    Path("raw/series_T0.tif").unlink()
    columns = "acquisition specimen split stated_pixel_size_um input"
    rows("a s predict 0.1 raw/stated.tif", "b s predict 0,1 raw/broken.tif", columns=columns)
    refused()
    assert [(refusal.acquisition, refusal.file, refusal.in_sheet) for refusal in read_refusals(SHEET)] == [
        ("b", "raw/broken.tif", "yes"),
        ("left", "raw/left.tif", ""),
    ]


def test_what_stood_in_the_sheet_ends_with_its_row() -> None:
    for name in "ab":
        tiff(f"raw/{name}.tif")
    rows("a s train raw/a.tif", "b t predict raw/b.tif", columns="acquisition specimen split input")
    refused()
    assert earlier() == ["raw/a.tif"]
    rows("b t predict raw/b.tif", columns="acquisition specimen split input")
    register(CONFIG, [])
    assert earlier() == []


def test_a_folder_without_a_tiff_and_a_file_that_is_not_there_are_forgotten() -> None:
    Path("wrong").mkdir()
    tiff("good.tif")
    assert len(refused("wrong", "nowhere.tif", "raw/{well}_T{t}.tif")) == 3
    register(CONFIG, ["good.tif"])
    assert earlier() == []


def test_a_vendor_file_is_told_until_its_tiff_is_registered() -> None:
    Path("raw").mkdir()
    for name in ("a", "b"):
        Path(f"raw/{name}.lif").write_bytes(b"no TIFF")
    refused("raw")
    tiff("raw/a_s0.ome.tif")
    register(CONFIG, ["raw/a_s0.ome.tif"])
    assert earlier() == ["raw/b.lif"]


def test_one_image_of_a_file_is_told_though_another_is_registered() -> None:
    tiff("a_s1.tif")
    tiff("other.tif")
    write_positions("a.ome.tif", [pixels(16, 20)] * 2)
    register(CONFIG, ["a_s1.tif"])
    refused("a.ome.tif")
    register(CONFIG, ["other.tif"])
    assert list(read_sheet(SHEET)) == ["a_s1", "a_s0", "other"]
    assert [(refusal.acquisition, refusal.file) for refusal in read_refusals(SHEET)] == [("a_s1", "a.ome.tif")]


def test_a_damaged_table_is_named_and_one_of_an_older_version_is_read() -> None:
    tiff("bad.tif", pixel_um=None)
    tiff("good.tif")
    refused("bad.tif")
    table = refusals_file(SHEET)
    table.write_text("acquisition\tfile\tproblem\nbad\tbad.tif\tbad.tif: no pixel size.\nshort\n")
    register(CONFIG, ["good.tif"])
    assert earlier() == ["bad.tif"]
    table.write_text("acquisition\tfile\tproblem\na\t" + 200_000 * "x" + "\n")
    with pytest.raises(UserError, match=r"acquisitions.refused.tsv: the table of what was refused is damaged \(.*\); remove it"):
        register(CONFIG, [])
