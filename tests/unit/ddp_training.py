"""Train on two processes of this machine, as on two GPUs of a node: python ddp_training.py TREE MODELS WHY STEP.

WHY is "time", "SIGTERM" or "nothing": after so many steps the second process, and it alone, is out of time or told to end. Lightning starts
the second process with this very command line. The accelerator is the only thing that is not as on a cluster.
"""

import os
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from training_tree import tiny_config

from cvdm_core.training import fit as fit_module
from cvdm_core.training import watch as watch_module

TRAINING = {"steps": 10, "batch": 2, "validate_every": 5, "save_every": 100}


class Troubled:
    """A time limit that is asked once after each step."""

    def __init__(self, why: str, step: int) -> None:
        self.why, self.left = why, step

    def comes_within(self, needed: float = 0.0) -> bool:
        self.left -= 1
        now = self.left == 0 and os.environ.get("LOCAL_RANK") == "1"
        if now and self.why == "SIGTERM":
            signal.raise_signal(signal.SIGTERM)
        return now and self.why == "time"


def on_two_processes(*given, **settings):
    return real_trainer(*given, **{**settings, "accelerator": "cpu", "devices": 2, "strategy": "ddp"})


if __name__ == "__main__":
    tree, models, why, step = sys.argv[1:]
    torch.set_num_threads(1)
    real_trainer, pl.Trainer = pl.Trainer, on_two_processes
    fit_module.Deadline.of_this_job = classmethod(lambda cls: Troubled(why, int(step)))
    watch_module.draw_validation = lambda *_: None
    fit_module.train(tiny_config(Path(tree), training=TRAINING).model_copy(update={"models": models}))
