"""The index: what stands there of every acquisition, and what must not keep it from being written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from register_folder import break_line
from report_pages import BLIND, HOSTILE, SINGLE, TWO, page, read_index
from report_tree import add_acquisition, make_config, write_failure, write_model

from cvdm_core import paths
from cvdm_core.acquisitions.ledger import Entry, Ledger, ledger_file
from cvdm_core.acquisitions.register import register
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.report.acquisition import write_report
from cvdm_core.report.card import card_file
from cvdm_core.sheet import read_sheet, write_sheet


def test_the_index_is_written_when_there_is_nothing_yet(tmp_path: Path) -> None:
    words = read_index(make_config(tmp_path)).words
    assert "there is no sample sheet" in words
    assert "nothing here yet" in words


def test_the_index_lists_all_rows_in_order_with_state_and_link(config: Config) -> None:
    add_acquisition(config, "waiting", finished=False)
    add_acquisition(config, "for_training", finished=False, split="train")
    shown = read_index(config)
    order = [shown.words.index(f"\n{name}") if f"\n{name}" in shown.words else shown.words.index(name) for name in (TWO, BLIND, "waiting")]
    assert order == sorted(order)
    assert f"{TWO}/cvdm/report.html" in {attributes["href"] for attributes in shown.all("a")}
    states = [attributes["class"] for attributes in shown.all("span") if attributes.get("class", "").startswith("state ")]
    assert states == [f"state {state}" for state in ("restored", "restored", "restored", "not yet")]
    assert len(shown.all("img")) == 3
    assert "a-for_training" in {attributes.get("id") for attributes in shown.all("tr")}


def test_the_index_says_what_its_numbers_are(config: Config) -> None:
    assert "RSP: agreement with the input, 1 is perfect." in read_index(config).words


def test_the_mean_gain_is_that_of_test_acquisitions_which_the_model_has_not_seen(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    for name, split in (("fresh", "test"), ("judge", "val"), ("leaked", "test")):
        add_acquisition(config, name, (64, 64), split=split)
    with (paths.restored_folder(config, "leaked") / "metrics.tsv").open("a") as metrics:
        metrics.write("leaked\tcvdm\ttest\tactin\tinput\ttrained_on\t2.0\tfiles\ttraining data\t\n")
    for name in ("fresh", "judge", "leaked"):
        write_report(config, name)
    assert "mean gain in scale-invariant PSNR (1 test acquisition)+6.8 dB" in read_index(config).words
    assert "The model was trained on this image" in page(config, "leaked").words
    assert "trained on" not in page(config, "fresh").words


def test_the_index_says_what_failed_and_what_was_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    add_acquisition(config, "broken", finished=False)
    write_failure(config, "ingest", "broken", f"{HOSTILE}.tif: the file ends early; copy it again.")
    write_failure(config, "train", "cvdm", "no pairs in the train split; add some.")
    (Path(config.results) / ".failures" / "sample.x.json").write_text("{ damaged")
    refused = f"acquisition\tfile\tproblem\n{HOSTILE}\t/data/a b.tif\tno pixel size; add stated_pixel_size_um.\n"
    (tmp_path / "acquisitions.refused.tsv").write_text(refused)
    shown = read_index(config)
    for words in ("the file ends early; copy it again.", "no pairs in the train split", "this receipt is damaged", "no pixel size; add"):
        assert words in shown.words
    assert shown.words.count(HOSTILE) >= 2
    assert not shown.all("img")
    assert len(shown.all("script")) == 1


def test_a_broken_line_of_the_sheet_is_told_once_until_it_is_mended(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    for name in ("kept", "mine"):
        add_acquisition(config, name, finished=False)
    break_line(config.acquisitions, "mine")
    for _ in range(2):
        shown = read_index(config).words
        assert shown.count("na = '1,4' is not usable") == 1 and "kept" in shown
        with pytest.raises(UserError, match="refused"):
            register(config, [])
    sheet = Path(config.acquisitions)
    sheet.write_text(sheet.read_text().replace("1,4", "1.4"))
    assert "is not usable" not in read_index(config).words


def test_what_waits_in_the_inbox_for_a_person_stands_in_front_as_the_ledger_has_it_last(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    ledger = ledger_file(config.acquisitions)
    said = f"{HOSTILE}.tif is cut off; copy it again."
    entries = [
        Entry(
            file="/inbox/cut.tif",
            inbox="/inbox",
            name=HOSTILE,
            state="failed",
            reason=f"{HOSTILE}.tif is cut off; copy it again.",
            act=True,
        ),
        Entry(file="/inbox/late.tif", inbox="/inbox", name="late_one", state="arriving", reason="it is still written"),
        Entry(file="/inbox/mended.tif", inbox="/inbox", name="mended", state="quarantined", reason="no pixel size", act=True),
        Entry(file="/inbox/mended.tif", inbox="/inbox", name="mended", state="reported"),
        Entry(file="/inbox/rotten.tif", inbox="/inbox", name="rotten", state="failed", reason="has a note", act=True, kind="damaged input"),
    ]
    with locked(config.acquisitions):
        Ledger(ledger).add(entries)
    with ledger.open("ab") as stream:
        stream.write(b'{"file": "/inbox/cut')  # another process writes
    size = ledger.stat().st_size
    words = read_index(config).words
    assert f"{HOSTILE}, inbox: failed. {said}" in words
    assert words.index("is cut off") > words.index("What needs a person")
    assert not [name for name in ("late_one", "mended", "rotten") if name in words]
    assert ledger.stat().st_size == size


def test_a_ledger_that_cannot_be_read_is_named_on_the_index_not_fatal_to_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    ledger = ledger_file(config.acquisitions)
    ledger.mkdir(parents=True)  # root may read a file without permissions
    assert f"{ledger}: the inbox's ledger cannot be read" in read_index(config).words


@pytest.mark.parametrize("lost", ["results/{}/cvdm/stitch.json", "results/{}/cvdm/metrics.tsv", "results/{}/raw.ome.zarr", "models"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_nothing_that_is_lost_keeps_the_index_from_being_written(config: Config, tmp_path: Path, lost: str, how: str) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_model(moved)
    write_sheet(moved.acquisitions, read_sheet(config.acquisitions))
    for name in (TWO, BLIND):
        path = tmp_path / lost.format(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if how == "damaged":
            path.write_bytes(b"\xff\x00{")
    shown = read_index(moved)
    assert SINGLE in shown.words
    assert TWO in shown.words
    assert [attributes["class"] for attributes in shown.all("img")].count("thumb") >= 1


def test_a_report_without_its_page_is_not_called_restored(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, {SINGLE: read_sheet(config.acquisitions)[SINGLE]})
    paths.report_page(moved, SINGLE).unlink()
    shown = read_index(moved)
    assert "not yet" in shown.words
    assert not [attributes for attributes in shown.all("a") if "report.html" in attributes.get("href", "")]


def test_a_store_with_damaged_pixels_is_named_on_the_index_not_fatal_to_it(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, {SINGLE: read_sheet(config.acquisitions)[SINGLE]})
    card_file(moved, SINGLE).unlink()
    for path in paths.restored_store(moved, SINGLE).rglob("c/0/0/0/*/*"):
        path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))
    assert "The picture could not be read" in read_index(moved).words
