"""A driver on one machine that is killed leaves its stages running: the next driver ends them, and nothing is done twice at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter

import pytest
from facility import BIN, NO_SLURM, ROOT, Facility

from cvdm_core.records.receipts import read_json
from cvdm_core.records.running import Running, announcements

pytestmark = pytest.mark.slow  # the ending itself is in tests/unit/test_killed_jobs.py

STEPS = 100


def training(facility: Facility) -> Running:
    """Return who trains, as soon as some steps are saved."""
    until = time.monotonic() + 600
    while not list((facility.folder / "models/.state").glob("*/state.safetensors")):
        assert time.monotonic() < until
        time.sleep(0.1)
    (who,) = announcements(facility.folder / "results").values()
    return who


def test_what_a_killed_driver_left_running_is_ended_before_the_next_one_goes_on_from_there(facility: Facility) -> None:
    facility.configure(training={"steps": STEPS, "validate_every": STEPS})
    facility.acquire("pair", "train")
    facility.acquire("checked", "val")
    assert facility.run("cvdm", "register").returncode == 0
    command = [BIN / "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--profile", f"{ROOT}/profiles/local", "train_only"]
    environment = {**os.environ, "PATH": f"{NO_SLURM}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    with open(facility.folder / "first.log", "wb") as log:
        first = subprocess.Popen(command, cwd=facility.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    left = training(facility)
    os.kill(left.pid, signal.SIGSTOP)  # so that it is not done before the next driver comes, on any machine
    first.kill()
    first.wait()
    assert left.lives_here, "it goes on without its driver"

    by_hand = facility.run("cvdm", "train")

    assert by_hand.returncode == 2 and f"process {left.pid} on " in by_hand.stderr and "is at this work since" in by_hand.stderr
    assert left.lives_here

    second = facility.snakemake("train_only")

    said = second.stdout + second.stderr
    assert second.returncode == 0, said
    assert f"they are ended: train of tiny (process {left.pid}, since {left.started})" in said
    assert not left.lives_here and not announcements(facility.folder / "results")
    # It went on from there, and no point of the curves stands twice.
    whole = STEPS * 2 * 32**2 / 1e6
    assert 0 < read_json(facility.folder / "models/tiny/train.json")["usage"]["megapixels"] < whole
    lines = (facility.folder / "models/tiny/curves.csv").read_text().splitlines()
    points = Counter(line.rpartition(",")[0] for line in lines)
    assert max(points.values()) == 1 and any(line.startswith(f"{STEPS},") for line in lines)
    assert not list((facility.folder / "results/.failures").glob("*.json"))
