"""Registration with a routing table: the instrument that a person states, and what no model restores is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tifffile
from register_folder import CONFIG, SHEET, tiff
from typer.testing import CliRunner

from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.register import register
from cvdm_core.cli import app
from cvdm_core.config import Config, parse
from cvdm_core.errors import UserError
from cvdm_core.sheet import read_sheet

SCOPE = '<Instrument ID="Instrument:0"><Microscope Model="Elyra 7"/></Instrument><Image '


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def routed_config(*rules: dict[str, object], **inbox: object) -> Config:
    return parse({**CONFIG.model_dump(), "routing": list(rules), "inbox": inbox}, "a test")


def model_of_scale(scale: int) -> None:
    Path("models/sim").mkdir(parents=True)
    Path("models/sim/model.yaml").write_text(f"{{spec: {{}}, scale: {scale}}}")


def test_a_stated_instrument_stands_in_the_row_and_shows_where_the_file_says_another(capsys: pytest.CaptureFixture[str]) -> None:
    tiff("a.tif")
    tifffile.tiffcomment("a.tif", tifffile.tiffcomment("a.tif").replace("<Image ", SCOPE, 1).encode())
    register(CONFIG, ["a.tif"], Added(instrument="SIM-2"))
    row = read_sheet(SHEET)["a"]
    assert (row.instrument, row.instrument_source) == ("SIM-2", "stated")
    assert "the stated instrument of SIM-2 is used, although the file says Elyra 7" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--instrument 'a\\nb': give a name on one line"):
        register(CONFIG, [], Added(instrument="a\nb"))


def test_the_command_takes_the_instrument() -> None:
    tiff("a.tif")
    Path("config").mkdir(exist_ok=True)
    Path("config/config.yaml").write_text(f"acquisitions: {CONFIG.acquisitions}\n")
    result = CliRunner().invoke(app, ["register", "a.tif", "--instrument", "SIM-2"])
    assert result.exit_code == 0, result.output
    assert read_sheet(SHEET)["a"].instrument == "SIM-2"


@pytest.mark.parametrize(("said", "expected"), [("", "SIM-2"), ("LSM", "LSM")])
def test_what_arrives_in_an_inbox_is_of_its_microscope_unless_a_person_says_another(said: str, expected: str) -> None:
    tiff("inbox/a.tif")
    config = routed_config(instrument="SIM-2")
    register_inbox(config, "inbox", Added(instrument=said), clock=lambda: time.time() + 60)
    assert not register_inbox(config, "inbox", Added(instrument=said), clock=lambda: time.time() + 1300)
    assert read_sheet(SHEET)["a"].instrument == expected


def test_what_no_model_restores_is_registered_and_told_and_a_person_must_act(capsys: pytest.CaptureFixture[str]) -> None:
    tiff("inbox/a.tif")
    config = routed_config({"instrument": "SIM*", "model": "sim"})
    register_inbox(config, "inbox", clock=lambda: time.time() + 60)
    assert register_inbox(config, "inbox", clock=lambda: time.time() + 1300)
    said = capsys.readouterr().out
    assert "not restored: a: no rule of `routing` fits its channel" in said and "1 registered" in said
    register(config, [])
    assert "a: no rule of `routing` fits its channel" in capsys.readouterr().err
    model_of_scale(2)
    assert not register_inbox(routed_config({"model": "sim"}), "inbox", clock=lambda: time.time() + 1300)


def test_the_target_of_a_test_pair_has_the_scale_of_its_own_model() -> None:
    tiff("a_input.tif", 32, 40)
    tiff("a_target.tif", 32, 40)
    pair, config = ["a_input.tif", "a_target.tif"], routed_config({"model": "sim"})
    with pytest.raises(UserError, match="1 acquisition was refused"):
        register(CONFIG, pair, Added(split="test"))  # the configuration's own model has scale 2
    register(config, pair, Added(split="test"))  # nobody knows the scale of a model that is not there
    assert read_sheet(SHEET)["a"].registered
    model_of_scale(1)
    register(config, [])
    assert read_sheet(SHEET)["a"].registered
    Path("models/sim/model.yaml").write_text("{spec: {}, scale: 2}")
    with pytest.raises(UserError, match="1 acquisition was refused"):
        register(config, [])
