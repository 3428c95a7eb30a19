"""Failures, each caused on the real cluster: the night goes on, nothing is done twice, and what failed is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from site_tree import Site

pytestmark = pytest.mark.slow

# Looks for finished jobs after 4 s in place of 20: tiny jobs are done sooner than real ones.
INGEST = "snakemake --profile slurm --slurm-init-seconds-before-status-checks 4 ingest_all"


def cancel(site: Site, job: int) -> None:
    site.cluster.said("scancel", str(job))


def kill(site: Site, job: int) -> None:
    site.kill_job(job)


def requeue(site: Site, job: int) -> None:
    site.cluster.said("scontrol", "requeue", str(job))


def lose_the_node(site: Site, job: int) -> None:
    # It comes back by itself as soon as its slurmd is heard again (ReturnToService=2).
    site.cluster.said("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    site.wait_for_job(lambda _, state, __: state != "RUNNING")


def preempt(site: Site, job: int) -> None:
    site.cluster.said("sbatch", "--partition=cpu", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 5")
    site.wait_for_job(lambda _, state, __: state != "RUNNING")


@pytest.mark.parametrize(
    ("disturb", "states"),
    [
        # Snakemake's own retry: another job.
        (cancel, ["CANCELLED", "COMPLETED"]),
        (kill, ["FAILED", "COMPLETED"]),
        # SLURM's requeue: the same job again, and no second one beside it.
        (requeue, ["COMPLETED"]),
        (lose_the_node, ["COMPLETED"]),
        (preempt, ["COMPLETED"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_disturbed_job_is_done_once_more_and_the_run_ends_well(
    site: Site, disturb: Callable[[Site, int], None], states: list[str]
) -> None:
    site.facility.acquire("pair", "train")
    assert site.typed("cvdm register").returncode == 0
    partition = " --default-resources slurm_partition=preempt" if disturb is preempt else ""

    driver = site.started(INGEST + partition)
    disturbed = site.wait_for_job(lambda _, state, __: state == "RUNNING")
    disturb(site, disturbed)

    assert driver.wait(timeout=800) == 0, (site.folder / "driver.log").read_text()
    assert [state for _, (state, _) in sorted(site.jobs().items())] == states
    restarts = "Restarts=1" if states == ["COMPLETED"] else "Restarts=0"
    assert restarts in site.cluster.said("scontrol", "show", "job", str(disturbed))
    assert site.typed("cvdm verify").returncode == 0
    assert site.is_as_undisturbed("pair")


def test_a_damaged_acquisition_costs_only_itself_and_is_named_with_class_and_sentence(site: Site) -> None:
    damaged = site.facility.acquire("damaged", "train")
    site.facility.acquire("before", "train")
    site.facility.acquire("later", "val")
    assert site.typed("cvdm register").returncode == 0
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])

    done = site.typed(INGEST)

    assert done.returncode != 0
    results = site.folder / "results"
    assert [name for name in ("before", "damaged", "later") if (results / name / "ingest.json").exists()] == ["before", "later"]
    index = (results / "index.html").read_text()
    assert "damaged input" in index
    assert "raw/damaged.tif" in index
    assert "cvdm: " in done.stdout + done.stderr  # show-failed-logs: the sentence stands in the driver's output too
