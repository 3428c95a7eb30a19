"""SIGKILL in the middle of `cvdm train`, then the same command again: the same model, bit for bit."""

import multiprocessing
import os
import random
import signal
import threading

import pytest
import yaml
from training_tree import make_tree

from cvdm_core.training.state import load_state
from cvdm_core.training.watch import STATE_FILE

STEPS = 80
RESULTS = ("weights.safetensors", "last.safetensors", "model.yaml", "curves.csv", "schedule.csv", "card.md", "validation/step_0000080.png")
# Forks of a process that has imported everything: each as new as a started one, without eight CPU-seconds of imports.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["cvdm_core.cli", "cvdm_core.training.fit"])


def train(command_file, kill_at, seconds):
    """Be `cvdm train`; with `kill_at` die of SIGKILL so many seconds after that step was taken, wherever that is."""
    import sys

    import torch

    from cvdm_core.cli import main
    from cvdm_core.training.watch import Watch

    torch.set_num_threads(1)
    watched = Watch.on_train_batch_end

    def doomed(self, trainer, module, *rest):
        watched(self, trainer, module, *rest)
        if module.step == kill_at:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    Watch.on_train_batch_end = doomed
    sys.argv = ["cvdm", "train", "--config", command_file, "--threads", "1"]
    main()


class Training:
    """One `cvdm train` in a process of its own, with the data of a shared folder and its own folder of models."""

    def __init__(self, config, models):
        self.models = models
        self.command_file = models.with_suffix(".yaml")
        settings = config.model_dump(mode="json")
        settings["training"] |= {"steps": STEPS, "save_every": 7, "validate_every": 40}
        self.command_file.write_text(yaml.safe_dump({**settings, "models": str(models)}))

    def run(self, kill_at=0, seconds=0.0):
        process = FORKS.Process(target=train, args=(str(self.command_file), kill_at, seconds))
        process.start()
        process.join()
        return process.exitcode

    def finish(self):
        assert self.run() == 0
        return {name: (self.models / "tiny" / name).read_bytes() for name in RESULTS}

    def saved_step(self):
        states = list(self.models.glob(f".state/*/{STATE_FILE}"))
        state = load_state(states[0]) if states else None
        return state.step if state else 0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("kill"))


def test_killed_at_random_steps_the_training_ends_with_the_same_model(config, tmp_path):
    chance = random.Random(os.urandom(8))
    killed = Training(config, tmp_path / "killed")
    for step, saved in ((8, 7), (36, 35)):
        seconds = chance.uniform(0, 0.3)
        assert killed.run(step, seconds) == -signal.SIGKILL, f"the training had ended {seconds} s after step {step}"
        assert saved <= killed.saved_step() < STEPS, f"killed {seconds} s after step {step}"
        assert not (killed.models / "tiny").exists(), "a killed training leaves no model folder"
    assert killed.finish() == Training(config, tmp_path / "undisturbed").finish()
