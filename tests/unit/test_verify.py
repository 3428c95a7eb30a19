"""Verify: what receipts claim is there, byte for byte, and nothing else passes for a result."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_tree import digests, fill, pixels, settings
from typer.testing import CliRunner

from cvdm_core.cli import app
from cvdm_core.files import PIECE_BYTES, checksum, checksum_file
from cvdm_core.images.publishing import publish
from cvdm_core.records.receipts import sha256_file, stage, write_json
from cvdm_core.records.verify import Tally, folder_checksums, verify

SHARD = "1/c/0/0/0/1/0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An acquisition's folder with two stores and their receipt, paths relative to the working directory."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store, model = Path("results/cells/raw.ome.zarr"), Path("models/cvdm/weights.safetensors")
        with stage("results/cells/ingest.json", "ingest", "cells", "results") as receipt:
            fill(store.with_name("raw.ome.zarr.partial"), pixels((1, 1, 1, 101, 67)), settings())
            publish(store.with_name("raw.ome.zarr.partial"), store)
            receipt.wrote = {str(store): folder_checksums(store)}
        with stage("models/cvdm/train.json", "train", "cvdm", "results") as receipt:
            model.parent.mkdir(parents=True, exist_ok=True)
            model.write_bytes(b"weights")
            receipt.wrote = {str(model): sha256_file(model)}
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check() -> list[str]:
    return verify([Path("results"), Path("models")])


def test_an_untouched_result_has_no_problems(place: Path) -> None:
    assert check() == []


def test_what_was_moved_to_another_disk_and_linked_is_checked_once(place: Path) -> None:
    for folder in (Path("results/cells"), Path("models/cvdm")):
        moved = place / "other_disk" / folder
        moved.parent.mkdir(parents=True)
        folder.rename(moved)
        folder.symlink_to(moved)
    Path("results/cells/up").symlink_to("..")
    tally = Tally()
    assert verify([Path("results"), Path("models")], tally=tally) == []
    assert tally.receipts == 2
    (STORE / SHARD).unlink()
    Path("models/cvdm/weights.safetensors").write_bytes(b"other")
    assert [problem.partition(";")[0] for problem in check()] == [
        "models/cvdm/weights.safetensors (claimed by models/cvdm/train.json) has changed since it was written",
        f"{STORE}: {SHARD} is missing",
    ]


def test_the_command_says_in_one_line_what_it_checked_when_all_is_well(place: Path) -> None:
    Path("config").mkdir()
    Path("config/config.yaml").write_text("{}")
    files = [path for path in Path("results/cells/raw.ome.zarr").rglob("*") if path.is_file()] + [Path("models/cvdm/weights.safetensors")]
    total = sum(path.stat().st_size for path in files)
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 0
    said = f"2 receipts, 1 store, {len(files):,} files, {total:,} bytes."
    assert result.output == f"verify: everything below results and models is as its receipt says: {said}\n"
    Path("models/cvdm/weights.safetensors").write_bytes(b"others!")
    result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 1 and "weights.safetensors" in result.output and "everything" not in result.output


def test_the_checksum_of_a_stores_file_is_blake3_however_it_is_read(tmp_path: Path) -> None:
    # The empty input's, from the test vectors that the BLAKE3 team publishes.
    assert checksum(b"") == "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    for length in (0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 1):
        content = bytes(range(251)) * (length // 251 + 1)
        (tmp_path / "file").write_bytes(content[:length])
        assert checksum_file(tmp_path / "file") == checksum(content[:length]) != checksum(content[: length + 1])


def test_checksums_taken_while_writing_are_those_of_the_files(place: Path) -> None:
    store = Path("results/cells/raw.ome.zarr")
    taken = folder_checksums(store)["files"]
    assert {name: digest for name, (_, digest) in taken.items()} == {name: checksum((store / name).read_bytes()) for name in digests(store)}
    assert folder_checksums(store, {SHARD: [1, "known"], "gone": [2, "x"]})["files"] == taken | {SHARD: [1, "known"]}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


STORE = Path("results/cells/raw.ome.zarr")
FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "missing shard": (lambda: (STORE / SHARD).unlink(), f"raw.ome.zarr: {SHARD} is missing"),
    "truncated shard": (lambda: (STORE / SHARD).write_bytes((STORE / SHARD).read_bytes()[:-1]), f"{SHARD} has "),
    "empty shard": (lambda: (STORE / SHARD).write_bytes(b""), f"{SHARD} has 0 bytes"),
    "changed byte": (lambda: _flip(STORE / SHARD), f"{SHARD} has changed"),
    "changed metadata": (lambda: _flip(STORE / "zarr.json"), "zarr.json has changed"),
    "surplus file": (lambda: (STORE / "0/c/0/0/0/9").write_text("x"), "0/c/0/0/0/9 is not in"),
    "missing store": (lambda: shutil.rmtree(STORE), "store is missing"),
    "store without receipt": (lambda: shutil.copytree(STORE, "results/cells/target.ome.zarr"), "target.ome.zarr: no receipt"),
    "receipt lost": (lambda: Path("results/cells/ingest.json").unlink(), "raw.ome.zarr: no receipt"),
    "damaged receipt": (lambda: Path("results/cells/ingest.json").write_text('{"stage": '), "receipt is damaged"),
    "receipt that says nothing": (
        lambda: write_json("results/cells/x.json", {"stage": "x", "wrote": {"results/cells": {"some": "thing"}}}),
        "is not understood",
    ),
    "partial store claimed": (
        lambda: write_json("results/cells/x.json", {"stage": "x", "wrote": {"results/cells/y.partial": {"files": {"0": [1, "x"]}}}}),
        "y.partial: the store is missing",
    ),
    "missing weights": (
        lambda: Path("models/cvdm/weights.safetensors").unlink(),
        "weights.safetensors (claimed by models/cvdm/train.json)",
    ),
    "changed weights": (lambda: Path("models/cvdm/weights.safetensors").write_bytes(b"weighty"), "weights.safetensors"),
    "folder in place of weights": (
        lambda: (Path("models/cvdm/weights.safetensors").unlink(), Path("models/cvdm/weights.safetensors").mkdir()),
        "is missing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found(place: Path, fault: str) -> None:
    plant, words = FAULTS[fault]
    plant()
    problems = check()
    assert problems
    assert any(words in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_a_file_on_a_damaged_disk_is_named_and_the_others_are_checked_all_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        if path == STORE / SHARD:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return checksum_file(path)

    monkeypatch.setattr("cvdm_core.records.verify.checksum_file", read)
    _flip(Path("models/cvdm/weights.safetensors"))
    unreadable, changed = sorted(check(), reverse=True)
    assert unreadable.startswith(f"{STORE}: {SHARD} cannot be read (Input/output error), so it was not checked")
    assert "weights.safetensors" in changed and "has changed" in changed


@pytest.mark.parametrize("folder", ["results", "results/cells", str(STORE / "1")])
def test_a_folder_that_may_not_be_read_is_not_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    scandir = os.scandir

    def scan(path: str) -> Any:
        if str(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    (problem,) = check()
    assert problem.startswith(f"{folder} cannot be read (Permission denied), so it was not checked")


@pytest.mark.parametrize("folder", ["results", "results/cells"])
def test_a_linked_folder_whose_disk_is_gone_is_not_passed_over(place: Path, folder: str) -> None:
    shutil.rmtree(folder)
    Path(folder).symlink_to(place / "not_mounted")
    (problem,) = check()
    assert problem.startswith(f"{folder}: this link leads nowhere, so what lies behind it was not checked")


def test_a_model_that_was_brought_along_under_another_name_is_checked_where_it_lies(place: Path) -> None:
    Path("models/cvdm").rename("models/sim_gfp")
    assert verify([Path("results"), Path("models")]) == []
    Path("models/sim_gfp/weights.safetensors").write_bytes(b"others!")
    (problem,) = verify([Path("results"), Path("models")])
    assert "models/sim_gfp/weights.safetensors" in problem and "has changed" in problem


def test_a_store_that_is_still_being_written_is_mentioned_and_no_problem(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(STORE, "results/cells/target.ome.zarr.partial")
    assert check() == []
    assert "target.ome.zarr.partial" in caplog.text


def test_other_json_files_are_left_alone(place: Path) -> None:
    write_json("results/.failures/ingest.cells.json", {"stage": "ingest", "wrote": {"nothing": "x"}})
    write_json("results/cells/notes.json", {"hello": 1})
    write_json("models/.state/cvdm/state.json", {"stage": "train", "wrote": {"nothing": "x"}})
    assert check() == []
    assert verify([Path("nowhere")]) == []


def test_a_shard_of_other_pixels_is_found(place: Path) -> None:
    """A store that is right in itself, but is not the one that was written."""
    shutil.rmtree(STORE)
    fill(STORE, np.zeros((1, 1, 1, 101, 67), np.uint16), settings())
    assert len(check()) >= 10
