"""A cluster that keeps accounts: the same command, whether its database is up or not."""

from __future__ import annotations

import time

import pytest
from site_tree import Site

pytestmark = pytest.mark.slow

INGEST = "snakemake --profile slurm --slurm-init-seconds-before-status-checks 4 ingest_all --default-resources slurm_account=lab"


@pytest.mark.parametrize("status", ["squeue", "sacct"])
def test_a_restart_of_the_database_in_the_night_is_waited_out(accounting_site: Site, status: str) -> None:
    site = accounting_site
    site.facility.acquire("pair", "train")
    assert site.typed("cvdm register").returncode == 0
    driver = site.started(f"{INGEST} --slurm-status-command {status}")
    site.wait_for_job(lambda _, state, __: state == "RUNNING", seconds=120)
    site.cluster.stop_accounting()
    time.sleep(20)
    site.cluster.start_accounting()

    assert driver.wait(timeout=300) == 0, site.driver_said()
    assert [state for state, _ in site.jobs().values()] == ["COMPLETED"]


def test_a_job_that_squeue_has_forgotten_is_known_from_accounting(accounting_site: Site) -> None:
    site = accounting_site
    (site.folder / "logs").mkdir()
    job = site.cluster.said("sbatch", "--parsable", "--job-name=night", "--chdir=/", "--output=/dev/null", "--wrap=sleep 60").strip()
    site.cluster.said("scancel", job)
    while site.cluster.said("sacct", "-X", "-n", "-P", "-o", "State", "-j", job).strip() != "CANCELLED by 0":
        time.sleep(0.5)
    ask = f"from cvdm_core.cluster.status import accounted; print(accounted([{job}]))"
    (site.folder / "ask.py").write_text(ask)
    assert site.typed("python ask.py").stdout.strip() == f"{{{job}: 'CANCELLED'}}"
