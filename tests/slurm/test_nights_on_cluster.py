"""`cvdm night --profile slurm` on a real SLURM: one night, one with nothing to do, and one that is too short."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
import yaml
from month import acquire
from site_tree import Site

from cvdm_core.config import load
from cvdm_core.nights.planning import BETWEEN_JOBS_S
from cvdm_core.records.nights import read_nights
from cvdm_core.records.throughput import expected_seconds, read_throughput, throughput_file
from cvdm_core.sheet import read_sheet, write_sheet
from cvdm_core.workload import megapixels


def write_site_lines(site: Site, **changes: object) -> None:
    """Write the site's own lines into the profile: this cluster has no GPU that computes, and two CPUs."""
    profile = site.folder / "profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings |= {
        "set-resources": {"train": {"gpu": 0}, "sample": {"gpu": 0}},
        "set-threads": {"train": 2, "sample": 1},
        "slurm-init-seconds-before-status-checks": 4,
    }
    profile.write_text(yaml.safe_dump(settings | changes))


@pytest.mark.slow
def test_a_night_restores_what_is_new_with_the_urgent_in_front_and_the_next_one_submits_nothing(site: Site) -> None:
    write_site_lines(site)
    for name, split in {"pair": "train", "checked": "val", "new": "predict", "now": "predict"}.items():
        site.facility.acquire(name, split, target=split != "predict")
    registered = site.typed("cvdm register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    rows = read_sheet(site.facility.sheet)
    write_sheet(site.facility.sheet, {**rows, "now": rows["now"].model_copy(update={"urgent": 1})})

    first = site.typed("cvdm night --profile slurm --by 07:00", timeout=1500)

    assert first.returncode == 0, first.stdout + first.stderr
    night = read_nights(site.folder / "results", 1)[0]
    assert set(night.restored) == {"new", "now"} and not night.failed and not night.unfinished
    jobs = site.jobs()
    assert {state for state, _ in jobs.values()} == {"COMPLETED"}
    nice = {}
    for number, (_, comment) in jobs.items():
        found = re.search(r"\bNice=(-?\d+)", site.cluster.said("scontrol", "show", "job", str(number)))
        nice[comment] = int(found[1]) if found else None
    sampling = {comment: value for comment, value in nice.items() if "rule_sample" in comment}
    assert {value for comment, value in sampling.items() if "now" in comment} == {0}
    assert {value for comment, value in sampling.items() if "new" in comment} == {100}

    second = site.typed("cvdm night --profile slurm", timeout=600)

    assert second.returncode == 0 and "nothing to restore" in second.stdout, second.stdout + second.stderr
    assert max(site.jobs()) == max(jobs)


def arrive(site: Site, *names: str) -> None:
    """Let acquisitions arrive, and look once: the next look finds them quiet."""
    generator = np.random.default_rng(7)
    for name in names:
        acquire(site.folder / f"inbox/{name}.ome.tif", generator, "good")
    site.typed("cvdm register --inbox inbox")
    time.sleep(0.2)


def states(site: Site) -> dict[str, str]:
    lines = (site.folder / "config/acquisitions.inbox.jsonl").read_text().splitlines()
    return {entry["name"]: entry["state"] for entry in map(json.loads, lines)}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_what_does_not_fit_by_the_deadline_as_measured_in_the_night_before_is_deferred_told_and_done_next(site: Site) -> None:
    write_site_lines(site)
    site.facility.configure(inbox={"folder": "inbox", "quiet_minutes": 0.001}, sampling={"shards_per_job": 100})
    site.facility.acquire("pair", "train")
    site.facility.acquire("checked", "val")
    assert site.typed("cvdm register").returncode == 0
    arrive(site, *(f"early{number}" for number in range(5)))  # as many as must have been measured
    first = site.typed("cvdm night --profile slurm --by 07:00", timeout=1500)
    assert first.returncode == 0 and "too few jobs of `train` were measured so far: everything runs" in first.stdout, (
        first.stdout + first.stderr
    )

    # One job at a time, and time for one acquisition and a half.
    write_site_lines(site, jobs=1)
    arrive(site, "late0", "late1", "late2")
    assert site.typed("cvdm register --inbox inbox").returncode == 0
    config, throughput = load([site.folder / "config/config.yaml"]), read_throughput(throughput_file(site.folder / "results"))
    row = read_sheet(site.facility.sheet)["late0"]
    stages = {"ingest": "", "sample": "tiny", "stitch": "tiny", "evaluate": "tiny", "report": "tiny"}
    expected = [expected_seconds(throughput, stage, megapixels(config, row, stage), model) for stage, model in stages.items()]
    assert all(seconds is not None and seconds > 0 for seconds in expected), "the first night was measured"
    one = 3 * BETWEEN_JOBS_S + sum(seconds or 0 for seconds in expected)
    by = time.strftime("%H:%M", time.localtime(time.time() + 60 + 1.5 * one / 0.9))

    second = site.typed(f"cvdm night --profile slurm --by {by}", timeout=1500)

    assert second.returncode == 0, second.stdout + second.stderr
    night = read_nights(site.folder / "results", 1)[0]
    assert (night.restored, list(night.deferred)) == (("late0",), ["late1", "late2"]), second.stdout
    assert "Planned from the measured throughput for 1 jobs at a time: 1 of 3 acquisitions" in second.stdout
    assert "late1: it did not fit before " in second.stdout
    index = (site.folder / "results/index.html").read_text()
    assert "2 deferred by the latest night" in index and "it did not fit before" in index
    assert states(site) | {"late0": "reported", "late1": "registered", "late2": "registered"} == states(site)
    assert not (site.folder / "results/late1").exists() and not any("late1" in comment for _, comment in site.jobs().values())

    write_site_lines(site)
    third = site.typed("cvdm night --profile slurm", timeout=1500)

    assert third.returncode == 0, third.stdout + third.stderr
    night = read_nights(site.folder / "results", 1)[0]
    assert set(night.restored) == {"late1", "late2"} and not night.deferred
    assert set(states(site).values()) == {"reported"}
