"""Writing by rename: the old file or the new one, and nothing left beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cvdm_core.cli import main
from cvdm_core.errors import DiskError
from cvdm_core.files import files_below, replace_folder, replacing, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes_arrive_in_new_folders(tmp_path: Path) -> None:
    write_file(tmp_path / "deep" / "a.txt", "µm\n")
    write_file(tmp_path / "deep" / "b.bin", b"\xff")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == b"\xc2\xb5m\n"
    assert (tmp_path / "deep" / "b.bin").read_bytes() == b"\xff"
    assert names(tmp_path / "deep") == ["a.txt", "b.bin"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_failed_write_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with (
        pytest.raises(DiskError, match=r"a\.txt: there is no space left for it \(No space left on device\)"),
        replacing(path) as partial,
    ):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ValueError), replacing(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("write", [lambda path: write_file(path, "new"), lambda path: replacing(path).__enter__()])
def test_where_nothing_may_be_written_the_file_is_named_and_not_its_unfinished_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, write: Callable[[Path], object]
) -> None:
    """The tests may run as root, who may write everywhere: so the system's answer is put into its mouth."""

    def refuse(path: str, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(
        DiskError, match=rf"^{tmp_path}/new(/a\.txt)?: it may not be read or written \({os.strerror(number)}\); mend its perm"
    ):
        write(tmp_path / "new/a.txt")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("acquisitions: folder", "folder: no such file can be there (Is a directory)"),
        ("acquisitions: file/a.tsv", "file/a.tsv: no such file can be there (Not a directory)"),
        (f"acquisitions: {'x' * 300}.tsv", f"{'x' * 300}.tsv: no such file can be there (File name too long)"),
        ("acquisitions: loop", "loop: no such file can be there (Too many levels of symbolic links)"),
        ("acquisitions: a.tsv\nresults: file", "file/throughput.json: no such file can be there (Not a directory)"),
        ("acquisitions: a.tsv\nresults: file/results", "file/results/throughput.json: no such file can be there (Not a directory)"),
    ],
)
def test_a_configuration_that_names_a_place_that_is_none_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("loop").symlink_to("loop")
    Path("a.tsv").write_text("acquisition\tspecimen\tsplit\tinput\n")
    Path("mine.yaml").write_text(f"{settings}\n")
    monkeypatch.setattr("sys.argv", ["cvdm", "index", "--config", "mine.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"cvdm: {named}") and said.count("\n") == 1, said


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name, text in (("final", "old"), ("next", "new")):
        write_file(tmp_path / name / "content", text)
    write_file(tmp_path / ".final.old" / "content", "left by a killed run")
    replace_folder(tmp_path / "next", tmp_path / "final")
    assert (tmp_path / "final" / "content").read_text() == "new"
    assert names(tmp_path) == ["final"]


@pytest.mark.parametrize("leads_nowhere", [False, True])
def test_a_folder_that_is_a_link_is_replaced_again_and_again_and_what_it_led_to_stays(tmp_path: Path, leads_nowhere: bool) -> None:
    elsewhere, final = tmp_path / "other_disk/store", tmp_path / "r/final"
    write_file(elsewhere / "content", "moved there by somebody")
    final.parent.mkdir()
    final.symlink_to(tmp_path / "gone" if leads_nowhere else elsewhere)
    for number in range(3):
        write_file(tmp_path / "next" / "content", str(number))
        replace_folder(tmp_path / "next", final)
        assert (final / "content").read_text() == str(number)
        assert names(final.parent) == ["final"]
    assert (elsewhere / "content").read_text() == "moved there by somebody"


def test_files_below_a_folder_are_named_as_pathlib_names_them(tmp_path: Path) -> None:
    for name in ("b/c/1", "b/c/.hidden", "a", "b-1", "b/µ m"):
        write_file(tmp_path / name, "x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "folder").symlink_to(tmp_path / "b")
    wanted = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files_below(tmp_path) == wanted
    assert files_below(tmp_path / "b") == [name.removeprefix("b/") for name in wanted if name.startswith("b/")]
