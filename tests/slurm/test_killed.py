"""Jobs that SLURM ends: each is done again from where it was, and the index says of which class it was, and what to do."""

from __future__ import annotations

import re

import pytest
from site_tree import Site

from cvdm_core.records.failures import failure_path
from cvdm_core.records.receipts import read_json

pytestmark = pytest.mark.slow

SOON = " --slurm-init-seconds-before-status-checks 4"
INGEST = "snakemake --profile slurm ingest_all" + SOON


def acquired(site: Site, **splits: str) -> None:
    for name, split in splits.items():
        site.facility.acquire(name, split)
    assert site.typed("cvdm register").returncode == 0


def index(site: Site) -> str:
    return re.sub(r"<[^>]*>", " ", (site.folder / "results/index.html").read_text())


def test_too_little_memory_is_named_and_the_next_attempt_has_more(site: Site) -> None:
    acquired(site, pair="train")
    # 260 MB hold the two processes of Snakemake, and not the stage as well.
    rule = site.folder / "workflow/rules/ingest.smk"
    text = rule.read_text()
    assert "mem_mb=" in text
    rule.write_text(re.sub(r"mem_mb=.*", "mem_mb=lambda wildcards, attempt: [0, 260, 3000, 3000][attempt],", text))

    done = site.typed(INGEST)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for _, (state, _) in sorted(site.jobs().items())][-1] == "COMPLETED"
    said = index(site)
    assert "What went wrong and was done again" in said
    assert re.search(r"ingest of pair: memory with 260 MB, 5 min, job \d+; done with 3000 MB, \d+ min, job \d+", said), said
    assert not failure_path(site.folder / "results", "ingest", "pair").exists()


def test_memory_that_never_suffices_is_a_failure_of_the_class_memory(site: Site) -> None:
    acquired(site, pair="train")
    rule = site.folder / "workflow/rules/ingest.smk"
    rule.write_text(re.sub(r"mem_mb=.*", "mem_mb=260,", rule.read_text()))

    done = site.typed(INGEST + " --retries 0")

    assert done.returncode != 0
    note = read_json(failure_path(site.folder / "results", "ingest", "pair"))
    assert note["class"] == "memory" and "260M" in note["message"], note
    assert "ingest: memory" in index(site)


def test_a_preempted_job_that_slurm_does_not_start_again_is_sent_anew(site: Site) -> None:
    acquired(site, pair="train")
    driver = site.started(INGEST + " --default-resources slurm_partition=scavenge")
    site.wait_for_job(lambda state, _: state == "RUNNING")
    site.cluster.said("sbatch", "--partition=cpu", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 5")
    site.wait_for_job(lambda state, _: state == "PREEMPTED")

    assert driver.wait(timeout=400) == 0, site.driver_said()
    assert [state for _, (state, _) in sorted(site.jobs().items())] == ["PREEMPTED", "COMPLETED"]
    assert re.search(r"ingest of pair: preempted .*; done", index(site)), index(site)
    assert site.typed("cvdm verify").returncode == 0


def test_a_submission_that_slurm_refuses_is_a_failure_of_the_class_configuration(site: Site) -> None:
    acquired(site, pair="train")
    done = site.typed(INGEST + " --default-resources slurm_partition=nosuch")
    assert done.returncode != 0
    note = read_json(failure_path(site.folder / "results", "ingest", "pair"))
    assert note["class"] == "configuration" and "partition" in note["message"], note
