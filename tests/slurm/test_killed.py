"""Jobs that SLURM ends: each is done again from where it was, and the index says of which class it was, and what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from site_tree import Site, acquired

from cvdm_core.config import load
from cvdm_core.records.failures import failure_path
from cvdm_core.records.receipts import read_json
from cvdm_core.workload import training_megapixels

pytestmark = pytest.mark.slow

SOON = " --slurm-init-seconds-before-status-checks 4"
STEPS = 150
STEP_SECONDS = 0.5  # so that all steps take more than a minute, on any machine
INGEST = "snakemake --profile slurm ingest_all" + SOON


def hold_memory(site: Site) -> None:
    """Let ingest hold more memory than it is given, for longer than SLURM takes to look (a second)."""
    stage = site.folder / "cvdm_core/acquisitions/ingest.py"
    written = "        receipt.read = {"
    held = '        held = b"x" * 300_000_000\n        __import__("time").sleep(5)\n        assert held\n'
    assert stage.read_text().count(written) == 1
    stage.write_text(stage.read_text().replace(written, held + written))


def index(site: Site) -> str:
    return re.sub(r"<[^>]*>", " ", (site.folder / "results/index.html").read_text())


def test_too_little_memory_is_named_and_the_next_attempt_has_more(site: Site) -> None:
    acquired(site, pair="train")
    hold_memory(site)
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
    hold_memory(site)
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
    site.wait_for_job(lambda _, state, __: state == "RUNNING")
    site.cluster.said("sbatch", "--partition=cpu", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 5")
    site.wait_for_job(lambda _, state, __: state == "PREEMPTED")

    assert driver.wait(timeout=400) == 0, site.driver_said()
    assert [state for _, (state, _) in sorted(site.jobs().items())] == ["PREEMPTED", "COMPLETED"]
    assert re.search(r"ingest of pair: preempted .*; done", index(site)), index(site)
    assert site.typed("cvdm verify").returncode == 0
    assert site.is_as_undisturbed("pair")


@pytest.fixture
def failing_prolog(site: Site) -> Iterator[Site]:
    """A site whose node cannot prepare itself for the next job, and can for those after it."""
    prolog, file = site.cluster.folder / "prolog", site.cluster.folder / "etc/slurm.conf"
    prolog.write_text(f"#!/bin/sh\n[ -e {prolog}.failed ] || {{ touch {prolog}.failed; exit 1; }}\n")
    prolog.chmod(0o755)
    before = file.read_text()

    def reconfigure(text: str) -> None:
        file.write_text(text)
        site.cluster.said("scontrol", "reconfigure")

    reconfigure(f"{before}Prolog={prolog}\n")
    yield site
    reconfigure(before)


def test_a_job_that_slurm_holds_because_its_node_failed_is_sent_anew(failing_prolog: Site) -> None:
    site = failing_prolog
    acquired(site, pair="train")
    driver = site.started(INGEST)
    site.wait_for_job(lambda _, state, __: state == "CANCELLED", seconds=120)
    # SLURM takes no more jobs to such a node before a person has looked at it.
    site.cluster.said("scontrol", "update", "NodeName=n1", "State=RESUME")

    assert driver.wait(timeout=400) == 0, site.driver_said()
    assert [state for _, (state, _) in sorted(site.jobs().items())] == ["CANCELLED", "COMPLETED"]
    assert re.search(r"ingest of pair: node .*; done", index(site)), index(site)
    (history,) = (site.folder / "logs/cluster").glob("*.jsonl")
    assert '"Reason": "launch failed requeued held"' in history.read_text()


def test_a_submission_that_slurm_refuses_is_a_failure_of_the_class_configuration(site: Site) -> None:
    acquired(site, pair="train")
    done = site.typed(INGEST + " --default-resources slurm_partition=nosuch")
    assert done.returncode != 0
    note = read_json(failure_path(site.folder / "results", "ingest", "pair"))
    assert note["class"] == "configuration" and "partition" in note["message"], note


def test_a_training_that_meets_its_time_limit_saves_its_state_and_goes_on_in_the_next_attempt(site: Site) -> None:
    site.facility.configure(training={"steps": STEPS, "save_every": 10 * STEPS, "validate_every": STEPS})
    acquired(site, pair="train", checked="val")
    watch = site.folder / "cvdm_core/training/watch.py"
    finished = "        module.finish_step()\n"
    assert finished in watch.read_text()
    watch.write_text(watch.read_text().replace(finished, f"{finished}        time.sleep({STEP_SECONDS})\n"))
    rule = site.folder / "workflow/rules/train.smk"
    rule.write_text(re.sub(r"runtime=.*", "runtime=lambda wildcards, attempt: [0, 1, 20, 20][attempt],", rule.read_text()))

    done = site.typed("snakemake --profile slurm train_only --set-resources train:gpu=0 --set-threads train=2" + SOON, timeout=800)

    assert done.returncode == 0, done.stdout + done.stderr
    said = index(site)
    assert re.search(r"train of tiny: time with \d+ MB, 1 min, job \d+; done with \d+ MB, 20 min, job \d+", said), said
    receipt = read_json(site.folder / "models/tiny/train.json")
    whole = training_megapixels(load([site.folder / "config/config.yaml"]))
    assert 0 < receipt["usage"]["megapixels"] < whole, "the second attempt took only the steps that were left"
    curves = (site.folder / "models/tiny/curves.csv").read_text()
    assert f"\n{STEPS}," in curves


def test_a_full_disk_is_named_and_once_there_is_space_the_same_command_goes_on(site: Site) -> None:
    acquired(site, pair="train", more="val")
    results = site.folder / "results"
    (results / "pair").mkdir(parents=True)
    # A disk of 16 KiB for one acquisition's results; mounted where the jobs run.
    site.cluster.said("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(results / "pair"))
    # Snakemake removes empty folders, and would stumble over a mounted one.
    site.cluster.said("bash", "-c", f"echo kept > {results}/pair/kept")

    done = site.typed(INGEST + " --retries 0")

    assert done.returncode != 0
    assert (results / "more/ingest.json").exists(), "the night went on for the others"
    note = read_json(failure_path(results, "ingest", "pair"))
    assert note["class"] == "disk" and "no space left" in note["message"], note
    assert "ingest: disk" in index(site)

    site.cluster.said("mount", "-o", "remount,size=64m", str(results / "pair"))
    assert site.typed(INGEST).returncode == 0
    assert not failure_path(results, "ingest", "pair").exists()
    # The disk is seen on the cluster's node only.
    assert '"subject": "pair"' in site.cluster.said("cat", str(results / "pair/ingest.json"))
    assert site.typed("cvdm verify").returncode == 0
    site.cluster.said("umount", str(results / "pair"))


def test_a_full_tmpdir_costs_nothing(site: Site) -> None:
    acquired(site, pair="train", checked="val")
    scratch = site.folder / "scratch"
    scratch.mkdir()
    site.cluster.said("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(scratch))
    site.cluster.said("bash", "-c", f"! dd if=/dev/zero of={scratch}/full bs=1k")

    done = site.typed(f"env TMPDIR={scratch} snakemake --profile slurm train_only --set-resources train:gpu=0 --set-threads train=2" + SOON)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for state, _ in site.jobs().values()] == ["COMPLETED"] * 3
    assert site.cluster.said("ls", str(scratch)).split() == ["full"]
    site.cluster.said("umount", str(scratch))


def test_training_asks_for_the_gpu_that_the_profile_names_and_says_so_if_it_is_not_there(site: Site) -> None:
    acquired(site, pair="train", checked="val")

    # The cluster's GPU is only pretended: SLURM gives it, and torch finds none.
    done = site.typed("snakemake --profile slurm train_only --retries 0 --set-threads train=2 --until train" + SOON, timeout=800)

    assert done.returncode != 0
    training = site.wait_for_job(lambda _, __, comment: comment.startswith("rule_train"))
    assert re.search(r"TresPerJob=gres[:/]gpu:1\b", site.cluster.said("scontrol", "show", "job", str(training)))
    note = read_json(failure_path(site.folder / "results", "train", "tiny"))
    assert note["class"] == "node" and "given 1 GPUs" in note["message"], note
    assert "Traceback" not in (site.folder / "logs/models/tiny/train.log").read_text()


def test_a_file_that_the_driver_sees_late_is_waited_for(site: Site) -> None:
    acquired(site, pair="train")
    # As over NFS: the driver, in a mount namespace of its own, sees an empty folder where the job has written, until a file is there.
    (site.folder / "results/pair").mkdir(parents=True)
    (site.folder / "results/pair/kept").touch()  # an empty folder would be removed, and with it the mount
    (site.folder / "late.sh").write_text(
        "set -e\nmount -t tmpfs tmpfs results/pair\n(until [ -e shown ]; do sleep 0.2; done; umount --lazy results/pair) &\n"
        + f"exec {INGEST}\n"
    )
    driver = site.started("unshare --mount bash late.sh")
    site.wait_for_job(lambda _, state, __: state == "COMPLETED", seconds=120)
    until = time.monotonic() + 60
    while "Waiting at most" not in site.driver_said() and time.monotonic() < until:
        time.sleep(0.5)
    time.sleep(10)
    assert driver.poll() is None
    (site.folder / "shown").touch()

    assert driver.wait(timeout=200) == 0, site.driver_said()
    assert [state for state, _ in site.jobs().values()] == ["COMPLETED"], "what was only late is not done again"
