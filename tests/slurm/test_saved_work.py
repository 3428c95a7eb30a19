"""What a job has done is kept when SLURM ends it or warns it: shards of a sampling, steps of a training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from site_tree import Site, acquired

from cvdm_core.records.receipts import read_json

pytestmark = pytest.mark.slow

SOON = " --slurm-init-seconds-before-status-checks 4"
WITHOUT_GPUS = "snakemake --profile slurm --set-resources train:gpu=0 sample:gpu=0 --set-threads train=2 sample=1" + SOON
SHARDS, SHARD_SECONDS = 16, 8  # together more than two minutes, on any machine
STEPS, STEP_SECONDS = 60, 0.5


def change(site: Site, file: str, old: str, new: str) -> None:
    """Change a line of the copy's own code."""
    path = site.folder / file
    text = path.read_text()
    assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


def index(site: Site) -> str:
    return re.sub(r"<[^>]*>", " ", (site.folder / "results/index.html").read_text())


def test_a_sampling_that_meets_its_time_limit_goes_on_from_the_last_finished_shard(site: Site) -> None:
    site.facility.configure(store={"chunk": 32, "shard": 32}, sampling={"shards_per_job": SHARDS})
    acquired(site, pair="train", checked="val", new="predict")
    trained = site.typed("snakemake --profile profiles/local train_only")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    begun = "            shard_begin = time.perf_counter()\n"
    change(site, "cvdm_core/restoration/sample.py", begun, f"{begun}            time.sleep({SHARD_SECONDS})\n")
    runtime = "runtime=per_attempt(minutes_for_block),"
    change(site, "workflow/rules/restore.smk", runtime, "runtime=lambda wildcards, attempt: [0, 1, 20, 20][attempt],")

    done = site.typed(WITHOUT_GPUS, timeout=800)

    assert done.returncode == 0, done.stdout + done.stderr
    said = index(site)
    assert re.search(r"sample of new_tiny_0000: time with \d+ MB, 1 min, job \d+; done with \d+ MB, 20 min, job \d+", said), said
    states = [state for _, (state, comment) in sorted(site.jobs().items()) if comment.startswith("rule_sample")]
    assert states == ["FAILED", "COMPLETED"], "it ended itself before SLURM did"
    details = read_json(site.folder / "results/new/tiny/blocks/0000.json")["details"]
    assert 0 < details["shards_computed"] < SHARDS, "the second attempt did only what was left"
    assert len(details["shards"]) == SHARDS

    # The same once more, undisturbed and without haste.
    change(site, "cvdm_core/restoration/sample.py", f"            time.sleep({SHARD_SECONDS})\n", "")
    for stage in ("ingest", "sample --block 0", "stitch"):
        again = site.typed(f"cvdm {stage} --acquisition new --set results=undisturbed")
        assert again.returncode == 0, again.stderr
    stores = [
        {Path(path).name: sums for path, sums in read_json(site.folder / place / "new/tiny/stitch.json")["wrote"].items()}
        for place in ("results", "undisturbed")
    ]
    assert stores[0] == stores[1] and stores[0]


def warn(signal: str) -> Callable[[Site, int], None]:
    """Return what sends a signal to all steps of a job, as sites do before they end it."""

    def send(site: Site, job: int) -> None:
        site.cluster.said("scancel", f"--signal={signal}", str(job))

    send.__name__ = signal
    return send


def cancel(site: Site, job: int) -> None:
    site.cluster.said("scancel", str(job))


def preempt(site: Site, job: int) -> None:
    site.cluster.said("sbatch", "--partition=cpu", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=sleep 5")
    site.wait_for_job(lambda number, state, __: number == job and state != "RUNNING")


# With cgroups SLURM signals a step's first process only, and does so on most clusters.
@pytest.mark.parametrize("kind", ["site", "cgroup_site"])
@pytest.mark.parametrize("disturb", [warn("TERM"), warn("USR1"), cancel, preempt], ids=lambda value: value.__name__)
def test_a_training_that_is_told_to_end_loses_no_step(
    request: pytest.FixtureRequest, kind: str, disturb: Callable[[Site, int], None]
) -> None:
    site: Site = request.getfixturevalue(kind)
    site.facility.configure(training={"steps": STEPS, "save_every": 10 * STEPS, "validate_every": STEPS})
    acquired(site, pair="train", checked="val")
    ingested = site.typed("snakemake --profile profiles/local ingest_all")
    assert ingested.returncode == 0, ingested.stdout + ingested.stderr
    finished = "        module.finish_step()\n"
    written = (
        f"        with open('steps', 'a') as stream:\n            print(module.step, file=stream)\n        time.sleep({STEP_SECONDS})\n"
    )
    change(site, "cvdm_core/training/watch.py", finished, finished + written)
    partition = " --default-resources slurm_partition=preempt" if disturb is preempt else ""

    driver = site.started(f"{WITHOUT_GPUS} train_only{partition}")
    job = site.wait_for_job(lambda _, state, __: state == "RUNNING", seconds=120)
    site.wait_for_lines("steps", 10)
    disturb(site, job)

    assert driver.wait(timeout=600) == 0, site.driver_said()
    # Every step was taken, and none was taken again.
    assert [int(step) for step in (site.folder / "steps").read_text().split()] == list(range(1, STEPS + 1))
    receipt = read_json(site.folder / "models/tiny/train.json")
    assert receipt["usage"]["megapixels"] > 0
    assert len(site.jobs()) == (1 if disturb is preempt else 2)
    named = {"TERM": "cancelled", "USR1": "time", "cancel": "cancelled"}.get(disturb.__name__)
    assert named is None or re.search(rf"train of tiny: {named} with \d+ MB, \d+ min, job \d+; done with", index(site)), index(site)
