"""Nights and their drivers that are killed, stopped, or do not listen. A script stands in for Snakemake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from night_tree import ORDER, STEPS, last

from cvdm_core.config import Config
from cvdm_core.lock import locked
from cvdm_core.nights import course as courses
from cvdm_core.nights import fitting, night
from cvdm_core.nights.driver import TIMED_OUT, Driver, Job
from cvdm_core.nights.night import run_night

PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what runs below nohup ignores it
from pathlib import Path
from cvdm_core.config import parse
from cvdm_core.nights import night, telling
from cvdm_core.nights.course import Order
step, deed = sys.argv[1:]
def do(course=None, *more):
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("there", flush=True)
    time.sleep(60)
for each in ("look", "plan", "run"):
    setattr(night, each, do if each == step else lambda course: None)
if step == "tell":
    telling.write_index = do
sys.exit(night.run_night(parse({"acquisitions": "a.tsv"}, "a test"), Order(Path("profile"), [])))
"""


def started(step: str, deed: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, step, deed]
    environment = {**os.environ, "PYTHONPATH": str(Path(courses.__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.mark.parametrize("step", ["look", "plan", "run", "tell"])
def test_a_night_that_is_killed_is_told_by_the_next_one(
    config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    process = started(step, "kill")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said
    for each in STEPS:
        monkeypatch.setattr(night, each, lambda course: None)
    assert run_night(config, ORDER) == 1
    doing = {"look": "look at the inbox", "plan": "plan", "run": "run the workflow", "tell": "write down what came of it"}[step]
    assert f"process {process.pid} on " in told[0][0] and f"was killed; it was about to {doing}" in told[0][0]
    assert run_night(config, ORDER) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_night_with_a_record(config: Config, number: signal.Signals) -> None:
    process = started("run", "wait")
    assert process.stdout and process.stdout.readline() == "there\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert f"It was ended ({number.name}) when it was about to run the workflow" in said and last(config).status == 1


@pytest.fixture
def program(config: Config, planned: list[Job], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a shell script stand in for Snakemake, with `$n` counting its starts from 1."""

    def put(script: str) -> None:
        counting = "echo >> starts; n=$(wc -l < starts); "
        monkeypatch.setattr(night, "snakemake", lambda profile, configs: ["sh", "-c", counting + script])

    return put


def test_a_killed_driver_is_started_again_and_the_night_says_so(
    config: Config, program: Callable[[str], None], told: list[tuple[str, bool]]
) -> None:
    program("[ $n -ge 3 ] || kill -KILL $$")

    assert run_night(config, ORDER) == 0

    assert len(Path("starts").read_text()) == 3
    assert len([remark for remark in last(config).remarks if "Snakemake was killed (signal 9)" in remark]) == 2


def test_a_driver_that_is_killed_each_time_is_not_started_for_ever(
    config: Config, program: Callable[[str], None], told: list[tuple[str, bool]]
) -> None:
    program("kill -KILL $$")

    assert run_night(config, ORDER) == 1

    assert len(Path("starts").read_text()) == night.STARTS
    assert any("Snakemake ended with status -9" in problem for problem in last(config).problems)


def test_what_a_dead_driver_left_is_ended_before_the_plan_and_a_living_one_is_not_disturbed(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(night.takeover, "end_what_was_left", lambda results, say: order.append("ended"))
    monkeypatch.setattr(fitting, "planned_jobs", lambda command: order.append("planned") or [])

    assert run_night(config, ORDER) == 0
    assert order == ["ended", "planned"]

    with locked(Path(".snakemake/driver"), "runs the workflow in this folder"):
        assert run_night(config, ORDER) == 2
    assert order == ["ended", "planned"]
    assert any("runs the workflow in this folder" in problem for problem in last(config).problems)


def test_a_driver_ends_at_its_time_and_where_it_does_not_listen_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvdm_core.nights.driver.CANCEL_S", 1)
    polite = Driver(
        [sys.executable, "-c", "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('cancelled')"], 2, tmp_path / "log"
    )
    assert polite.wait() == TIMED_OUT[0]
    assert (tmp_path / "log").read_text() == "cancelled\n"
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    begin = time.monotonic()
    assert Driver([sys.executable, "-c", deaf], 2, tmp_path / "deaf").wait() in (*TIMED_OUT, -signal.SIGKILL)
    assert time.monotonic() - begin < 15 and (tmp_path / "deaf").read_text() == "up\n"


def test_a_driver_hears_ctrl_c_even_where_cron_has_it_ignored(tmp_path: Path) -> None:
    program = "import time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('cancelled')"
    script = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from pathlib import Path
from cvdm_core.nights.driver import Driver
driver = Driver([sys.executable, "-c", {program!r}], 60, Path({str(tmp_path / "log")!r}))
while "up" not in Path({str(tmp_path / "log")!r}).read_text(): time.sleep(0.05)
driver.stop()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(courses.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    assert (tmp_path / "log").read_text().split() == ["up", "cancelled"]
