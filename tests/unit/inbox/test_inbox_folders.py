"""The inbox: its folders, however many files they hold, behind links, and where their file server is away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from inbox_folder import Look, plane, reason, sheet, states
from register_folder import CONFIG, SHEET, tiff

from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.ledger import ledger_file
from cvdm_core.errors import UserError
from cvdm_core.sheet import read_sheet


def test_a_file_is_looked_at_as_often_in_a_full_folder_as_in_an_empty_one(
    look: Look, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.stat
    looked_at: list[Path] = []

    def counted(path: Path, follow_symlinks: bool = True) -> os.stat_result:
        looked_at.append(path)
        return whole(path, follow_symlinks=follow_symlinks)

    def looks(count: int) -> float:
        place = folder / str(count)
        (place / "inbox").mkdir(parents=True)
        monkeypatch.chdir(place)
        for number in range(count // 2):
            plane(f"day/series{number:03}_t0")
            plane(f"day/series{number:03}_t1")
        looked_at.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", counted)
            look(0)
            look(20)
        assert len(sheet()) == count // 2
        return sum(path.suffix == ".tif" for path in looked_at) / count

    assert looks(24) < 1.2 * looks(6)


def test_an_inbox_that_is_not_mounted_is_named_and_nothing_in_it_is_gone(look: Look) -> None:
    plane("a")
    for minutes, state in ((0, "arriving"), (20, "registered")):
        look(minutes)
        assert states() == {"a": state}
        known = ledger_file(SHEET).read_bytes()
        Path("inbox").rename("away")
        Path("inbox").mkdir()
        with pytest.raises(UserError, match=r"inbox: it is empty, .*held a, not ingested yet.*mounted.*put a file into it"):
            look(minutes + 1)
        assert ledger_file(SHEET).read_bytes() == known
        Path("inbox").rmdir()
        Path("away").rename("inbox")
    Path("inbox/a.tif").rename("a.tif")
    Path("inbox/emptied.txt").touch()
    assert look(30)
    assert states() == {"a": "gone"}


def test_an_inbox_whose_last_bad_file_was_deleted_is_nothing_to_complain_of(look: Look) -> None:
    Path("inbox/a.tif").write_text("no TIFF")
    assert look(0) or look(20)
    assert look(21)
    Path("inbox/a.tif").unlink()
    assert not look(30) and states() == {"a": "gone"}


def test_an_inbox_that_is_emptied_once_all_was_ingested_is_nothing_to_complain_of(look: Look) -> None:
    plane("a")
    look(0)
    look(20)
    ingest(CONFIG, "a")
    Path("inbox/a.tif").unlink()
    assert not look(30) and not look(31)
    assert states() == {"a": "gone"} and sheet() == ["a"]


def test_an_inbox_that_cannot_be_searched_is_named(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: str | Path) -> object:
        raise OSError(116, "Stale file handle", str(path))

    plane("a")
    look(0)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"inbox: it cannot be searched \(Stale file handle\)"):
        patch.setattr(os, "scandir", stale)
        register_inbox(CONFIG, "inbox")
    assert states() == {"a": "arriving"}


def test_folders_behind_links_are_searched_once_and_none_that_lies_above(look: Look) -> None:
    tiff("outside.tif")
    tiff("scope/a.tif")
    tiff("scope/deep/b.tif")
    plane("own/c")
    for link, to in {
        "inbox/all": "own",
        "inbox/scope1": "../scope",
        "inbox/twice": "../scope",
        "inbox/up": "..",
        "inbox/own/self": ".",
        "scope/deep/back": "../../inbox",
    }.items():
        Path(link).symlink_to(to)
    look(0)
    assert not look(20)
    assert {name: row.input for name, row in read_sheet(SHEET).items()} == {
        "a": "inbox/scope1/a.tif",
        "b": "inbox/scope1/deep/b.tif",
        "c": "inbox/own/c.tif",
    }
    assert not look(21)
    assert states() == dict.fromkeys("abc", "registered")


def test_a_link_to_a_folder_that_is_not_there_is_named(look: Look) -> None:
    plane("good")
    Path("inbox/scope1").symlink_to("/not/mounted")
    assert look(0) and look(20)
    assert states() == {"good": "registered", "scope1": "failed"} and "inbox/scope1: it is a link to" in reason("scope1")
