"""SLURM's controller is away for a while: the run waits, loses no job and sends none twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from site_tree import Site

pytestmark = pytest.mark.slow

INGEST = "snakemake --profile slurm --slurm-init-seconds-before-status-checks 4 ingest_all"
AWAY_SECONDS = 25  # a look falls into it for sure: looks come after 4, 14 and 24 s


@pytest.fixture
def outage(site: Site) -> Iterator[None]:
    """Makes sure that the controller runs afterwards."""
    yield
    if site.cluster.run("scontrol", "ping").stdout.find("UP") < 0:
        site.cluster.start_controller()


@pytest.mark.usefixtures("outage")
def test_without_a_controller_at_submission_and_again_while_jobs_run_every_job_is_sent_once(site: Site) -> None:
    site.facility.acquire("pair", "train")
    site.facility.acquire("more", "val")
    assert site.typed("cvdm register").returncode == 0

    site.cluster.stop_controller()
    driver = site.started(INGEST)
    until = time.monotonic() + 200
    while "Provided remote nodes" not in site.driver_said() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(15)  # both submissions meet nobody
    site.cluster.start_controller()
    site.wait_for_job(lambda _, state, __: state == "RUNNING", seconds=120)
    site.cluster.stop_controller()
    time.sleep(AWAY_SECONDS)
    assert driver.poll() is None
    site.cluster.start_controller()

    assert driver.wait(timeout=400) == 0, site.driver_said()
    assert [state for state, _ in site.jobs().values()] == ["COMPLETED", "COMPLETED"]
    assert site.typed("cvdm verify").returncode == 0
    assert site.is_as_undisturbed("pair") and site.is_as_undisturbed("more")
