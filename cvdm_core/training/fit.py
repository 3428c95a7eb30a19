"""Training from the sheet's pairs to the model folder."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment

from cvdm_core import paths
from cvdm_core.cluster.clock import Deadline
from cvdm_core.config import Config, TrainingSettings
from cvdm_core.errors import DamagedInputError, UserError
from cvdm_core.model import build_model, choose_device, repeatable, resolve_precision
from cvdm_core.records.code import work_code
from cvdm_core.records.receipts import sha256_file, stage, versions
from cvdm_core.training.crops import CropPlaces, CropReader
from cvdm_core.training.module import TrainingModule
from cvdm_core.training.pairs import provenance
from cvdm_core.training.problem import Problem, prepare
from cvdm_core.training.publish import write_folder
from cvdm_core.training.state import TrainingState, load_state
from cvdm_core.training.watch import STATE_FILE, Watch
from cvdm_core.workload import training_megapixels

CODE = ("model", "training", "images/intensity.py")
"""What makes the weights."""
LIGHTNING_PRECISION = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed"}


def train(config: Config) -> None:
    """Train the configured model and write its folder, or go on from where a killed training stopped.

    Where the state of a finished training with the same data and settings is found, only the folder is written again.

    Raises
    ------
    UserError
        If the sheet has no training pairs or mixes splits, a pair does not fit, a saved state is damaged, or the loss or the weights
        become NaN or infinite.
    SystemExit
        After SIGTERM, once the state is saved.
    """
    if int(os.environ.get("LOCAL_RANK", "0")):  # Lightning runs this command again for every further GPU.
        fit(prepare(config))
        return
    with stage(paths.train_receipt(config), "train", config.model.name, config.results) as receipt:
        problem = prepare(config)
        receipt.read, data = provenance(config, problem.pairs)
        receipt.settings = {"model": config.model.model_dump(mode="json"), "training": config.training.model_dump(mode="json")}
        state = fit(problem)
        receipt.usage["megapixels"] = training_megapixels(config, state.step - state.resumed_at)
        folder = write_folder(problem.as_measured(state.measured), state, data)
        receipt.wrote = {str(path): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        receipt.details = {"training_seconds": round(state.seconds, 1), "weights_step": state.weights_step}


def fit(problem: Problem) -> TrainingState:
    """Take the steps that are left, and return the last state, which also lies in `problem.state_folder`."""
    settings = problem.config.training
    state = load_state(problem.state_folder / STATE_FILE) or TrainingState()
    code = work_code(*CODE)
    if state.code != code and 0 < state.step < settings.steps:
        print(f"cvdm train: other code, or another torch, took the first {state.step} steps, so training begins anew", file=sys.stderr)
        state = TrainingState()
    state.resumed_at = state.step
    if state.step >= settings.steps:
        return state
    problem = problem.as_measured(state.measured)
    state.measured, state.code, state.versions = problem.measured, code, versions()
    places = CropPlaces(problem.training, settings.crop, settings.seed, "training")
    reader = CropReader(problem.training, settings.crop, problem.maps(problem.training))
    module = TrainingModule(build_model(problem.spec, settings.seed), settings, places, reader, state)
    validation = problem.validation_crops(problem.validation) if problem.validation else None
    watch = Watch(
        problem.state_folder,
        state,
        validation,
        settings.save_every,
        settings.validate_every,
        problem.config.model.name,
        Deadline.of_this_job(),
    )
    trainer = _trainer(settings, problem.state_folder, state.step, watch)
    with repeatable(), warnings.catch_warnings():
        for harmless in (".*does not have many workers", ".*smaller than the logging interval", ".*treespec"):
            warnings.filterwarnings("ignore", message=harmless)
        try:
            trainer.fit(module)
        except DamagedInputError as error:
            # From a worker process it comes with that one's traceback before its sentence.
            raise DamagedInputError(str(error).rstrip().rpartition(f"{DamagedInputError.__name__}: ")[2]) from None
    return state


def _trainer(settings: TrainingSettings, folder: Path, step: int, watch: Watch) -> pl.Trainer:
    device = choose_device()
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and settings.devices > gpus:
        raise UserError(f"training.devices is {settings.devices}, but this machine shows {gpus}; lower it, or ask for more GPUs.")
    devices = settings.devices if device.type == "cuda" else 1
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=LIGHTNING_PRECISION[resolve_precision(settings.precision, device)],
        # Under SLURM, Lightning would otherwise take over requeueing and expect a task for every GPU.
        plugins=[LightningEnvironment()],
        max_epochs=1,
        gradient_clip_val=settings.gradient_clip,
        # What a killed training logged after its last saved state is taken out of the curves.
        logger=TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1),
        callbacks=[watch],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
