"""Two models in one run, chosen by the routing table; and what a change of the table runs again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from facility import LOCAL, Facility

from cvdm_core.images import open_image
from cvdm_core.records.receipts import read_json
from cvdm_core.sheet import read_sheet, write_sheet

SIM = {"instrument": "SIM*", "model": "brought"}
REST = {"model": "tiny"}
ONE_AGAIN = {"sample": 1, "finish": 1}  # at scale 1 the image is one shard


def state_instrument(facility: Facility, name: str, instrument: str) -> None:
    rows = read_sheet(facility.sheet)
    write_sheet(facility.sheet, {**rows, name: rows[name].model_copy(update={"instrument": instrument, "instrument_source": "stated"})})


@pytest.fixture(scope="module")
def two_models(finished: Facility, tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """After a run with `tiny`, a second model was brought along, of scale 1, and `new` is said to be from its microscope; read only."""
    copy = finished.copy(tmp_path_factory.mktemp("routes") / "facility")
    folder = copy.folder / "models/brought"
    shutil.copytree(copy.folder / "models/tiny", folder)
    description = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**description, "scale": 1}))
    (folder / "train.json").unlink()
    state_instrument(copy, "new", "SIM-2")
    return copy


def test_a_table_makes_only_that_run_again_which_now_has_another_model(two_models: Facility, tmp_path: Path) -> None:
    copy = two_models.copy(tmp_path / "facility")
    shown_anew = {"finish": 1}  # because its row of the sheet has changed
    copy.configure(routing=[REST])
    assert copy.planned() == shown_anew
    copy.configure(routing=[SIM, REST])
    assert copy.planned() == ONE_AGAIN
    copy.configure(routing=[{"na": 1.4, "model": "nothing"}, {"instrument": "LSM", "model": "nothing"}, SIM, REST])
    assert copy.planned() == ONE_AGAIN


def test_two_models_restore_in_one_run_and_lie_side_by_side(two_models: Facility, tmp_path: Path) -> None:
    copy = two_models.copy(tmp_path / "facility")
    copy.configure(routing=[SIM, REST])
    result = copy.snakemake()
    assert result.returncode == 0, result.stdout + result.stderr

    results = copy.folder / "results"
    assert open_image(results / "new/brought/restored.ome.zarr").shape[3:] == (64, 64)  # what its folder says, not the configuration
    assert open_image(results / "new/tiny/restored.ome.zarr").shape[3:] == (128, 128)
    assert open_image(results / "new/brought/restored.ome.zarr").attrs["cvdm"]["model"] == "brought"
    said = read_json(results / "new/brought/stitch.json")["settings"]["routing"]
    assert said == {"model": "brought", "chosen_by": ["rule 1 (instrument SIM*)"]}
    assert read_json(results / "new/brought/blocks/0000.json")["settings"]["routing"] == said
    assert not (results / "held-out/brought").exists()
    page = (results / "new/brought/report.html").read_text()
    assert "rule 1 (instrument SIM*)" in page and "SIM-2" in page
    index = (results / "index.html").read_text()
    assert "models brought, tiny" in index
    assert "model brought, by rule 1 (instrument SIM*)" in index and "model tiny, by rule 2 (fits everything)" in index
    assert 'href="new/brought/report.html"' in index
    assert copy.planned() == {}
    assert copy.run("cvdm", "verify").returncode == 0


def test_what_has_no_model_is_named_and_costs_the_others_nothing(two_models: Facility, tmp_path: Path) -> None:
    copy = two_models.copy(tmp_path / "facility")
    state_instrument(copy, "held-out", "LSM")
    copy.configure(routing=[{**SIM, "model": "forgotten"}, {"instrument": "Spinning*", "model": "tiny"}])
    missing = "new: rule 1 of `routing` calls for the model forgotten, but there is no trained model in models/forgotten"
    unmatched = "held-out: no rule of `routing` fits its channel"
    result = copy.dry_run(*LOCAL)
    assert result.returncode == 0, result.stdout + result.stderr
    assert missing in result.stdout + result.stderr and unmatched in result.stdout + result.stderr
    assert copy.planned() == {}
    registered = copy.run("cvdm", "register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    assert missing in registered.stderr and unmatched in registered.stderr
    assert copy.run("cvdm", "index").returncode == 0
    index = (copy.folder / "results/index.html").read_text()
    assert "models/forgotten" in index and "no rule of" in index and index.count('class="state no model"') == 2


def test_a_result_of_another_model_than_the_table_says_is_refused_in_one_sentence(two_models: Facility, tmp_path: Path) -> None:
    copy = two_models.copy(tmp_path / "facility")
    copy.configure(routing=[SIM, REST])
    result = copy.dry_run(*LOCAL, "results/held-out/brought/report.html")
    assert result.returncode != 0
    assert "held-out: it is not restored with the model 'brought': its model is 'tiny'" in result.stdout + result.stderr


def test_a_table_on_the_command_line_counts_like_one_in_the_file(two_models: Facility) -> None:
    assert two_models.planned("--config", "routing=[{instrument: 'SIM*', model: brought}, {model: tiny}]") == ONE_AGAIN
