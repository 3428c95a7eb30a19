"""The inbox: only what is complete is registered, every change of state is kept, and raw files stay as they are."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from micromanager import write_mmstack
from register_folder import CONFIG, SHEET, rows, tiff
from typer.testing import CliRunner

from cvdm_core import paths
from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.arrivals import check_complete
from cvdm_core.acquisitions.candidates import Candidate
from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.ledger import Ledger, ledger_file
from cvdm_core.acquisitions.register import register
from cvdm_core.cli import app
from cvdm_core.config import Config, InboxSettings
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.sheet import read_sheet, write_sheet

Look = Callable[..., bool]
MARKED = CONFIG.model_copy(update={"inbox": InboxSettings(marker="done*.txt")})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("inbox").mkdir()
    return tmp_path


@pytest.fixture
def look() -> Iterator[Look]:
    """Look at the inbox so many minutes after the test began; check that no raw file was touched."""
    begin = time.time() + 60  # after the files' times, whatever their resolution

    def at(minutes: float, config: Config = CONFIG) -> bool:
        before = raw()
        act = bool(register_inbox(config, "inbox", clock=lambda: begin + 60 * minutes))
        assert raw() == before
        return act

    yield at


def raw() -> dict[Path, tuple[int, bytes]]:
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in Path("inbox").rglob("*") if file.is_file()}


def states() -> dict[str, str]:
    return {entry.name: entry.state for entry in Ledger(ledger_file(SHEET)).latest.values()}


def reason(name: str) -> str:
    return next(entry.reason for entry in Ledger(ledger_file(SHEET)).latest.values() if entry.name == name)


def history(name: str) -> list[str]:
    lines = ledger_file(SHEET).read_text().splitlines()
    return [line.split('"state":"')[1].split('"')[0] for line in lines if f'"name":"{name}"' in line]


def sheet() -> list[str]:
    return list(read_sheet(SHEET)) if Path(SHEET).exists() else []


def plane(name: str) -> None:
    tiff(f"inbox/{name}.tif")


def test_a_growing_file_is_left_alone_until_it_was_quiet_for_so_long(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    tiff("inbox/run/a.tif")
    assert not look(0)
    assert "arriving: a (" in (said := capsys.readouterr().out) and "complete from " in said and "inbox: 1 arriving." in said
    Path("inbox/run/a.tif.log").write_text("plane 2")  # anything in its folder counts
    look(8)
    look(17)
    assert (states(), sheet()) == ({"a": "arriving"}, [])
    assert not look(18.1)
    assert (states(), sheet()) == ({"a": "registered"}, ["a"])
    assert history("a") == ["arriving", "arriving", "complete", "registered"]
    assert "inbox: 1 registered." in capsys.readouterr().out


@pytest.mark.parametrize("error", [-86_400, 86_400, 1e9], ids=["a day slow", "a day fast", "in 2057"])
def test_the_file_servers_clock_may_be_wrong(look: Look, error: float) -> None:
    plane("a")
    now = time.time()
    os.utime("inbox/a.tif", (now + error, now + error))
    look(0)
    assert states() == {"a": "arriving"}
    look(10.1)
    assert states() == {"a": "registered"}


def test_what_is_old_by_any_clock_needs_no_second_look(look: Look) -> None:
    plane("a")
    look(72)
    assert states() == {"a": "registered"}


def test_our_own_clock_may_be_set_back(look: Look) -> None:
    plane("a")
    look(60)
    look(0)
    look(10.1)
    assert states() == {"a": "registered"}


def test_looking_again_does_nothing(look: Look) -> None:
    plane("good")
    tiff("inbox/bad.tif", pixel_um=None)
    Path("inbox/cut.tif").write_bytes(b"II*\0")
    look(0)
    look(20)
    files = {file: (file.stat().st_ino, file.read_bytes()) for file in Path("config").iterdir() if file.suffix != ".lock"}
    assert len(files) == 3
    assert look(30) and look(40)
    again = {file: (file.stat().st_ino, file.read_bytes()) for file in files}
    assert {file for file in files if files[file] != again[file]} <= {Path("config/acquisitions.refused.tsv")}
    assert [files[file][1] == again[file][1] for file in files] == [True] * 3


def test_a_last_page_that_is_cut_off_fails_and_the_others_go_on_and_it_recovers(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    plane("good")
    tifffile.imwrite(
        "inbox/cut.tif", np.ones((3, 32, 40), "uint16"), resolution=(1e5, 1e5), resolutionunit="CENTIMETER", photometric="minisblack"
    )
    whole = Path("inbox/cut.tif").read_bytes()
    Path("inbox/cut.tif").write_bytes(whole[:-700])
    look(0)
    assert look(20)
    assert states() == {"good": "registered", "cut": "failed"} and sheet() == ["good"]
    assert "is not complete" in reason("cut") and "cut off" in reason("cut") and "failed: cut (" in capsys.readouterr().out
    Path("inbox/cut.tif").write_bytes(whole)
    assert not look(30)
    assert not look(41)
    assert states()["cut"] == "registered"


def test_a_last_page_that_is_there_but_not_written_fails(look: Look) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (3, 32, 40)).astype("uint16")
    tifffile.imwrite("inbox/a.ome.tif", stack, compression="zlib", photometric="minisblack", metadata={"axes": "TYX", "PhysicalSizeX": 0.1})
    with tifffile.TiffFile("inbox/a.ome.tif") as file:
        at, length = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    with open("inbox/a.ome.tif", "rb+") as raw_file:  # as a file server shows pages that have not arrived
        raw_file.seek(at)
        raw_file.write(bytes(length))
    look(0)
    assert look(20)
    assert states() == {"a": "failed"} and "is not complete" in reason("a")


def test_a_file_that_changes_while_it_is_read_is_arriving_still(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    plane("a")
    look(0)

    def written_meanwhile(candidate: Candidate) -> tuple[tuple[Path, ...], int]:
        tiff("inbox/a.tif", 48, 50)
        return check_complete(candidate)

    monkeypatch.setattr("cvdm_core.acquisitions.judging.check_complete", written_meanwhile)
    assert not register_inbox(CONFIG, "inbox", clock=lambda: time.time() + 1300)
    assert states() == {"a": "arriving"} and sheet() == []


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


def test_without_the_sites_marker_nothing_is_complete(look: Look) -> None:
    tiff("inbox/run/deep/a.tif")
    look(0, MARKED)
    assert not look(500, MARKED)
    assert states() == {"a": "arriving"} and "there is no marker 'done*.txt'" in reason("a")
    Path("inbox/done.txt").touch()  # in the inbox itself it would speak for all that will ever come
    look(501, MARKED)
    assert states() == {"a": "arriving"}
    Path("inbox/run/done_1.txt").touch()
    look(502, MARKED)
    assert states() == {"a": "registered"}


def test_a_marker_can_name_the_acquisition(look: Look) -> None:
    config = CONFIG.model_copy(update={"inbox": InboxSettings(marker="{name}.done")})
    plane("a[1]")
    plane("b")
    Path("inbox/b.done").touch()
    look(0, config)
    look(20, config)
    assert states() == {"a[1]": "arriving", "b": "registered"}
    Path("inbox/a[1].done").touch()
    look(30, config)
    assert states() == {"a[1]": "quarantined", "b": "registered"}  # complete, and its name cannot be used
    look(40)
    plane("c")
    look(50, MARKED)
    look(70, MARKED)
    assert "put {name} into inbox.marker" in reason("c")


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


def test_hostile_names_are_quarantined_with_their_sentence(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["$(touch x)", "a\nb", "\x1b[31mred", os.fsdecode(b"\xff\xfe"), "<script>", "a b"]
    for name in ["good", *names]:
        plane("x")
        Path("inbox/x.tif").rename(f"inbox/{name}.tif")
    look(0)
    assert look(20) and look(30)
    assert sheet() == ["good"] and sorted(states().values()) == ["quarantined"] * len(names) + ["registered"]
    assert "no usable name" in reason("$(touch x)") and not Path("x").exists()
    assert "\x1b" not in (said := capsys.readouterr().out) and "\nb" not in said


def test_what_register_refuses_is_quarantined_and_tried_again(look: Look) -> None:
    tiff("inbox/a.tif", pixel_um=None)
    look(0)
    assert look(20)
    assert states() == {"a": "quarantined"} and "the pixel size is not known" in reason("a")
    register(CONFIG, ["inbox/a.tif"], Added(pixel_size_um=0.1))
    assert not look(21)
    assert states() == {"a": "registered"} and history("a") == ["arriving", "complete", "quarantined", "registered"]


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


def test_a_torn_line_is_forgotten_and_a_damaged_one_is_told(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    plane("a")
    look(0)
    ledger = ledger_file(SHEET)
    line = ledger.read_bytes()
    ledger.write_bytes(line + b"no json\n" + line.replace(b"arriving", b"registered")[:-20])
    look(20)
    assert states() == {"a": "registered"} and "line 2: it cannot be read" in capsys.readouterr().out
    assert history("a") == ["arriving", "complete", "registered"]
    assert ledger.read_bytes().startswith(line + b"no json\n{")


def test_two_at_once_the_second_is_refused_with_the_owners_name(look: Look) -> None:
    plane("a")
    with locked(SHEET):
        for run in (lambda: look(0), lambda: register(CONFIG, ["inbox/a.tif"])):
            with pytest.raises(UserError, match=rf"acquisitions.tsv: .+ on .+ \(process {os.getpid()}, since .*is writing it"):
                run()
    assert not Path(SHEET).exists() and not ledger_file(SHEET).exists()
    look(0)


def test_the_file_system_against_one_file_costs_the_others_nothing(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    plane("a")
    plane("b")
    look(0)

    whole = Path.stat

    def broken(path: Path, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "a.tif" and follow_symlinks:
            raise OSError(5, "Input/output error", str(path))
        return whole(path, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", broken)
        assert register_inbox(CONFIG, "inbox", clock=lambda: time.time() + 1300)
    assert states() == {"a": "failed", "b": "registered"} and "Input/output error" in reason("a")


def test_a_folder_that_cannot_be_searched_is_named(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    plane("good/a")
    plane("closed/b")
    scandir = os.scandir

    def closed(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    register_inbox(CONFIG, "inbox", clock=time.time)
    assert register_inbox(CONFIG, "inbox", clock=lambda: time.time() + 1300)
    assert states() == {"a": "registered", "closed": "quarantined"} and "cannot be searched (Permission denied)" in reason("closed")


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


def test_the_command_line_tells_by_its_status_whether_a_person_must_act() -> None:
    Path("config").mkdir()
    Path("config/config.yaml").write_text("inbox: {quiet_minutes: 0.0001}\n")
    plane("a")
    command = ["register", "--inbox", "inbox"]
    os.utime("inbox/a.tif", (0, 0))
    runner = CliRunner()
    assert runner.invoke(app, command).exit_code == 0
    time.sleep(0.02)
    done = runner.invoke(app, command)
    assert done.exit_code == 0 and "inbox: 1 registered." in done.output
    tiff("inbox/a.tif", 48, 50)
    assert runner.invoke(app, command).exit_code == 1
    assert isinstance(runner.invoke(app, [*command, "inbox/a.tif"]).exception, UserError)
    with pytest.raises(UserError, match=r"nowhere: there is no such folder.*mounted"):
        register_inbox(CONFIG, "nowhere")
