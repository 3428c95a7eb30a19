"""From the state of a finished training to the model folder, which appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch

from cvdm_core import paths
from cvdm_core.files import replace_folder, sync, write_file
from cvdm_core.model import build_model
from cvdm_core.model.folder import save_model
from cvdm_core.records.receipts import versions
from cvdm_core.training.card import write_card
from cvdm_core.training.inputs import measure_inputs
from cvdm_core.training.problem import Problem
from cvdm_core.training.state import TrainingState, write_curves
from cvdm_core.training.truth_range import measure_truth_range

LAST_WEIGHTS = "last.safetensors"


def write_folder(problem: Problem, state: TrainingState, data: Sequence[Mapping[str, Any]]) -> Path:
    """Write the folder of a finished training beside its place and rename it there; return its path.

    `weights.safetensors` is the moving average with the lowest validation loss (the last one where there are no validation pairs);
    `last.safetensors` the moving average after the last step. Nothing in weights, model.yaml, card and CSV files depends on the clock,
    so that the same training gives the same bytes. `data` says what it was trained on, for model.yaml.
    """
    config = problem.config
    final = paths.model_folder(config)
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    restorer = build_model(problem.spec, config.training.seed)
    restorer.load_state_dict(state.best or state.average)
    maps = problem.measured["normalisation"]
    settings = {"model": config.model.model_dump(mode="json"), "training": config.training.model_dump(mode="json")}
    info = _info(problem, state, data, sum(value.numel() for value in restorer.parameters()))
    save_model(partial, restorer, problem.spec, maps, settings, info)
    write_file(partial / LAST_WEIGHTS, safetensors.torch.save({name: value.cpu().contiguous() for name, value in state.average.items()}))
    write_curves(partial / "curves.csv", state.rows)
    schedule = problem.validation_crops(problem.validation or problem.training).schedule(restorer)
    lines = ["t,gamma_mean,gamma_low,gamma_high", *(",".join(f"{value:.7g}" for value in row) for row in schedule)]
    write_file(partial / "schedule.csv", "\n".join(lines) + "\n")
    write_file(partial / "card.md", write_card(info, settings, maps))
    for name in ("validation", "tensorboard"):
        if (problem.state_folder / name).is_dir():
            shutil.copytree(problem.state_folder / name, partial / name)
    replace_folder(partial, final)
    with suppress(OSError):  # not every file system can
        sync(final.parent)  # the receipt, which speaks for this name, lies in another folder
    return final


def _info(problem: Problem, state: TrainingState, data: Sequence[Mapping[str, Any]], parameters: int) -> dict[str, Any]:
    config, step = problem.config, state.weights_step
    pixel_size_um = problem.training[0].pixel_size_um
    return {
        "name": config.model.name,
        "objective": config.model.objective,
        "scale": config.model.scale,
        "pixel_size_um": pixel_size_um,
        "input_pixel_size_um": pixel_size_um * config.model.scale,
        "truth_range": measure_truth_range(problem.training, config.training.crop, config.training.seed),
        "inputs": measure_inputs(problem.training, config.training.crop, config.training.seed),
        "intensities": config.training.intensities,
        "seed": config.training.seed,
        "parameters": parameters,
        "numbers": {
            "steps": state.step,
            "weights_step": step,
            "validation": {name: value for at, name, value in state.rows if at == step and name.startswith("val/")},
        },
        "data": [dict(entry) for entry in data],
        "versions": state.versions or versions(),  # a state of before does not tell
    }
