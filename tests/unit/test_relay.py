"""Signals that come to the first process of a step alone come to what runs below it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RELAY = (sys.executable, "-m", "cvdm_core.cluster.relay")
STAGE = """
import signal, sys, time
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("USR1"))
signal.signal(signal.SIGTERM, lambda *_: heard.append("TERM"))
open(sys.argv[1], "w").close()
until = time.monotonic() + 20
while len(heard) < int(sys.argv[2]) and time.monotonic() < until:
    time.sleep(0.01)
print(*heard)
"""


@pytest.fixture
def relayed(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(expected: int) -> subprocess.Popen[str]:
        # As in a job: the relay, what stands for Snakemake (it does not listen itself), and the stage.
        script = tmp_path / "stage.py"
        script.write_text(STAGE)
        middle = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
        command = [*RELAY, sys.executable, "-c", middle, str(script), str(tmp_path / "ready"), str(expected)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        return process

    return start


def test_a_warning_comes_to_the_stage_and_ends_nobody_who_does_not_listen(relayed: Callable[..., subprocess.Popen[str]]) -> None:
    process = relayed(2)
    for _ in range(2):
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
    assert process.communicate(timeout=30)[0].split() == ["USR1", "USR1"]
    assert process.returncode == 0


def test_sigterm_comes_to_the_stage(relayed: Callable[..., subprocess.Popen[str]]) -> None:
    process = relayed(1)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].split() == ["TERM"]


def test_it_stays_until_the_stage_has_saved_what_it_has_though_those_between_have_ended(tmp_path: Path) -> None:
    stage = f"trap 'sleep 1; touch {tmp_path}/saved; exit' TERM; touch {tmp_path}/ready; while true; do sleep 0.1; done"
    process = subprocess.Popen([*RELAY, "bash", "-c", 'bash -c "$1" & wait', "bash", stage])
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("command, status", [("exit 3", 3), ("kill -KILL $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM)])
def test_it_ends_as_the_command_ends(command: str, status: int) -> None:
    assert subprocess.run([*RELAY, "bash", "-c", command], check=False, timeout=30).returncode == status


def test_the_command_reads_what_the_relay_is_given() -> None:
    # The plugin can hand its script over this way (`sh -s`).
    done = subprocess.run([*RELAY, "sh", "-s"], input="echo heard; exit 5", capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.returncode) == ("heard\n", 5)
