"""The plan of a short night: who runs, with how many samples, and who is put off."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from night_tree import MEASURED, all_jobs, row

from cvdm_core.config import Config, parse
from cvdm_core.doctor.slurm import Cluster, Node, Partition
from cvdm_core.errors import UserError
from cvdm_core.images.tiles import n_blocks
from cvdm_core.nights import forecast as forecasting
from cvdm_core.nights import shortening
from cvdm_core.nights.course import deadline
from cvdm_core.nights.driver import Job, parse_jobs
from cvdm_core.nights.forecast import Unmeasured, capacity, forecast
from cvdm_core.nights.planning import Capacity, Work, make_plan
from cvdm_core.nights.shortening import write_samples
from cvdm_core.sheet import Acquisition, read_sheet, write_sheet

HOUR = 3600.0


def work(name: str, seconds_a_sample: float = 100.0, blocks: int = 1, samples: int = 8, fewest: int = 4) -> Work:
    return Work(name, blocks=blocks, block_seconds=lambda count: count * seconds_a_sample, samples=samples, fewest=fewest)


def test_what_fits_runs_with_all_samples_in_the_order_given() -> None:
    plan = make_plan([work("a"), work("b")], Capacity(1), 1600 / 0.9 + 1)
    assert (plan.samples, plan.deferred, plan.ends) == ({"a": 8, "b": 8}, (), 1600)


def test_a_short_night_takes_samples_from_the_end_of_the_order_before_it_defers_anybody() -> None:
    works = [work(name) for name in "abc"]
    assert make_plan(works, Capacity(1), 1900 / 0.9 + 1).samples == {"a": 8, "b": 7, "c": 4}
    assert make_plan(works, Capacity(1), 1200 / 0.9 + 1).samples == {"a": 4, "b": 4, "c": 4}
    tight = make_plan(works, Capacity(1), 1100 / 0.9 + 1)
    assert (tight.samples, tight.deferred) == ({"a": 7, "b": 4}, ("c",))


def test_a_long_one_that_does_not_fit_leaves_its_time_to_the_next() -> None:
    plan = make_plan([work("a"), work("long", 1000), work("b")], Capacity(1), 1600 / 0.9 + 1)
    assert (plan.samples, plan.deferred) == ({"a": 8, "b": 8}, ("long",))


def test_what_is_longer_than_a_night_is_not_put_off_for_ever() -> None:
    plan = make_plan([work("long", 10_000), work("a")], Capacity(1), HOUR)
    assert (plan.samples, plan.deferred) == ({"long": 8}, ("a",))
    assert plan.ends == 80_000


def test_what_is_longer_than_a_night_leaves_the_places_that_it_does_not_need_to_the_others() -> None:
    two_blocks = work("long", 10_000, blocks=2)
    plan = make_plan([two_blocks, work("a"), work("b"), work("c")], Capacity(3), 1100 / 0.9 + 1)
    assert (plan.samples, plan.deferred, plan.ends) == ({"long": 8, "a": 7, "b": 4}, ("c",), 80_000)
    published = Work("published", after=60.0)  # its blocks are all there, and it needs no GPU
    plan = make_plan([work("long", 10_000), work("a"), published], Capacity(9, sampling=1), HOUR)
    assert (plan.samples, plan.deferred) == ({"long": 8, "published": 1}, ("a",))


def test_jobs_before_and_after_sampling_do_not_wait_for_gpus_but_count_for_the_end() -> None:
    one = Work("a", before=300.0, after=300.0, blocks=4, block_seconds=lambda count: 100.0)
    assert make_plan([one], Capacity(10, sampling=2), HOUR).ends == 300 + 2 * 100 + 300
    assert make_plan([one], Capacity(10, sampling=2, sampling_from=1000.0), HOUR).ends == 1000 + 2 * 100 + 300
    assert make_plan([one, one], Capacity(1), 10 * HOUR).ends == 2 * (300 + 400 + 300)


@given(
    st.lists(st.tuples(st.floats(1, 400), st.integers(1, 6), st.integers(1, 12)), min_size=1, max_size=8),
    st.integers(1, 4), st.floats(100, 8000),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_a_plan_keeps_its_promises(sizes: list[tuple[float, int, int]], places: int, seconds: float) -> None:
    works = [
        Work(str(number), 10.0, 20.0, blocks, lambda count, each=each: each * count, samples, min(samples, 4))
        for number, (each, blocks, samples) in enumerate(sizes)
    ]
    plan = make_plan(works, Capacity(8, places), seconds)
    assert set(plan.samples) | set(plan.deferred) == {one.name for one in works}
    assert not set(plan.samples) & set(plan.deferred)
    assert all(one.fewest <= plan.samples[one.name] <= one.samples for one in works if one.name in plan.samples)
    if plan.ends > seconds:  # of the first alone
        assert plan.samples["0"] == works[0].samples
        assert plan.ends == make_plan(works[:1], Capacity(8, places), seconds).ends
    drawn = [plan.samples[one.name] for one in works if one.name in plan.samples]
    full = [one.samples for one in works if one.name in plan.samples]
    below = [place for place, (count, of) in enumerate(zip(drawn, full, strict=True)) if count < of]
    # Behind the first that gets fewer, everybody gets as few as may be.
    fewest = [one.fewest for one in works if one.name in plan.samples]
    assert drawn[below[0] + 1 :] == fewest[below[0] + 1 :] if below else drawn == full


def test_a_deadline_is_the_next_time_the_clock_shows_it() -> None:
    evening = datetime(2026, 11, 23, 20, 0).timestamp()
    assert deadline("07:00", evening) == datetime(2026, 11, 24, 7, 0).timestamp()
    assert deadline("20:30", evening) == evening + 1800
    assert deadline("20:00", evening) == datetime(2026, 11, 24, 20, 0).timestamp()
    for wrong in ("7", "25:00", "soon", "07:00:00"):
        with pytest.raises(UserError, match="write the time of day as HH:MM"):
            deadline(wrong, evening)


def test_a_deadline_is_seen_on_the_wall_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        evening = datetime(2026, 10, 24, 20, 0).timestamp()
        assert deadline("07:00", evening) - evening == 12 * HOUR  # this night has an hour more
    finally:
        monkeypatch.undo()
        time.tzset()


# What the plan is made from


CONFIG = parse({"store": {"chunk": 256, "shard": 1024}, "sampling": {"samples": 8, "steps": 5, "shards_per_job": 2}}, "a test")


def test_a_forecast_follows_the_jobs_that_are_planned_the_sheet_and_the_throughput() -> None:
    rows = {name: row(name, **values) for name, values in {"old": {}, "new": {}, "now": {"urgent": 2}, "few": {"samples": 3}}.items()}
    jobs = [*all_jobs("new"), *all_jobs("now"), *all_jobs("few"), Job("finish", "old", 1)]
    works = {each.name: each for each in forecast(CONFIG, rows, jobs, MEASURED, between=60)}
    assert list(works) == ["now", "old", "new", "few"]
    assert (works["old"].before, works["old"].blocks, works["old"].after > 0) == (0, 0, True)
    assert works["new"].blocks == 2
    assert works["new"].after == pytest.approx(60 + 3 * 10 + (2048**2 + 2 * 1024**2) / 1e6 * 0.01)  # publishes, measures, makes the page
    assert works["new"].before == pytest.approx(60 + 10 + 1024**2 / 1e6 * 0.01)
    at_8, at_4 = works["new"].block_seconds(8) - 70, works["new"].block_seconds(4) - 70
    assert at_8 == pytest.approx(2 * at_4) and at_4 > 0
    assert [(works[name].samples, works[name].fewest) for name in ("new", "few")] == [(8, 4), (3, 3)]


def test_what_keeps_failing_gets_its_time_after_all_others_of_its_urgency() -> None:
    rows = {name: row(name, **values) for name, values in {"broken": {}, "new": {}, "now": {"urgent": 2}}.items()}
    jobs = [job for name in rows for job in all_jobs(name)]
    order = [each.name for each in forecast(CONFIG, rows, jobs, MEASURED, 0, failing={"broken"})]
    assert order == ["now", "new", "broken"]


def test_blocks_that_are_there_already_keep_their_number_of_samples() -> None:
    rows = {"a": row("a")}
    assert n_blocks(rows["a"].restored_shape(2), 1024, 2) == 2
    assert [forecast(CONFIG, rows, all_jobs("a", blocks), MEASURED, 0)[0].fewest for blocks in (2, 1)] == [4, 8]
    regression = parse({**CONFIG.model_dump(), "model": {"objective": "regression"}}, "a test")
    assert forecast(regression, rows, all_jobs("a"), MEASURED, 0)[0].fewest == 8


@pytest.mark.parametrize("stage", ["ingest", "sample", "stitch", "evaluate", "report"])
def test_without_a_measurement_nothing_is_planned(stage: str) -> None:
    with pytest.raises(Unmeasured, match=stage):
        forecast(CONFIG, {"a": row("a")}, all_jobs("a"), {key: value for key, value in MEASURED.items() if key != stage}, 0)


def profile(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text)
    return folder


def test_places_are_the_profiles_cores_or_jobs_or_the_clusters_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Job("sample", "a", 4)]
    local = profile(tmp_path, "cores: 9\n")
    assert capacity(CONFIG, local, jobs, MEASURED)[0] == Capacity(2)
    assert capacity(CONFIG, profile(tmp_path, "cores: 9\nset-threads: {sample: 1}\n"), jobs, MEASURED)[0] == Capacity(9)
    assert capacity(CONFIG, profile(tmp_path, "executor: slurm\njobs: 50\n"), jobs, MEASURED)[0] == Capacity(50, 50)
    monkeypatch.setattr(forecasting, "ask", lambda: (_ for _ in ()).throw(UserError("sinfo is not here")))
    gpus = profile(tmp_path, "executor: slurm\njobs: 50\nset-resources: {sample: {gpu: 1}}\n")
    found, _, said = capacity(CONFIG, gpus, jobs, MEASURED)
    assert found == Capacity(50, 50) and "sinfo is not here" in said
    trained = capacity(CONFIG, local, [*jobs, Job("train", "", 8)], MEASURED)[0].sampling_from
    assert trained == pytest.approx(10 + 20_000 * 16 * 64**2 / 1e6 * 0.01)
    with pytest.raises(UserError, match="there is no such profile"):
        capacity(CONFIG, tmp_path / "none", jobs, MEASURED)


def test_gpus_are_those_of_usable_nodes_in_the_partition_of_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str, state: str, partition: str) -> Node:
        return Node(name, state, (partition,), 8, 1000, {"h200": 4, "a40": 2}, frozenset())

    nodes = (node("g1", "IDLE", "gpu"), node("g2", "MIXED", "gpu"), node("g3", "IDLE+DRAIN", "gpu"), node("c1", "IDLE", "cpu"))
    partitions = {name: Partition(name, True, name == "cpu", None) for name in ("cpu", "gpu")}
    monkeypatch.setattr(forecasting, "ask", lambda: Cluster(300, partitions, nodes, None))

    def sampling(**resources: object) -> int:
        text = {"executor": "slurm", "jobs": 50, "set-resources": {"sample": resources}}
        return capacity(CONFIG, profile(tmp_path, yaml.safe_dump(text)), [Job("sample", "a", 4)], MEASURED)[0].sampling

    assert sampling(gpu=1, slurm_partition="gpu") == 12
    assert sampling(gpu=1, gpu_model="a40", slurm_partition="gpu") == 4
    assert sampling(gres="gpu:1") == 6  # the default partition
    assert sampling(gpu=0, slurm_partition="gpu") == 50


def test_jobs_are_read_from_what_a_dry_run_says() -> None:
    said = """
rule sample:
    input: a.json
    output: results/cells_1/m/blocks/0003.json
    jobid: 3
    wildcards: acquisition=cells_1, block=3
    priority: 2
    threads: 4
    resources: mem_mb=4000
Shell command: none

rule train:
    output: models/m/train.json
    jobid: 1
    wildcards: model=m
    threads: 8
localrule nightly:
    input: x
"""
    assert parse_jobs(said) == [Job("sample", "cells_1", 4), Job("train", "", 8)]


# Fewer samples stand in the sheet


@pytest.fixture
def sheet(tmp_path: Path) -> Config:
    config = CONFIG.model_copy(update={"acquisitions": str(tmp_path / "a.tsv")})
    write_sheet(config.acquisitions, {"a": row("a", note="HeLa"), "b": row("b")})
    return config


def test_fewer_samples_are_written_with_the_reason_and_the_reason_goes_with_them(sheet: Config) -> None:
    write_samples(sheet, {"a": (4, 8), "b": (5, 8)}, "2026-11-23")
    rows = read_sheet(sheet.acquisitions)
    reason = "4 of 8 samples, because the night of 2026-11-23 was short; empty the cell `samples` to get all."
    assert (rows["a"].samples, rows["a"].note) == (4, f"HeLa; {reason}")
    assert (rows["b"].samples, rows["b"].note) == (5, reason.replace("4 of", "5 of"))
    write_samples(sheet, {"a": (6, 8)}, "2026-11-24")
    assert read_sheet(sheet.acquisitions)["a"].note == f"HeLa; {reason.replace('4 of', '6 of').replace('23', '24')}"
    emptied = {name: each.model_copy(update={"samples": None}) for name, each in read_sheet(sheet.acquisitions).items()}
    write_sheet(sheet.acquisitions, emptied)
    write_samples(sheet, {}, "")
    assert [each.note for each in read_sheet(sheet.acquisitions).values()] == ["HeLa", ""]


def test_a_line_that_somebody_broke_stays_in_the_sheet(sheet: Config) -> None:
    path = Path(sheet.acquisitions)
    path.write_text(path.read_text() + "bad name\ts\tpredict\tc.tif\n")
    write_samples(sheet, {"b": (4, 8)}, "2026-11-23")
    assert "#refused:bad name" in path.read_text()
    assert read_sheet(path)["b"].samples == 4


def test_what_a_person_saves_meanwhile_stays(sheet: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = shortening._changed

    def saves(row: Acquisition, *rest: Any) -> Acquisition:
        text = Path(sheet.acquisitions).read_text()
        Path(sheet.acquisitions).write_text(text.replace("HeLa", "HEK"))
        return changed(row, *rest)

    monkeypatch.setattr(shortening, "_changed", saves)
    write_samples(sheet, {"b": (4, 8)}, "2026-11-23")
    assert {name: (row.note, row.samples) for name, row in read_sheet(sheet.acquisitions).items()} == {
        "a": ("HEK", None),
        "b": ("4 of 8 samples, because the night of 2026-11-23 was short; empty the cell `samples` to get all.", 4),
    }
