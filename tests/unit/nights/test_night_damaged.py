"""When a night tries damaged files again: as soon as one of them is another one, and not before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_night_plan import row

from cvdm_core.config import Config, parse
from cvdm_core.nights.damaged import still_damaged
from cvdm_core.records.receipts import failure_path, read_json, write_json
from cvdm_core.sheet import Acquisition

INPUTS = {
    "alone": "raw/alone.tif",
    "series": "raw/series_t{t}.tif",
    "set": "raw/set_0.ome.tif",
    "mosaic": "fields/{f}.tif",
    "ended": "gone/{t}.tif",
}
FILES = (
    "raw/alone.tif",
    "raw/series_t0.tif",
    "raw/series_t1.tif",
    "raw/set_0.ome.tif",
    "raw/set_1.ome.tif",
    "fields/1.tif",
    "fields/2.tif",
)
DAMAGED = ("mosaic", "series", "set")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Acquisitions of several files that have failed, in one folder with another one."""
    monkeypatch.chdir(tmp_path)
    for file in FILES:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_bytes(b"cut off")
    made = parse({}, "a test")
    for name in DAMAGED:
        note = failure_path(made.results, "ingest", name)
        write_json(note, {"stage": "ingest", "subject": name, "class": "damaged input", "message": "It is cut off."})
    return made


def rows() -> dict[str, Acquisition]:
    series = {"mosaic": "mosaic", "set": 0}
    return {name: row(name).model_copy(update={"input": path, "series": series.get(name)}) for name, path in INPUTS.items()}


def test_acquisitions_of_several_files_are_not_tried_again_while_all_are_the_same(config: Config) -> None:
    assert still_damaged(config, rows(), rows()) == dict.fromkeys(DAMAGED, "It is cut off.")


def test_a_store_that_a_later_stage_found_damaged_is_tried_again(config: Config) -> None:
    """It is mended by ingesting again, which changes no file of the microscope: the night would pass over it for ever."""
    for name in DAMAGED:
        note = failure_path(config.results, "ingest", name)
        write_json(failure_path(config.results, "sample", name, "0000"), read_json(note) | {"stage": "sample"})
        note.unlink()
    assert not still_damaged(config, rows(), rows())


def test_a_link_that_leads_nowhere_beside_a_damaged_file_changes_nothing(config: Config) -> None:
    only_set = {"set": rows()["set"]}
    Path("raw/nowhere.tif").symlink_to("/nowhere/at/all")
    assert still_damaged(config, only_set, only_set)


def test_a_new_file_beside_one_whose_header_can_be_read_is_no_part_of_it(config: Config) -> None:
    """Seen in a month of nights: whenever something that could not be registered arrived, all that was damaged was tried again."""
    for number in range(2):
        tifffile.imwrite(f"raw/rotten_{number}.tif", np.zeros((16, 16), np.uint16))
    rotten = {"alone": row("alone").model_copy(update={"input": "raw/rotten_0.tif", "target": "raw/rotten_1.tif"})}
    write_json(
        failure_path(config.results, "ingest", "alone"), {"stage": "ingest", "subject": "alone", "class": "damaged input", "message": "."}
    )
    time.sleep(0.02)
    Path("raw/new.tif").write_bytes(b"cut off")
    assert still_damaged(config, rotten, rotten)
    os.utime("raw/rotten_1.tif")
    assert not still_damaged(config, rotten, rotten)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda: os.utime("raw/series_t1.tif", (0, 0)), "series"),  # a copy that keeps an old time
        (lambda: os.utime("raw/set_1.ome.tif", (0, 0)), "set"),  # which the row does not name
        (lambda: Path("fields/3.tif").write_bytes(b"a field that had been missing"), "mosaic"),
        (lambda: Path("raw/series_t1.tif").unlink(), "series"),
        (lambda: Path("raw/alone.tif").write_bytes(b"of another acquisition"), ""),
    ],
)
def test_whichever_of_its_files_changes_it_is_tried_again(config: Config, change: Callable[[], object], again: str) -> None:
    time.sleep(0.02)  # the file system's clock has ticks of some milliseconds
    change()
    assert set(DAMAGED) - still_damaged(config, rows(), rows()).keys() == ({again} if again else set())
