"""SIGKILL in the middle of `cvdm train`, then the same command again: the same model, bit for bit."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from training_tree import make_tree

from cvdm_core.training.state import load_state
from cvdm_core.training.watch import STATE_FILE

STEPS = 80
RESULTS = ("weights.safetensors", "last.safetensors", "model.yaml", "curves.csv", "schedule.csv", "card.md", "validation/step_0000080.png")


class Training:
    """One `cvdm train` in a process of its own, with the data of a shared folder and its own folder of models."""

    def __init__(self, config, models):
        self.models = models
        self.command_file = models.with_suffix(".yaml")
        settings = config.model_dump(mode="json")
        settings["training"] |= {"steps": STEPS, "save_every": 7, "validate_every": 40}
        self.command_file.write_text(yaml.safe_dump({**settings, "models": str(models)}))

    def start(self):
        command = [sys.executable, "-c", "from cvdm_core.cli import main; main()", "train", "--config", str(self.command_file)]
        return subprocess.Popen([*command, "--threads", "1"], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)

    def finish(self):
        process = self.start()
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        return {name: (self.models / "tiny" / name).read_bytes() for name in RESULTS}

    def saved_step(self):
        states = list(self.models.glob(f".state/*/{STATE_FILE}"))
        state = load_state(states[0]) if states else None
        return state.step if state else 0

    def kill_after(self, step, more_seconds):
        process = self.start()
        while process.poll() is None and self.saved_step() < step:
            time.sleep(0.05)
        time.sleep(more_seconds)
        process.kill()
        process.communicate()
        return process.returncode


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("kill"))


def test_killed_at_random_steps_the_training_ends_with_the_same_model(config, tmp_path):
    chance = random.Random(os.urandom(8))
    killed = Training(config, tmp_path / "killed")
    for first_step in (1, 30):
        more_seconds = chance.uniform(0, 0.3)
        assert killed.kill_after(first_step, more_seconds) == -9, "the training had ended before it was killed"
        reached = killed.saved_step()
        assert first_step <= reached < STEPS, f"killed {more_seconds} s after step {first_step}"
        assert not (killed.models / "tiny").exists(), "a killed training leaves no model folder"
    assert killed.finish() == Training(config, tmp_path / "undisturbed").finish()
