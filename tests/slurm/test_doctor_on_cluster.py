"""`cvdm doctor --profile slurm` on a real cluster, and where there is none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from facility import BIN, Facility
from site_tree import Site

DOCTOR = "cvdm doctor --profile slurm"


def edit(*replacements: tuple[str, str]) -> Callable[[Site], None]:
    """Return what writes other lines into the profile."""

    def write(site: Site) -> None:
        file = site.folder / "profiles/slurm/config.yaml"
        text = file.read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)

    return write


def examined(site: Site, change: Callable[[Site], None]) -> tuple[int, list[str]]:
    """Return the exit status and the lines of the doctor after a change of a profile that is right for this cluster."""
    fits = ("  train:\n    gpu: 1 ", "  train:\n    mem_mb: 3000\n    runtime: 60\n    cpus_per_task: 2\n    gpu: 1 ")
    edit(fits, ("  sample:\n", "  sample:\n    cpus_per_task: 1\n"))(site)
    change(site)
    for name, split in (("pair", "train"), ("checked", "val"), ("new", "predict")):
        site.facility.acquire(name, split, target=split != "predict")
    assert site.typed("cvdm register").returncode == 0
    done = site.typed(DOCTOR)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_right_profile_has_no_failure_and_every_rule_is_looked_at(site: Site) -> None:
    status, lines = examined(site, edit())
    assert status == 0, lines
    assert not [line for line in lines if line.startswith("fail")]
    for rule in ("ingest", "train", "sample", "finish"):
        assert any(line.startswith(f"ok    {rule}: ") for line in lines), lines
    assert not [line for line in lines if " all: " in line]
    assert "ok    train: 2 CPUs, 3000 MB, 60 min, 1 GPU in the partition cpu" in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit(("# SITE: slurm_partition: cpu ", "slurm_partition: nosuch ")), "there is no partition 'nosuch'; write one of closed, cpu"),
        (edit(("# SITE: slurm_partition: cpu ", "slurm_partition: closed ")), "the partition closed is not up"),
        (edit(("    gpu: 1 ", "    gpu_model: a100\n    gpu: 1 ")), "no node has 1 GPU a100"),
        (edit(("    runtime: 60\n", "    runtime: 2000\n")), "2000 min are more than the limit of 1440 min"),
        (edit(("    mem_mb: 3000\n", "    mem_mb: 999000\n")), "no node has 999000 MB of memory"),
        (edit(("    cpus_per_task: 2\n", "")), "no node has 8 CPUs"),  # as the rule itself asks
        (edit(("status-checks: 20", "status-checks: 70000")), "write `slurm-init-seconds-before-status-checks: 66666`"),
    ],
    ids=["partition", "closed", "gpu", "time", "memory", "cpus", "age"],
)
def test_what_the_cluster_would_not_grant_is_a_failure_that_says_what_to_change(
    site: Site, change: Callable[[Site], None], sentence: str
) -> None:
    status, lines = examined(site, change)
    assert status == 1
    assert [line for line in lines if line.startswith("fail") and sentence in line], lines


def test_on_a_machine_without_slurm_one_sentence_says_so(tmp_path: Path) -> None:
    facility = Facility(tmp_path / "facility")
    facility.configure()
    (facility.folder / "slurm").symlink_to(Path(__file__).parents[2] / "profiles/slurm")
    done = subprocess.run(
        [BIN / "cvdm", "doctor", "--profile", "slurm"],
        cwd=facility.folder,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cvdm: SLURM's sbatch, srun,") and "login node" in done.stderr
    assert "Traceback" not in done.stderr
