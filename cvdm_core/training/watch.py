"""What happens beside the steps: curves, validation, saving of the state, the progress bar. In the first process only.

The state is saved after the validation of the same step, with the curves so far in it: whoever goes on from it repeats what came after,
and nothing of it stands twice.
"""

from __future__ import annotations

import copy
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cvdm_core.cluster.clock import Deadline
from cvdm_core.errors import TimeUpError, UserError
from cvdm_core.model import Restorer
from cvdm_core.training.module import TrainingModule, learning_rate
from cvdm_core.training.pictures import draw_validation
from cvdm_core.training.state import Tensors, TrainingState, save_state, write_curves
from cvdm_core.training.validation import Validation

CURVE_EVERY = 10
"""Steps between points of the training curves; each is the mean over the steps since the last one."""
SAVE_SECONDS = 300.0
"""The state is saved at least this often, so that a job killed at its time limit, without a signal, loses five minutes at most."""
STATE_FILE = "state.safetensors"
EXIT_TERMINATED = 143


class Watch(pl.Callback):  # type: ignore[misc]  # Lightning is not typed strictly
    """Watches one training.

    Parameters
    ----------
    folder : Path
        Where state, curves, pictures and TensorBoard files are kept while it lasts.
    state : TrainingState
        Where the training goes on from; its curves are continued.
    validation : Validation, optional
        None where the sheet has no validation pairs.
    save_every, validate_every : int
        In steps.
    name : str
        Of the model, for the progress bar.
    deadline : Deadline
        Shortly before it, or when SIGUSR1 comes, with which sites warn a job before its end, the state is saved, and the training ends
        with a `TimeUpError`: the next attempt goes on.
    """

    def __init__(
        self,
        folder: Path,
        state: TrainingState,
        validation: Validation | None,
        save_every: int,
        validate_every: int,
        name: str,
        deadline: Deadline,
    ) -> None:
        self.folder = folder
        self.state = state
        self._validation = validation
        self._save_every = save_every
        self._validate_every = validate_every
        self._name = name
        self._deadline = deadline
        self._saved_at = self._counted_at = time.monotonic()
        self._told_to_end = False
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for the site's warning, and show the bar, on a terminal only."""
        # Lightning puts the old handlers back. Its own for SIGTERM talks to the other processes at once, out of step with their gradients.
        signal.signal(signal.SIGUSR1, lambda *_: self._warned())
        signal.signal(signal.SIGTERM, lambda *_: self._terminated())
        self._saved_at = self._counted_at = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.add_task(f"training {self._name}", total=_module(pl_module).settings.steps, completed=self.state.step)
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look after the step that was just taken. Callbacks come before the module's own hook, so it is asked to finish the step."""
        module = _module(pl_module)
        module.finish_step()
        overdue = trainer.is_global_zero and time.monotonic() - self._saved_at > SAVE_SECONDS
        said = self._told_to_end, self._deadline.comes_within(), overdue
        told, time_is_up, overdue = (_in_any_process(trainer, one) for one in said)
        last = module.step == module.settings.steps
        time_is_up = time_is_up and not last
        curves, validates, saves = (last or module.step % every == 0 for every in (CURVE_EVERY, self._validate_every, self._save_every))
        saves = saves or overdue or told or time_is_up
        if curves or validates or saves:  # not after each step: a GPU would stand idle until the answer is known
            self._check_finite(trainer, module)
        if trainer.is_global_zero:
            if curves:
                self._add_curves(trainer, module)
            if validates:
                self._validate(trainer, module)
            if saves:
                self._save(module)
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=module.step)
        if told:
            raise SystemExit(EXIT_TERMINATED)
        if time_is_up:
            raise TimeUpError(
                f"training {self._name}: the job's time limit is near; step {module.step} of {module.settings.steps} is saved, and "
                "the next attempt goes on from there; give it more time: write `runtime: ...` (minutes) below `train:` in set-resources "
                "of the profile."
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self._stop_bar()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that the message can be read."""
        self._stop_bar()

    def _warned(self) -> None:
        self._deadline = Deadline(time.monotonic())

    def _terminated(self) -> None:
        self._told_to_end = True

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _check_finite(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if _in_any_process(trainer, not module.is_finite()):
            raise UserError(
                f"training {self._name}: the loss or the weights became NaN or infinite by step {module.step}; this is not saved, and what "
                "was saved before is kept; lower training.learning_rate, or look for absurd values among the pixels of the pairs."
            )

    def _add_curves(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        count = module.step % CURVE_EVERY or CURVE_EVERY
        values = {f"train/{name}": float(total) / count for name, total in sorted(module.losses.items())}
        module.losses.clear()
        self._add(trainer, module.step, {**values, "learning_rate": learning_rate(module.settings, module.step - 1)})

    def _validate(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if self._validation is None:
            return
        averaged = averaged_restorer(module.restorer, module.average)
        losses = self._validation.losses(averaged)
        samples = self._validation.samples(averaged)
        scores = {"input": samples.condition, "sample": samples.sample, "mean": samples.mean}
        quality = {f"val/psnr_{name}": samples.psnr(image) for name, image in scores.items()}
        self._add(trainer, module.step, {**{f"val/{name}": value for name, value in losses.items()}, **quality})
        loss = losses["loss"]
        if math.isfinite(loss) and (self.state.best_loss is None or loss < self.state.best_loss):
            self.state.best_loss, self.state.best_step = loss, module.step
            self.state.best = {name: value.clone() for name, value in module.average.items()}
        pictures = self.folder / "validation"
        pictures.mkdir(parents=True, exist_ok=True)
        title = f"{self._name}, step {module.step}: PSNR " + ", ".join(
            f"{name} {samples.psnr(image):.1f} dB" for name, image in scores.items()
        )
        draw_validation(pictures / f"step_{module.step:07d}.png", samples, title)

    def _add(self, trainer: pl.Trainer, step: int, values: dict[str, float]) -> None:
        self.state.rows += [(step, name, value) for name, value in values.items()]
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.log_metrics(values, step)

    def _save(self, module: TrainingModule) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._counted_at
        self._saved_at = self._counted_at = now
        self.state.step = module.step
        self.state.weights = module.restorer.state_dict()
        self.state.average, self.state.moments, self.state.running = module.average, module.moments(), module.losses
        save_state(self.folder / STATE_FILE, self.state)
        write_curves(self.folder / "curves.csv", self.state.rows)


def averaged_restorer(restorer: Restorer, average: Tensors) -> Restorer:
    """Return a copy of the model with the averaged weights, in evaluation mode."""
    averaged = copy.deepcopy(restorer)
    averaged.load_state_dict(average)
    return averaged.eval().requires_grad_(False)


def _in_any_process(trainer: pl.Trainer, said: bool) -> bool:
    """Whether one of the processes says so. They must all stop after the same step, or those that go on wait for the others for ever."""
    return bool(trainer.strategy.reduce_boolean_decision(said, all=False))


def _module(module: pl.LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module
