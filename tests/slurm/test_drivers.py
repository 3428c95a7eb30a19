"""Drivers that are killed, started again, or started twice: one at a time, and no job twice at the same time."""

from __future__ import annotations

import time

import pytest
from site_tree import Site

pytestmark = pytest.mark.slow

INGEST = "snakemake --profile slurm --slurm-init-seconds-before-status-checks 4 ingest_all"


def test_a_killed_driver_is_followed_by_one_that_cancels_what_it_left_and_does_it_anew(site: Site) -> None:
    names = ("pair", "more", "third", "fourth", "fifth", "sixth")  # two run at a time: some are left when the driver is killed
    for name in names:
        site.facility.acquire(name, "train")
    assert site.typed("cvdm register").returncode == 0
    first = site.started(INGEST)
    site.wait_for_job(lambda _, state, __: state == "RUNNING", seconds=120)

    refused = site.typed(INGEST)
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "root on " in said and "runs the workflow in this folder" in said, said
    assert len(site.jobs()) <= len(names)

    # The node takes nothing new: what waits is there until the next driver has seen it.
    site.cluster.said("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    site.kill_driver()
    first.wait(timeout=20)
    left = {job for job, (state, _) in site.jobs().items() if state in ("PENDING", "RUNNING", "COMPLETING")}
    assert left

    second = site.started(INGEST)
    until = time.monotonic() + 120
    while "an earlier driver left" not in site.driver_said() and time.monotonic() < until:
        time.sleep(0.2)
    site.cluster.said("scontrol", "update", "NodeName=n1", "State=RESUME")
    dry = site.typed(INGEST + " --dry-run")
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert second.wait(timeout=500) == 0, site.driver_said()
    assert "an earlier driver left" in site.driver_said()
    ended = site.jobs()
    assert {state for job, (state, _) in ended.items() if job in left} <= {"CANCELLED", "COMPLETED"}
    assert "CANCELLED" in {state for state, _ in ended.values()}
    # No job of an acquisition began before an earlier one had ended.
    times = site.times()
    for job, (_, comment) in ended.items():
        earlier = [times[other][1] for other, (_, said) in ended.items() if said == comment and other < job and other in times]
        assert job not in times or all(end <= times[job][0] for end in earlier)
    assert site.typed("cvdm verify").returncode == 0
    assert site.is_as_undisturbed("pair") and site.is_as_undisturbed("more")
    assert "there are none" in site.typed("cvdm leftovers").stdout


def test_a_person_can_cancel_what_is_left(site: Site) -> None:
    job = int(site.cluster.said("sbatch", "--parsable", f"--chdir={site.folder}", "--comment=rule_ingest_wildcards_x", "--wrap=sleep 300"))
    other = int(site.cluster.said("sbatch", "--parsable", "--chdir=/", "--comment=rule_ingest_wildcards_x", "--wrap=sleep 300"))
    began = time.monotonic()
    done = site.typed("cvdm leftovers")
    assert done.returncode == 0 and f"{job} (ingest_wildcards_x" in done.stdout, done.stdout + done.stderr
    assert site.jobs()[job][0] == "CANCELLED"
    assert time.monotonic() - began < 60
    assert f"{other}|" in site.cluster.said("squeue", "--noheader", "--format=%A|"), "somebody else's job is left alone"
    site.cluster.said("scancel", str(other))
