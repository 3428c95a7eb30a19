"""The inbox: an acquisition is registered when all of it is there and has been quiet, and not before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from inbox_folder import Look, history, plane, reason, sheet, states
from register_folder import CONFIG, tiff

from cvdm_core.acquisitions.arrivals import check_complete
from cvdm_core.acquisitions.candidates import Candidate
from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.config import InboxSettings

MARKED = CONFIG.model_copy(update={"inbox": InboxSettings(marker="done*.txt")})


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
