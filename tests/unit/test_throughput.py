"""Throughput as it was measured: a robust pace, requests that hold, and a file that mends itself."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from cvdm_core.config import Config
from cvdm_core.records.measuring import NEWEST, Job, fit, update_throughput
from cvdm_core.records.receipts import write_json
from cvdm_core.records.throughput import (
    MARGIN,
    UNMEASURED,
    Pace,
    expected_seconds,
    measured_memory_mb,
    read_throughput,
    requested_seconds,
    throughput_file,
)
from cvdm_core.sheet import Acquisition
from cvdm_core.workload import STAGES, block_megapixels, megapixels


def job(pixels: float, seconds: float, memory: float = 1000.0) -> Job:
    return Job("ingest", "", "cpu", "a/ingest", "2026-01-01T00:00:00", pixels, seconds, memory)


def receipt(folder: Path, name: str, number: int, seconds: float, device: str = "cpu", stage: str = "ingest", pixels: float = 10.0) -> Path:
    place = folder / "results" / name / {"ingest": "ingest.json", "sample": f"cvdm/blocks/{number:04d}.json"}[stage]
    usage = {"megapixels": pixels, "peak_memory_mb": 500.0 + number, "device": device}
    started = f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00+00:00"
    write_json(place, {"stage": stage, "subject": name, "seconds": seconds, "started": started, "usage": usage})
    return place


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(results=str(tmp_path / "results"), models=str(tmp_path / "models"))


def test_a_line_is_found_through_jobs_of_different_sizes_although_three_in_ten_had_accidents() -> None:
    generator = random.Random(1)
    jobs = [job(size, 7 + 0.5 * size * generator.uniform(0.97, 1.03)) for size in range(10, 110, 5)]
    for number in (1, 4, 9, 13, 16, 18):
        jobs[number] = jobs[number]._replace(seconds=jobs[number].seconds * 40)
    pace = fit(jobs)
    assert pace.start_seconds == pytest.approx(7, abs=3)
    assert pace.seconds_per_megapixel == pytest.approx(0.5, rel=0.1)
    assert pace.slow == 3.0  # not the 40 of the accidents


def test_jobs_of_one_size_scale_with_the_pixels() -> None:
    pace = fit([job(10, 20), job(10, 22), job(10, 21)])
    assert pace.seconds(20) == pytest.approx(42)
    assert pace.slow == pytest.approx(22 / 21)


def test_requests_come_from_the_slowest_device_of_late_and_expectations_from_the_usual_one() -> None:
    fast, slow = Pace(90, 5, 0.1, 1.2, 900), Pace(10, 5, 1.0, 1.5, 1100)
    throughput = {"sample": {"cvdm": {"fast": fast, "slow": slow}}}
    assert requested_seconds(throughput, "sample", 100, "cvdm") == pytest.approx(MARGIN * 1.5 * 105)
    assert expected_seconds(throughput, "sample", 100, "cvdm") == pytest.approx(0.9 * 15 + 0.1 * 105)
    assert measured_memory_mb(throughput, "sample", "cvdm") == 1100
    assert requested_seconds(throughput, "sample", 100, "never measured") == requested_seconds(throughput, "sample", 100, "cvdm")


def test_too_few_jobs_count_as_none_but_one_training_counts() -> None:
    few = Pace(4, 0, 100.0)
    throughput = {"ingest": {"": {"cpu": few}}, "train": {"cvdm": {"gpu": replace(few, jobs=1)}}}
    assert expected_seconds(throughput, "ingest", 10) is None
    assert requested_seconds(throughput, "ingest", 10) == UNMEASURED["ingest"].seconds(10)
    assert measured_memory_mb(throughput, "ingest") == 0
    assert expected_seconds(throughput, "train", 10, "cvdm") == 1000


def test_receipts_become_paces_and_old_jobs_stay_when_results_are_moved_away(config: Config, tmp_path: Path) -> None:
    for number in range(6):
        moved = receipt(tmp_path, f"a{number}", number, 20.0)
        receipt(tmp_path, f"a{number}", number, 5.0, "H200", "sample", 100.0)
    update_throughput(config)
    moved.unlink()
    receipt(tmp_path, "new", 30, 40.0)
    throughput = read_throughput(update_throughput(config))
    assert throughput["ingest"][""]["cpu"].jobs == 7
    assert throughput["ingest"][""]["cpu"].seconds_per_megapixel == pytest.approx(2.0)
    assert throughput["sample"]["cvdm"]["H200"].seconds(200) == pytest.approx(10.0)
    assert measured_memory_mb(throughput, "ingest") == 530


def test_only_the_newest_jobs_count(config: Config, tmp_path: Path) -> None:
    for number in range(NEWEST + 20):
        receipt(tmp_path, f"a{number}", number, 10.0 if number < 20 else 30.0, "old" if number < 20 else "new")
    assert {device: pace.jobs for device, pace in read_throughput(update_throughput(config))["ingest"][""].items()} == {"new": NEWEST}


def test_receipts_that_are_known_are_not_read_again(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for number in range(5):
        os.utime(receipt(tmp_path, f"a{number}", number, 10.0), (1000.0 + number,) * 2)
    newest = receipt(tmp_path, "newest", 40, 10.0)
    update_throughput(config)
    read: list[str] = []
    monkeypatch.setattr("cvdm_core.records.measuring._job", lambda path: read.append(str(path)))
    update_throughput(config)
    assert read == [str(newest)]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"paces": 3}', '{"jobs": [[1]], "read_until": 0, "paces": {"ingest": {"": {"cpu": {}}}}}']
)
def test_a_damaged_file_counts_as_nothing_measured_and_is_made_anew(config: Config, tmp_path: Path, damage: str) -> None:
    for number in range(5):
        receipt(tmp_path, f"a{number}", number, 20.0)
    path = throughput_file(config.results)
    path.write_text(damage)
    assert read_throughput(path) == {}
    assert read_throughput(update_throughput(config))["ingest"][""]["cpu"].jobs == 5


def test_a_pace_with_impossible_numbers_is_not_used(tmp_path: Path) -> None:
    wrong = {"jobs": 9, "start_seconds": -1e9, "seconds_per_megapixel": 1, "slow": 1, "memory_mb": 1}
    (tmp_path / "throughput.json").write_text(json.dumps({"paces": {"ingest": {"": {"cpu": wrong}}}}))
    assert read_throughput(tmp_path / "throughput.json") == {}


def test_damaged_receipts_and_those_that_measured_nothing_are_passed_over(config: Config, tmp_path: Path) -> None:
    receipt(tmp_path, "damaged", 1, 20.0).write_text("{")
    receipt(tmp_path, "idle", 1, 20.0, pixels=0.0)
    write_json(tmp_path / "results/old/ingest.json", {"stage": "ingest", "subject": "old", "seconds": 3.0})
    assert read_throughput(update_throughput(config)) == {}


def test_work_is_counted_from_the_sheet_alone() -> None:
    config = Config.model_validate({"sampling": {"samples": 2, "steps": 5, "halo": 64, "shards_per_job": 3}, "store": {"shard": 1024}})
    row = Acquisition(
        acquisition="a", specimen="a", split="test", input="a.tif", target="b.tif", size_t=1, size_c=2, size_z=1, size_y=1024, size_x=512
    )
    assert megapixels(config, row, "ingest") == pytest.approx((2 * 1024 * 512 + 2 * 2048 * 1024) / 1e6)
    # Two shards one above the other in each channel: each sees 64 rows of the other.
    assert megapixels(config, row, "sample") == pytest.approx(2 * (2048 + 128) * 1024 * 10 / 1e6)
    assert block_megapixels(config, row) == pytest.approx(megapixels(config, row, "sample") * 3 / 4)
    assert set(UNMEASURED) == set(STAGES)
