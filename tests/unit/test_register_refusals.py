"""Registration refuses one acquisition with one sentence, and without harm to the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from register_folder import CONFIG, SHEET, break_line, refused, rows, tiff
from typer.testing import CliRunner

from cvdm_core.acquisitions import register as registration
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.measure import measure
from cvdm_core.acquisitions.refusals import read_refusals
from cvdm_core.acquisitions.register import register
from cvdm_core.cli import app
from cvdm_core.errors import UserError, shell_word
from cvdm_core.sheet import Acquisition, read_sheet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_bad(case: str) -> None:
    tiff("raw/bad_input.tif")
    whole = Path("raw/bad_input.tif").read_bytes()
    match case:
        case "missing":
            Path("raw/bad_input.tif").unlink()
        case "empty":
            Path("raw/bad_input.tif").write_bytes(b"")
        case "text":
            Path("raw/bad_input.tif").write_text("hello, world")
        case "truncated":
            Path("raw/bad_input.tif").write_bytes(whole[:-700])
        case "complex" | "complex64" | "float64" | "uint64":
            tifffile.imwrite("raw/bad_input.tif", np.ones((32, 40), case))
        case "no pixel size":
            tiff("raw/bad_input.tif", pixel_um=None)
        case "no z step":
            tiff("raw/bad_input.tif", 3, 32, 40, axes="ZYX")
        case "not square":
            tiff("raw/bad_input.tif", PhysicalSizeX=0.1, PhysicalSizeY=0.2, pixel_um=None)
        case "other field":
            tiff("raw/bad_target.tif", 64, 79, pixel_um=0.05)
        case "other channels":
            tiff("raw/bad_target.tif", 2, 64, 80, pixel_um=0.05, axes="CYX")
        case "other pixel size":
            tiff("raw/bad_target.tif", 64, 80, pixel_um=0.052)
        case "damaged target":
            Path("raw/bad_target.tif").write_bytes(whole[:300])


BAD = {
    "missing": "there is no such file",
    "empty": "the file is empty",
    "text": "this is not a TIFF",
    "truncated": "the file is cut off",
    "complex64": "its pixels are complex64",
    "float64": "its pixels are float64",
    "uint64": "its pixels are uint64",
    "no pixel size": "the pixel size is not known (the file holds none)",
    "no z step": "it has 3 planes, but their distance is not known",
    "not square": "its pixels are not square (0.2 um by 0.1 um",
    "other field": "asks for a target of 64 x 80, and it has 64 x 79",
    "other channels": "it has (times, channels, planes) (1, 2, 1) and the input (1, 1, 1)",
    "other pixel size": "its pixel size is 0.052 um, and with model.scale 2 the input's 0.1 um asks for 0.05 um",
    "damaged target": "bad_target.tif: ",
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("known", [False, True], ids=["new", "in the sheet"])
def test_bad_input_is_refused_with_one_sentence_and_the_others_go_on(case: str, known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    tiff("raw/good.tif")
    if known:
        tiff("raw/bad_input.tif")
        register(CONFIG, ["raw"])
    make_bad(case)
    (problem,) = refused("raw/good.tif", *([] if known else ["raw/bad_input.tif"]), *map(str, Path("raw").glob("bad_*")))
    assert BAD[case] in problem and problem.startswith("raw/bad_") and "\n" not in problem
    assert f"refused: {problem}\n" in capsys.readouterr().err
    found = read_sheet(SHEET)
    assert found["good"].registered
    assert ("bad" in found) == known  # a new file is left out, a row stays
    assert not known or not found["bad"].registered  # and nothing is planned for it


@pytest.mark.parametrize("name", ["../evil", "a b", "it's", 'a"b', "$(touch x)", "<script>alert(1)<", "index.html", "-rf"])
def test_a_harmful_name_is_refused_with_a_clean_one(name: str) -> None:
    tiff("good.tif")
    tiff("x.tif")
    register(CONFIG, ["good.tif"])
    (problem,) = refused("x.tif", name=name)
    assert repr(name) in problem and "--name " in problem
    assert read_refusals(SHEET)[0].acquisition == name
    assert list(read_sheet(SHEET)) == ["good"]
    register(CONFIG, ["x.tif"], Added(name=problem.rsplit("--name ", 1)[1].removesuffix("`.")))
    assert len(read_sheet(SHEET)) == 2


def test_a_harmful_file_name_in_a_folder_is_refused_and_the_rest_come_in() -> None:
    for name in ("good", "$(touch x)", "it's <script>"):
        tiff(f"raw/{name}.tif")
    problems = refused("raw")
    assert len(problems) == 2 and list(read_sheet(SHEET)) == ["good"] and not Path("x").exists()


def test_a_harmful_name_in_the_sheet_is_set_aside_and_the_rest_go_on() -> None:
    tiff("good.tif")
    rows("../x s predict good.tif", "good g predict good.tif", columns="acquisition specimen split input")
    (problem,) = refused()
    assert "line 2: acquisition = '../x' is no usable name" in problem
    assert read_sheet(SHEET)["good"].registered
    assert "#refused:../x" in Path(SHEET).read_text()
    assert len(refused()) == 1  # told again until mended


def test_a_line_that_somebody_broke_keeps_its_place_its_name_and_its_files_until_it_is_mended() -> None:
    for name in ("b", "c", "other/b"):
        tiff(f"raw/{name}_input.tif")
        tiff(f"raw/{name}_target.tif", 64, 80, pixel_um=0.05)
    rows("b mouse7 train raw/b_input.tif raw/b_target.tif", "c mouse8 predict raw/c_input.tif raw/c_target.tif")
    register(CONFIG, [])
    before = read_sheet(SHEET)
    break_line(SHEET, "b")
    for paths in ([], ["raw/b_input.tif", "raw/b_target.tif"], ["raw/b_input.tif"]):
        (problem,) = refused(*paths)
        assert "line 2: na = '1,4' is not usable" in problem and "no model is trained without it" in problem
    assert "the name 'b' belongs to an unusable line of" in refused("raw/other/b_input.tif")[1]
    assert list(read_sheet(SHEET)) == ["c"]
    Path(SHEET).write_text(Path(SHEET).read_text().replace("1,4", "1.4"))
    register(CONFIG, [])
    assert list(read_sheet(SHEET)) == ["b", "c"] and "#refused" not in Path(SHEET).read_text()
    assert read_sheet(SHEET)["b"] == before["b"].model_copy(update={"na": 1.4, "na_source": "stated"})


def test_what_a_person_saves_while_headers_are_read_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        tiff(f"raw/{name}.tif")
    register(CONFIG, ["raw/a.tif"])
    measured: list[str] = []

    def saves_meanwhile(row: Acquisition, *rest: Any) -> tuple[Acquisition, list[str]]:
        measured.append(row.acquisition)
        if row.acquisition == "c" and "\t7\t" not in (text := Path(SHEET).read_text()):
            Path(SHEET).write_text(text.replace("\t0\t\t\t1\t", "\t7\t\tdo this first\t1\t"))
        return measure(row, *rest)

    monkeypatch.setattr(registration, "measure", saves_meanwhile)
    register(CONFIG, ["raw"])
    found = read_sheet(SHEET)
    assert (found["a"].urgent, found["a"].note) == (7, "do this first")
    assert list(found) == ["a", "b", "c"] and all(row.registered for row in found.values())
    assert measured == ["a", "b", "c", "a"]  # only what was changed is read twice


def test_a_sheet_that_is_saved_all_the_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tiff("a.tif")
    register(CONFIG, ["a.tif"])
    sheets = [Path(SHEET).read_text()]

    def saves_always(sheet: object, *rest: object) -> list[str]:
        sheets.append(sheets[-1] + "\n")
        Path(SHEET).write_text(sheets[-1])
        return []

    monkeypatch.setattr(registration, "_guesses", saves_always)
    with pytest.raises(UserError, match=f"{SHEET}: somebody changed it again and again meanwhile.*run the same command again"):
        register(CONFIG, [])
    assert Path(SHEET).read_text() == sheets[-1]


def test_two_files_that_want_one_name_are_refused_whatever_the_case() -> None:
    tiff("raw/1/a.tif")
    tiff("raw/2/A.tif")
    (problem,) = refused("raw")
    assert problem.startswith("raw/2/A.tif: the name 'A' belongs to raw/1/a.tif already") and "--name A_2`" in problem
    assert read_sheet(SHEET)["a"].registered


def test_a_name_that_stands_twice_in_the_sheet_costs_the_first_nothing() -> None:
    tiff("a.tif")
    tiff("b.tif")
    rows("a s predict a.tif", "a t predict b.tif", columns="acquisition specimen split input")
    assert "line 3: the name 'a' stands already" in refused()[0]
    assert read_sheet(SHEET)["a"].input == "a.tif" and read_sheet(SHEET)["a"].registered


def test_one_file_is_not_registered_twice() -> None:
    tiff("a.tif")
    Path("b.tif").symlink_to("a.tif")
    rows("a s predict a.tif", "b t predict b.tif", columns="acquisition specimen split input")
    (problem,) = refused()
    assert "it is the input of `a` and of `b`" in problem
    found = read_sheet(SHEET)
    assert found["a"].registered and not found["b"].registered
    rows("a s predict a.tif", columns="acquisition specimen split input")
    assert "it is registered already, as `a`" in refused("b.tif", name="other")[0]


def test_a_file_is_not_its_own_target() -> None:
    tiff("a.tif")
    rows("a s predict a.tif a.tif")
    assert "named as input and as target" in refused()[0]


def test_the_target_of_a_row_is_not_added_as_an_input() -> None:
    tiff("raw/noisy.tif")
    tiff("raw/clean.tif", 64, 80, pixel_um=0.05)
    rows("a s predict raw/noisy.tif raw/clean.tif")
    register(CONFIG, ["raw"])
    assert list(read_sheet(SHEET)) == ["a"]


def test_a_specimen_in_two_splits_is_refused() -> None:
    for name in ("a", "b"):
        tiff(f"raw/{name}_input.tif")
        tiff(f"raw/{name}_target.tif", 64, 80, pixel_um=0.05)
    register(CONFIG, ["raw/a_input.tif", "raw/a_target.tif"], Added(specimen="cell", split="train"))
    (problem,) = refused("raw/b_input.tif", "raw/b_target.tif", specimen="Cell", split="test")
    assert "the specimen `Cell` stands in the split train (`a`) and in test (`b`)" in problem
    assert list(read_sheet(SHEET)) == ["a"] and read_sheet(SHEET)["a"].registered


def test_a_training_acquisition_needs_a_target() -> None:
    tiff("a.tif")
    assert "needs a target" in refused("a.tif", split="train")[0]


def test_a_target_alone_and_two_targets_are_refused() -> None:
    tiff("raw/a_target.tif")
    assert "no a_input.tif lies beside it" in refused("raw")[0]
    tiff("raw/a_input.tif")
    tiff("raw/a_target.ome.tif")
    assert "2 targets lie beside it" in refused("raw")[0]


def test_an_empty_folder_is_told() -> None:
    Path("raw").mkdir()
    assert refused("raw") == ["raw: the folder holds no TIFF; name the folder of the microscope's files."]


def test_a_folder_that_may_not_be_searched_is_refused_like_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("raw", "config"):
        Path(name).mkdir()
    Path("config/config.yaml").write_text("{}")
    scandir = os.scandir

    def closed(path: str | Path) -> object:
        if Path(path).name == "raw":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *arguments, **options: False)
        patch.setattr(os, "scandir", closed)
        problem = "raw: the folder cannot be searched (Permission denied); check its permissions and the file server."
        told = CliRunner().invoke(app, ["register", "raw"])
        assert isinstance(told.exception, UserError) and told.stderr == f"refused: {problem}\n"
        tiff("good.tif")
        register(CONFIG, ["good.tif"])
        assert [refusal.problem for refusal in read_refusals(SHEET)] == [problem]
    register(CONFIG, [])
    assert read_refusals(SHEET) == []


def test_values_for_every_channel_or_none() -> None:
    tiff("a.tif", 2, 32, 40, axes="CYX")
    rows("a s predict a.tif 500", columns="acquisition specimen split input emission_nm")
    assert "emission_nm holds 1 values and the image 2 channels" in refused()[0]


@pytest.mark.parametrize(("names", "example"), [("GFP;GFP", "GFP;GFP_1"), ("GFP;GFP ", "GFP;GFP_1"), ("GFP;\x07RFP", "GFP;RFP")])
def test_each_channel_needs_a_name_of_its_own_that_can_be_printed(names: str, example: str) -> None:
    tiff("a.tif", 2, 32, 40, axes="CYX")
    Path(SHEET).parent.mkdir(exist_ok=True)
    Path(SHEET).write_text(f"acquisition\tspecimen\tsplit\tinput\tstated_channels\na\ts\tpredict\ta.tif\t{names}\n")
    assert f"give each channel a name of its own, of letters that can be printed, such as {example}." in refused()[0]


def test_unusable_options_change_nothing() -> None:
    tiff("a.tif")
    tiff("b.tif")
    for options, words in [
        ({"split": "trian"}, "--split trian: use one of train, val, test, predict"),
        ({"pixel_size_um": float("nan")}, "--pixel-size-um nan"),
        ({"pixel_size_um": -0.1}, "above 0"),
        ({"z_step_um": 0.0}, "--z-step-um 0.0"),
        ({"name": "x"}, "it names one acquisition, and 2 were given"),
    ]:
        with pytest.raises(UserError, match=words):
            register(CONFIG, ["a.tif", "b.tif"], Added(**options))
    assert not Path(SHEET).exists()
    assert "no usable name of a specimen" in refused("a.tif", specimen="a b")[0]


@pytest.mark.parametrize("name", ["a b'c.tif", "x\ny$(id).tif", "é'\\\n.tif", "\udcff\n.tif"])
def test_a_command_with_a_hostile_name_can_be_pasted(name: str) -> None:
    word = shell_word(name)
    assert word.isprintable()
    assert subprocess.run(["bash", "-c", f"printf %s {word}"], stdout=subprocess.PIPE, check=True).stdout == os.fsencode(name)
