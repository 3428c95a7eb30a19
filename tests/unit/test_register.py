"""Registration writes what it measured, and what a person stated stays."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from register_folder import CONFIG, SHEET, refused, rows, tiff

from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.refusals import read_refusals, refusals_file
from cvdm_core.acquisitions.register import register
from cvdm_core.paths import ingest_receipt
from cvdm_core.records.receipts import write_json
from cvdm_core.sheet import COLUMNS, read_sheet, write_sheet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_comes_in_with_its_pairs_and_everything_measured() -> None:
    tiff("raw/a_input.tif", 2, 3, 4, 32, 40, axes="TCZYX", PhysicalSizeZ=0.3, TimeIncrement=2.0, Channel={"Name": ["x", "y", "z"]})
    tiff("raw/a_target.OME.TIF", 2, 3, 4, 64, 80, axes="TCZYX", pixel_um=0.05)
    tiff("raw/deep/b.ome.tiff")
    tiff("raw/.hidden.tif")
    register(CONFIG, ["raw"], Added(specimen="cell", split="test"))
    found = read_sheet(SHEET)
    assert list(found) == ["a", "b"]
    assert found["a"].shape == (2, 3, 4, 32, 40) and found["a"].dtype == "uint16" and found["a"].registered
    assert (found["a"].input, found["a"].target) == ("raw/a_input.tif", "raw/a_target.OME.TIF")
    assert found["a"].pixel_size_um == pytest.approx(0.1) and found["a"].pixel_size_source == "metadata"
    assert (found["a"].z_step_um, found["a"].time_step_s, found["a"].channels) == (0.3, 2.0, ("x", "y", "z"))
    assert {(row.specimen, row.split) for row in found.values()} == {("cell", "test")}
    assert not refusals_file(SHEET).exists()


def test_registering_again_changes_nothing() -> None:
    tiff("raw/a_input.tif")
    tiff("raw/a_target.tif", 64, 80, pixel_um=0.05)
    register(CONFIG, ["raw"])
    before = Path(SHEET).read_bytes()
    register(CONFIG, ["raw"])
    register(CONFIG, [Path("raw/a_input.tif").resolve()])
    register(CONFIG, [])
    assert Path(SHEET).read_bytes() == before


def test_every_row_is_measured_anew() -> None:
    tiff("a.tif")
    register(CONFIG, ["a.tif"])
    tiff("a.tif", 48, 50, pixel_um=0.2)
    register(CONFIG, [])
    assert read_sheet(SHEET)["a"].shape == (1, 1, 1, 48, 50)
    assert read_sheet(SHEET)["a"].pixel_size_um == pytest.approx(0.2)


def test_a_row_stays_measured_when_its_files_were_taken_away_after_they_were_ingested(capsys: pytest.CaptureFixture[str]) -> None:
    tiff("raw/a.tif")
    tiff("raw/b.tif")
    register(CONFIG, ["raw/a.tif", "raw/b.tif"])
    before = read_sheet(SHEET)
    write_json(ingest_receipt(CONFIG, "a"), {"details": {"row": before["a"].model_dump(mode="json")}})
    shutil.rmtree("raw")

    assert refused() == ["raw/b.tif: there is no such file; check the path."]

    assert read_sheet(SHEET)["a"] == before["a"] and not read_sheet(SHEET)["b"].registered
    assert "note: raw/a.tif: its files are not there any more; it was ingested before" in capsys.readouterr().err
    write_sheet(SHEET, {"a": before["a"].model_copy(update={"input": "raw/mistyped.tif"})})
    assert "raw/mistyped.tif" in refused()[0]


def test_a_file_that_cannot_be_looked_at_costs_the_others_nothing() -> None:
    for name in ("a", "b", "c"):
        tiff(f"raw/{name}.tif")
    register(CONFIG, ["raw/a.tif"])
    Path("raw/a.tif").unlink()
    Path("raw/a.tif").symlink_to("a.tif")  # leads to itself

    assert "raw/a.tif" in refused("raw/b.tif", "raw/c.tif")[0]

    assert [name for name, row in read_sheet(SHEET).items() if row.registered] == ["b", "c"]


def test_what_a_person_stated_stays_and_wins(capsys: pytest.CaptureFixture[str]) -> None:
    tiff("a.tif", 2, 32, 40, axes="CYX")
    rows("a s predict a.tif 0.2 p;q hello", columns="acquisition specimen split input stated_pixel_size_um stated_channels note")
    register(CONFIG, [])
    row = read_sheet(SHEET)["a"]
    assert (row.pixel_size_um, row.pixel_size_source, row.channels, row.note) == (0.2, "stated", ("p", "q"), "hello")
    assert "stated pixel size of 0.2 um is used, although the file says 0.1 um" in capsys.readouterr().err


def test_optics_come_from_the_file_and_a_persons_word_stands_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    optics = '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.4" NominalMagnification="63"/></Instrument><Image '
    tiff("a.tif", Channel={"EmissionWavelength": 525.0})
    tifffile.tiffcomment("a.tif", tifffile.tiffcomment("a.tif").replace("<Image ", optics, 1).encode())
    register(CONFIG, ["a.tif"])
    row = read_sheet(SHEET)["a"]
    assert (row.na, row.na_source, row.magnification) == (1.4, "metadata", 63)
    assert (row.emission_nm, row.emission_source) == ((525,), "metadata")
    register(CONFIG, [])
    assert read_sheet(SHEET)["a"] == row  # what the file said does not become a person's word
    write_sheet(SHEET, {"a": row.model_copy(update={"na": 1.3})})
    capsys.readouterr()
    register(CONFIG, [])
    row = read_sheet(SHEET)["a"]
    assert (row.na, row.na_source, row.emission_source) == (1.3, "stated", "metadata")
    assert "the stated na of 1.3 is used, although the file says 1.4" in capsys.readouterr().err


def test_the_instrument_comes_from_the_file_and_a_persons_word_stands_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    scope = '<Instrument ID="Instrument:0"><Microscope Manufacturer="Zeiss" Model="Elyra 7"/></Instrument><Image '
    tiff("a.tif")
    tifffile.tiffcomment("a.tif", tifffile.tiffcomment("a.tif").replace("<Image ", scope, 1).encode())
    register(CONFIG, ["a.tif"])
    row = read_sheet(SHEET)["a"]
    assert (row.instrument, row.instrument_source, row.objective, row.objective_source) == ("Zeiss Elyra 7", "metadata", "", "")
    write_sheet(SHEET, {"a": row.model_copy(update={"instrument": "SIM-2", "objective": "63x oil"})})
    capsys.readouterr()
    register(CONFIG, [])
    row = read_sheet(SHEET)["a"]
    assert (row.instrument, row.instrument_source, row.objective, row.objective_source) == ("SIM-2", "stated", "63x oil", "stated")
    assert "the stated instrument of SIM-2 is used, although the file says Zeiss Elyra 7" in capsys.readouterr().err
    write_sheet(SHEET, {"a": row.model_copy(update={"instrument": "zeiss elyra 7"})})
    register(CONFIG, [])
    assert read_sheet(SHEET)["a"].instrument_source == "metadata"  # case makes no other microscope


def test_a_target_that_comes_later_joins_its_row() -> None:
    tiff("raw/a_input.tif")
    register(CONFIG, ["raw"])
    tiff("raw/a_target.tif", 64, 80, pixel_um=0.05)
    register(CONFIG, ["raw"])
    assert read_sheet(SHEET)["a"].target == "raw/a_target.tif"


def test_paths_may_hold_spaces_and_quotes() -> None:
    tiff('raw/it\'s "here" $(x)/a b;.tif')
    register(CONFIG, ['raw/it\'s "here" $(x)/a b;.tif'], Added(name="a"))
    assert read_sheet(SHEET)["a"].input == 'raw/it\'s "here" $(x)/a b;.tif'
    register(CONFIG, [])


def test_the_sentence_says_where_to_state_the_pixel_size_and_doing_so_helps() -> None:
    tiff("it's.tif", pixel_um=None)
    (problem,) = refused("it's.tif", name="x")
    assert "add the line acquisition=x specimen=x split=predict input=it's.tif stated_pixel_size_um=<micrometres>" in problem
    assert """cvdm register 'it'"'"'s.tif' --pixel-size-um 0.1""" in problem
    Path(SHEET).write_text("acquisition\tspecimen\tsplit\tinput\nx\tx\tpredict\tit's.tif\n")
    (problem,) = refused()
    assert f"put it in micrometres into the column stated_pixel_size_um of the row `x` in {SHEET}" in problem
    register(CONFIG, ["it's.tif"], Added(pixel_size_um=0.1))
    assert (read_sheet(SHEET)["x"].pixel_size_um, read_sheet(SHEET)["x"].pixel_size_source) == (0.1, "stated")
    assert not refusals_file(SHEET).exists()


def test_the_option_speaks_only_for_files_that_do_not_know_their_pixel_size() -> None:
    tiff("a.tif", pixel_um=0.2)
    tiff("b.tif", pixel_um=None)
    register(CONFIG, ["a.tif", "b.tif"], Added(pixel_size_um=0.1))
    found = read_sheet(SHEET)
    assert (found["a"].pixel_size_um, found["a"].pixel_size_source) == (0.2, "metadata")
    assert (found["b"].pixel_size_um, found["b"].pixel_size_source) == (0.1, "stated")


def test_the_z_step_that_many_files_lack_is_said_once() -> None:
    z_only = {"axes": "ZYX"}
    tiff("a.tif", 3, 32, 40, **z_only)
    tiff("b.tif", 3, 32, 40, **z_only, PhysicalSizeZ=0.5, PhysicalSizeZUnit="µm")
    tiff("c.tif", 32, 40)
    for problem in refused("a.tif"):
        assert "run `cvdm register a.tif --z-step-um 0.3` if it is 0.3 um" in problem
    rows("a s predict a.tif", columns="acquisition specimen split input")
    register(CONFIG, ["a.tif", "b.tif", "c.tif"], Added(z_step_um=0.3))
    found = {name: (row.z_step_um, row.z_step_source) for name, row in read_sheet(SHEET).items()}
    assert found == {"a": (0.3, "stated"), "b": (0.5, "metadata"), "c": (None, "")}


def test_a_stated_z_step_makes_planes_of_pages(capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite("a.tif", np.ones((5, 32, 40), "uint16"), metadata=None)
    register(CONFIG, ["a.tif"], Added(pixel_size_um=0.1))
    assert read_sheet(SHEET)["a"].shape == (5, 1, 1, 32, 40)
    assert "its 5 pages are, they are taken for time points" in capsys.readouterr().err
    rows("a s predict a.tif 0.1 0.3", columns="acquisition specimen split input stated_pixel_size_um stated_z_step_um")
    register(CONFIG, [])
    row = read_sheet(SHEET)["a"]
    assert (row.shape, row.z_step_um, row.z_step_source) == ((1, 1, 5, 32, 40), 0.3, "stated")
    assert row.assumed == "pages are z planes"


def test_a_stated_z_step_makes_planes_of_pages_whose_distance_imagej_knows() -> None:
    said = "ImageJ=1.53c\nimages=5\nunit=micron\nspacing=0.5\n"
    array = np.zeros((5, 8, 9), np.uint16)
    tifffile.imwrite("a.tif", array, photometric="minisblack", metadata=None, resolution=(10, 10), description=said)
    register(CONFIG, ["a.tif"], Added(z_step_um=0.4))
    row = read_sheet(SHEET)["a"]
    assert (row.shape[:3], row.z_step_um, row.z_step_source) == ((1, 1, 5), 0.4, "stated")


def test_refusals_stand_beside_the_sheet_until_mended() -> None:
    tiff("a.tif", pixel_um=None)
    refused("a.tif")
    with refusals_file(SHEET).open(newline="") as stream:
        table = list(csv.DictReader(stream, delimiter="\t"))
    assert refusals_file(SHEET) == Path("config/acquisitions.refused.tsv")
    assert table[0]["acquisition"] == "a" and table[0]["file"] == "a.tif" and "pixel size is not known" in table[0]["problem"]
    register(CONFIG, ["a.tif"], Added(pixel_size_um=0.1))
    assert not refusals_file(SHEET).exists() and read_refusals(SHEET) == []


def test_the_sheet_has_all_columns_and_no_leftovers_lie_about() -> None:
    tiff("a.tif")
    register(CONFIG, ["a.tif"])
    assert Path(SHEET).read_text().splitlines()[0].split("\t") == list(COLUMNS)
    assert sorted(path.name for path in Path("config").iterdir()) == [".acquisitions.tsv.lock", "acquisitions.tsv"]
