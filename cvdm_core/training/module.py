"""One training step, as a Lightning module: the loss, Adam, the learning rate, the moving average of weights.

All randomness of a step derives from (seed, step, rank), so a training that goes on from a saved state takes the same steps.
"""

from __future__ import annotations

import hashlib
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from cvdm_core.config import TrainingSettings
from cvdm_core.model import Restorer
from cvdm_core.training.crops import CropPlaces, CropReader, TrainingBatches
from cvdm_core.training.state import Tensors, TrainingState

BETAS = (0.9, 0.99)


class TrainingModule(pl.LightningModule):  # type: ignore[misc]  # Lightning is not typed strictly
    """The model in training.

    Parameters
    ----------
    restorer : Restorer
        With its first weights.
    settings : TrainingSettings
    places, reader
        Where training crops lie, and what reads them.
    state : TrainingState
        Where to go on; a fresh one to begin.
    """

    def __init__(
        self, restorer: Restorer, settings: TrainingSettings, places: CropPlaces, reader: CropReader, state: TrainingState
    ) -> None:
        super().__init__()
        if state.weights:
            restorer.load_state_dict(state.weights)
        self.restorer = restorer
        self.settings = settings
        self.step = state.step
        weights = restorer.state_dict()
        self.average: Tensors = {name: _laid_out_like(value, state.average.get(name, value)) for name, value in weights.items()}
        self.losses: Tensors = state.running
        self._moments = state.moments
        self._places = places
        self._reader = reader

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the steps that are left."""
        batches = TrainingBatches(self._places, self._reader, self.settings.batch, self.global_rank, self.trainer.world_size)
        return DataLoader(
            batches,
            batch_size=None,
            sampler=range(self.step, self.settings.steps),
            num_workers=self.settings.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam, with its moments where the state has them."""
        optimiser = torch.optim.Adam(self.restorer.parameters(), lr=self.settings.learning_rate, betas=BETAS)
        if self._moments:
            content = optimiser.state_dict()
            parameters = list(self.restorer.parameters())
            for key, value in self._moments.items():
                number, name = key.split(".", 1)
                moment = _laid_out_like(parameters[int(number)], value) if value.ndim else value
                content["state"].setdefault(int(number), {})[name] = moment
            optimiser.load_state_dict(content)
        return optimiser

    def on_fit_start(self) -> None:
        """Move what Lightning does not know of to the device of the weights."""
        self.average = {name: value.to(self.device) for name, value in self.average.items()}
        self.losses = {name: value.to(self.device) for name, value in self.losses.items()}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = learning_rate(self.settings, self.step)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch of conditions and targets, (B, 1, H, W)."""
        generator = torch.Generator(self.device).manual_seed(step_seed(self.settings.seed, self.step, self.global_rank))
        parts = self.restorer.loss(batch[0], batch[1], generator)
        for name, value in parts.items():
            detached = value.detach().float()
            self.losses[name] = self.losses[name] + detached if name in self.losses else detached
        return parts["loss"]

    @torch.no_grad()
    def finish_step(self) -> None:
        """Count the step and draw the moving average after the weights.

        The decay rises from 0.1 with the steps ((1 + s) / (10 + s)), so that the average forgets the random start.
        """
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        weights = self.restorer.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [weights[name] for name in self.average], 1 - decay)
        self.step += 1

    def is_finite(self) -> bool:
        """Whether the weights, and the losses of this process since the last point of the curves, are numbers."""
        return bool(self.losses["loss"].isfinite()) and self.restorer.is_finite()

    def moments(self) -> Tensors:
        """Return Adam's state as flat tensors, see `TrainingState.moments`."""
        stored: dict[int, dict[str, torch.Tensor]] = self.trainer.optimizers[0].state_dict()["state"]
        return {f"{number}.{name}": value for number, values in stored.items() for name, value in values.items()}


def _laid_out_like(weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return a copy of the value with its channels in memory as the weight has them.

    A file does not keep that order, and arithmetic that mixes two orders is slower and need not round alike.
    """
    return torch.empty_like(weight, requires_grad=False).copy_(value)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Return the learning rate of a step (counted from 0): linear warm-up, constant, then linear to zero over the last half."""
    rise = (step + 1) / settings.warmup_steps if settings.warmup_steps else 1.0
    fall = (settings.steps - step) / max(settings.steps / 2, 1)
    return settings.learning_rate * min(1.0, rise, fall)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of times and noise of one step in one process.

    A hash, because torch's generator on a CPU looks at the low 32 bits of its seed only.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=7).digest(), "big")
