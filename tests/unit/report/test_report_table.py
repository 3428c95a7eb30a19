"""The page over all acquisitions: what stands on it as a card, and what in the table below them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.records.failures import write_failure
from cvdm_core.records.running import Running
from cvdm_core.report import index
from cvdm_core.report.index import write_index
from cvdm_core.sheet import Acquisition, write_sheet

SIZES = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": 64, "size_x": 64, "dtype": "uint16", "pixel_size_um": 0.1}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A facility with one new acquisition and three training pairs, certified `aligned`, `corrected` and not yet."""
    places = {"results": str(tmp_path / "results"), "models": str(tmp_path / "models"), "acquisitions": str(tmp_path / "acquisitions.tsv")}
    config = parse(places, "test")
    rows = {}
    for name, split in (("new", "predict"), ("sound", "train"), ("moved", "train"), ("waiting", "train")):
        files = {"input": f"raw/{name}.tif", "target": f"raw/{name}_target.tif" if split == "train" else ""}
        rows[name] = Acquisition.model_validate({"acquisition": name, "specimen": name, "split": split, **files, **SIZES})
    write_sheet(Path(config.acquisitions), rows)
    for name, verdict in (("sound", "aligned"), ("moved", "corrected")):
        receipt = paths.ingest_receipt(config, name)
        receipt.parent.mkdir(parents=True)
        receipt.write_text(json.dumps({"details": {"pair": {"verdict": verdict, "sentence": f"The pair is {verdict}."}}}))
    return config


def cards_and_table(config: Config) -> tuple[str, str]:
    page = write_index(config).read_text()
    cards, summary, table = page.partition("older acquisitions and sound training data")
    assert summary
    return cards, table


def test_sound_training_data_stands_in_the_table_and_what_people_come_for_on_cards(config: Config) -> None:
    cards, table = cards_and_table(config)

    assert '<li class="card" id="a-new">' in cards
    assert '<li class="card" id="a-moved">' in cards and "The pair is corrected." in cards
    assert "a-sound" not in cards and '<tr id="a-sound">' in table
    assert "a-waiting" not in cards and '<tr id="a-waiting">' in table


def test_what_failed_has_a_card_however_old_it_is(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SHOWN", 1)
    for name in ("new", "sound"):
        who = Running("ingest", name, "", "node1", 1, 0, 7, "2026-11-23T02:00:00")
        write_failure(config.results, who, "damaged input", "Cut off.")

    cards, _ = cards_and_table(config)

    assert '<li class="card" id="a-new">' in cards and '<li class="card" id="a-sound">' in cards and "Cut off." in cards
