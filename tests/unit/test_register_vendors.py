"""Registration names files in the formats of microscopes' makers, which are not read, unless they were exported as TIFF."""

from __future__ import annotations

from pathlib import Path

import pytest
from register_folder import CONFIG, SHEET, refused, rows, tiff

from cvdm_core.acquisitions.register import register
from cvdm_core.sheet import read_sheet

BESIDE = "is not read; export it as OME-TIFF beside it, under its name"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    return tmp_path


def vendor_files(*names: str) -> None:
    for name in names:
        Path(f"raw/{name}").write_bytes(b"\xda\xce\xbe\x0a no TIFF")


@pytest.mark.parametrize("suffix", [".nd2", ".CZI", ".lif", ".oib", ".oir", ".vsi", ".ims"])
def test_a_vendor_file_is_refused_with_what_exports_it(suffix: str) -> None:
    vendor_files(f"cell{suffix}")
    exporter = "ZEN, or Bio-Formats' bfconvert" if suffix == ".CZI" else "Bio-Formats' bfconvert"
    for given in ("raw", f"raw/cell{suffix}"):
        assert refused(given) == [f"raw/cell{suffix}: {suffix.lower()} {BESIDE} ({exporter})."]
    rows(f"cell s predict raw/cell{suffix}", columns="acquisition specimen split input")
    assert refused() == [f"raw/cell{suffix}: {suffix.lower()} {BESIDE} ({exporter})."]


def test_a_vendor_file_beside_its_tiff_is_normal() -> None:
    vendor_files("a.nd2", "b.czi", "tile_s0.czi", "pair.lif", "series.nd2")
    for name in ("a.ome.tif", "b.tif", "tile_s0.tif", "pair_input.tif", "series_t0.tif", "series_t1.tif"):
        tiff(f"raw/{name}")
    register(CONFIG, ["raw"])
    register(CONFIG, sorted(map(str, Path("raw").glob("[ab].*"))))
    assert list(read_sheet(SHEET)) == ["a", "b", "pair", "series", "tile_s0"]


def test_the_tiff_of_another_file_is_none_of_its_own() -> None:
    vendor_files("cell.nd2", "cell_2.nd2", "cell_10.nd2", "cell_1.nd2", "other.nd2")
    tiff("raw/cell_2.tif")
    tiff("raw/cell_10.tif")
    tiff("raw/tiffs/other.tif")
    assert [problem.split(":")[0] for problem in refused("raw")] == ["raw/cell.nd2", "raw/cell_1.nd2", "raw/other.nd2"]
    assert list(read_sheet(SHEET)) == ["cell_10", "cell_2", "other"]
