"""The inbox: what cannot be registered is named, and costs the others nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from inbox_folder import Look, history, plane, reason, sheet, states
from register_folder import CONFIG, SHEET, tiff
from typer.testing import CliRunner

from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.ledger import ledger_file
from cvdm_core.acquisitions.register import register
from cvdm_core.cli import app
from cvdm_core.errors import UserError
from cvdm_core.lock import locked


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


def test_a_link_that_leads_nowhere_is_named(look: Look) -> None:
    plane("good")
    Path("inbox/lost.tif").symlink_to("/not/mounted/lost.tif")
    assert look(0) and look(20)
    assert sheet() == ["good"] and states() == {"good": "registered", "lost": "failed"}
    assert "inbox/lost.tif: it is a link to a file that is not there" in reason("lost")


def test_what_register_refuses_is_quarantined_and_tried_again(look: Look) -> None:
    tiff("inbox/a.tif", pixel_um=None)
    look(0)
    assert look(20)
    assert states() == {"a": "quarantined"} and "the pixel size is not known" in reason("a")
    register(CONFIG, ["inbox/a.tif"], Added(pixel_size_um=0.1))
    assert not look(21)
    assert states() == {"a": "registered"} and history("a") == ["arriving", "complete", "quarantined", "registered"]


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
