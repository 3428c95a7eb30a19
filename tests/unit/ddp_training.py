"""Train on two processes of this machine, as on two GPUs of a node: python ddp_training.py TREE MODELS WHY STEP.

WHY is "time", "SIGTERM" or "nothing": after so many steps the second process, and it alone, is out of time or told to end. With "pixel" it,
and it alone, reads a pixel from then on that makes its loss infinite; a regression is trained, in which no weight shows that. Lightning
starts the second process with this very command line. The accelerator is the only thing that is not as on a cluster.
"""

import os
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from training_tree import tiny_config

from cvdm_core.training import fit as fit_module
from cvdm_core.training import module as module_module
from cvdm_core.training import watch as watch_module
from cvdm_core.training.crops import TrainingBatches

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


class Spoilt(TrainingBatches):
    """The batches of training, of which those of the second process have one pixel out of this world."""

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        condition, target = super().__getitem__(number)
        target[0, 0, 0, 0] = 1e25 if number >= int(step) and self._rank == 1 else target[0, 0, 0, 0]
        return condition, target


def on_two_processes(*given, **settings):
    return real_trainer(*given, **{**settings, "accelerator": "cpu", "devices": 2, "strategy": "ddp"})


if __name__ == "__main__":
    tree, models, why, step = sys.argv[1:]
    torch.set_num_threads(1)
    real_trainer, pl.Trainer = pl.Trainer, on_two_processes
    fit_module.Deadline.of_this_job = classmethod(lambda cls: Troubled(why, int(step)))
    watch_module.draw_validation = lambda *_: None
    module_module.TrainingBatches = Spoilt if why == "pixel" else TrainingBatches
    objective = "regression" if why == "pixel" else "diffusion"
    fit_module.train(tiny_config(Path(tree), training=TRAINING, model={"objective": objective}).model_copy(update={"models": models}))
