"""`snakemake --profile slurm` as typed, on a real SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest
from site_tree import Site, acquired

from cvdm_core.records.receipts import read_json

INGEST = "snakemake --profile slurm ingest_all"
# The line of docs/cluster.md for a cluster without GPUs, with the CPUs that this one has.
WITHOUT_GPUS = "snakemake --profile slurm --set-resources train:gpu=0 sample:gpu=0 --set-threads train=2 sample=1"
SOON = " --slurm-init-seconds-before-status-checks 4"  # in place of 20: tiny jobs are done sooner than real ones


def test_the_smallest_workflow_runs_as_typed_and_a_second_run_submits_nothing(site: Site) -> None:
    acquired(site, pair="train")

    first = site.typed(INGEST)

    assert first.returncode == 0, first.stdout + first.stderr
    assert read_json(site.folder / "results/pair/ingest.json")["subject"] == "pair"
    assert [state for state, _ in site.jobs().values()] == ["COMPLETED"]
    job = site.cluster.said("scontrol", "show", "job", str(*site.jobs()))
    assert "mem=2000M" in job and "TimeLimit=00:05:00" in job and "TresPerJob" not in job

    second = site.typed(INGEST)

    assert second.returncode == 0, second.stdout + second.stderr
    assert "Nothing to be done" in second.stdout + second.stderr
    assert len(site.jobs()) == 1


@pytest.mark.slow
def test_a_whole_night_runs_on_a_cluster_without_gpus_with_one_more_line(site: Site) -> None:
    acquired(site, pair="train", checked="val", new="predict")

    done = site.typed(WITHOUT_GPUS + SOON, timeout=800)

    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(site.folder / "results/new/tiny/report.json")["stage"] == "report"
    assert {state for state, _ in site.jobs().values()} == {"COMPLETED"}
    asked = [site.cluster.said("scontrol", "show", "job", str(number)) for number in site.jobs()]
    assert not any("TresPerJob" in job for job in asked)


@pytest.mark.slow
def test_a_night_with_kills_and_a_dead_driver_ends_with_the_same_pixels_as_an_undisturbed_one(site: Site) -> None:
    acquired(site, pair="train", checked="val", new="predict")
    night = WITHOUT_GPUS + SOON

    def running(rule: str, after: int = 0) -> int:
        return site.wait_for_job(lambda job, state, comment: state == "RUNNING" and job > after and comment.startswith(f"rule_{rule}"), 700)

    driver = site.started(night)
    cancelled = running("train")
    site.cluster.said("scancel", str(cancelled))
    running("train", after=cancelled)
    site.kill_driver()
    driver.wait(timeout=30)
    driver = site.started(night)
    site.kill_job(running("sample"))
    assert driver.wait(timeout=800) == 0, site.driver_said()

    kept = site.folder / "disturbed"
    kept.mkdir()
    for name in ("results", "models"):
        (site.folder / name).rename(kept / name)
    done = site.typed("snakemake --profile profiles/local", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for receipt in ("results/new/tiny/stitch.json", "results/new/ingest.json"):
        stores = [{Path(path).name: sums for path, sums in read_json(place / receipt)["wrote"].items()} for place in (kept, site.folder)]
        assert stores[0] == stores[1] and stores[0]
    weights = [(place / "models/tiny/weights.safetensors").read_bytes() for place in (kept, site.folder)]
    assert weights[0] == weights[1]
