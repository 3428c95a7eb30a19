"""Where the kernel holds each job to its memory: what it kills is named, and the next attempt has more."""

from __future__ import annotations

import re

import pytest
from site_tree import Site

from cvdm_core.records.failures import failure_path

pytestmark = pytest.mark.slow


def test_a_job_that_the_kernel_kills_for_its_memory_is_of_the_class_memory_and_the_next_attempt_has_more(cgroup_site: Site) -> None:
    site = cgroup_site
    site.facility.acquire("pair", "train")
    assert site.typed("cvdm register").returncode == 0
    # 260 MB hold the two processes of Snakemake, and not the stage as well.
    rule = site.folder / "workflow/rules/ingest.smk"
    rule.write_text(re.sub(r"mem_mb=.*", "mem_mb=lambda wildcards, attempt: [0, 260, 3000, 3000][attempt],", rule.read_text()))

    done = site.typed("snakemake --profile slurm ingest_all --slurm-init-seconds-before-status-checks 4")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "oom-kill event" in site.cluster.said("cat", f"{site.cluster.folder}/log/slurmd.log")
    said = re.sub(r"<[^>]*>", " ", (site.folder / "results/index.html").read_text())
    assert re.search(r"ingest of pair: memory with 260 MB, 5 min, job \d+; done with 3000 MB, \d+ min, job \d+", said), said
    assert not failure_path(site.folder / "results", "ingest", "pair").exists()
    assert site.is_as_undisturbed("pair")
