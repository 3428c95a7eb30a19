"""Training on several devices of one node: each takes its own crops, and a job that was cut off goes on with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ddp_training import TRAINING
from training_tree import make_tree, tiny_config

from cvdm_core.config import Config
from cvdm_core.training.problem import prepare
from cvdm_core.training.state import TrainingState, load_state
from cvdm_core.training.watch import STATE_FILE

# Ten starts of Python with torch and Lightning: a minute of CPU time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SCRIPT = Path(__file__).with_name("ddp_training.py")


def trained(tree: Path, models: Path, why: str = "nothing", step: int = 0) -> subprocess.CompletedProcess[str]:
    """Train on two processes, of which the second is out of time, or told to end, after so many steps, or reads an absurd pixel."""
    path = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[2])])
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(tree), str(models), why, str(step)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def state_of(tree: Path, models: Path) -> TrainingState:
    config: Config = tiny_config(tree, training=TRAINING).model_copy(update={"models": str(models)})
    state = load_state(prepare(config).state_folder / STATE_FILE)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("ddp")
    make_tree(folder)
    return folder


def test_two_processes_train_one_model_and_go_on_with_the_same_bits_after_one_of_them_was_stopped(tree: Path, tmp_path: Path) -> None:
    undisturbed, cut_off = tmp_path / "undisturbed", tmp_path / "cut-off"

    done = trained(tree, undisturbed)
    assert done.returncode == 0, done.stderr
    late = trained(tree, cut_off, "time", 3)
    assert late.returncode != 0 and "step 3 of 10 is saved" in late.stderr, late.stderr
    assert state_of(tree, cut_off).step == 3
    # The signal is seen after the next step, as the flag is read before the time.
    told = trained(tree, cut_off, "SIGTERM", 3)
    assert told.returncode == 143, told.stderr
    assert state_of(tree, cut_off).step == 7
    again = trained(tree, cut_off)
    assert again.returncode == 0, again.stderr

    states = state_of(tree, undisturbed), state_of(tree, cut_off)
    assert [state.step for state in states] == [10, 10]
    for name in ("weights", "average", "moments"):
        ours, theirs = (getattr(state, name) for state in states)
        assert ours and ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items()), name
    assert states[0].rows == states[1].rows


def test_two_processes_stop_together_when_the_loss_of_one_is_no_number(tree: Path, tmp_path: Path) -> None:
    """The one that went on would wait for the other for ever."""
    spoilt = trained(tree, tmp_path, "pixel", 3)
    assert spoilt.returncode != 0 and spoilt.stderr.count("UserError: training tiny: the loss") == 2, spoilt.stderr
    assert not list(tmp_path.rglob(STATE_FILE))
