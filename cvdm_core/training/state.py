"""The state of an unfinished training: one file, replaced by rename, from which a killed training goes on.

A safetensors file, so that a state from anywhere holds numbers and nothing that runs. What is not a tensor stands as JSON in its header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from cvdm_core.errors import UserError
from cvdm_core.files import write_file

Tensors = dict[str, torch.Tensor]
Row = tuple[int, str, float]
"""One point of a curve: (step, name, value)."""


@dataclass
class TrainingState:
    """Everything that the next step depends on, and what has been seen so far.

    Parameters
    ----------
    step : int
        Optimiser steps that are done.
    weights, average, best : dict
        Weights by name: as trained, their moving average, and the average with the lowest validation loss.
    moments : dict
        Adam's moments and step counts, `<number of the parameter>.<name>`.
    running : dict
        Sums of the losses since the last point of the curves.
    best_step : int
        When `best` was taken; 0 before the first validation.
    best_loss : float, optional
    rows : list
        The curves.
    seconds : float
        Time spent on training so far.
    measured : dict
        The linear maps and the spread of the residuals that it is trained with (`Problem.measured`).
    code : str
        That trains (`records.code`); other code does not go on from here.
    versions : dict
        Those that took the last steps.
    resumed_at : int
        Step at which this process went on; not saved.
    """

    step: int = 0
    weights: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    moments: Tensors = field(default_factory=dict)
    running: Tensors = field(default_factory=dict)
    best_step: int = 0
    best_loss: float | None = None
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    resumed_at: int = 0

    @property
    def weights_step(self) -> int:
        """The step whose average is published: the best one, or the last where nothing was validated."""
        return self.best_step or self.step


TENSOR_FIELDS = ("weights", "average", "best", "moments", "running")
PLAIN_FIELDS = ("step", "best_step", "best_loss", "rows", "seconds", "measured", "code", "versions")


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state durably; a reader sees the old state or the new one."""
    tensors = {f"{name}/{key}": value.detach().cpu().contiguous() for name in TENSOR_FIELDS for key, value in getattr(state, name).items()}
    header = {"state": json.dumps({name: getattr(state, name) for name in PLAIN_FIELDS})}
    write_file(path, safetensors.torch.save(tensors, header))


def load_state(path: Path) -> TrainingState | None:
    """Read a state, or return None where there is none yet.

    Raises
    ------
    UserError
        If the file is damaged, or holds NaN or infinity.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stored:
            plain: dict[str, Any] = json.loads(stored.metadata()["state"])
            tensors: dict[str, Tensors] = {name: {} for name in TENSOR_FIELDS}
            for full_name in stored.keys():  # noqa: SIM118 (no mapping)
                name, key = full_name.split("/", 1)
                tensors[name][key] = stored.get_tensor(full_name)
        if not all(value.isfinite().all() for values in tensors.values() for value in values.values()):
            raise ValueError("NaN or infinity")
        rows = [(int(step), str(name), float(value)) for step, name, value in plain.pop("rows")]
        everything: dict[str, Any] = {**plain, **tensors, "rows": rows}
        return TrainingState(**everything)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        raise UserError(f"{path}: this state of an unfinished training is damaged; delete it, and the training begins anew.") from None


def write_curves(path: Path, rows: list[Row]) -> None:
    """Write the curves as CSV in long format, with the columns step, name, value."""
    lines = ["step,name,value", *(f"{step},{name},{value:.7g}" for step, name, value in rows)]
    write_file(path, "\n".join(lines) + "\n")
