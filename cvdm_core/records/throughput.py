"""How fast the stages were on the devices at hand, and what follows for the next job: the seconds it takes, and those to ask for.

`<results>/throughput.json` holds what was measured; `records.measuring` writes it at the end of a run. Read when the Snakefile is
parsed, so that nothing but the standard library is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FEWEST_JOBS = 5  # that must have been measured, or an accident would count as the rule
FEWEST_TRAININGS = 1  # thousands of measurements of a step in one job
MARGIN = 1.5  # what is asked for over the slow jobs: neighbours on the node and on the network disk come and go


@dataclass(frozen=True)
class Pace:
    """How fast a stage was on a device, over its newest jobs.

    Parameters
    ----------
    jobs
        How many of them.
    start_seconds, seconds_per_megapixel
        A robust line through their seconds over their megapixels (of `cvdm_core.workload`).
    slow
        How many times longer than that line says slow jobs took, at least 1.
    memory_mb
        Peak memory of all but the odd job.
    """

    jobs: int
    start_seconds: float
    seconds_per_megapixel: float
    slow: float = 1.0
    memory_mb: float = 0.0

    def seconds(self, megapixels: float) -> float:
        """Return what a typical job takes."""
        return self.start_seconds + self.seconds_per_megapixel * megapixels


UNMEASURED = {
    "ingest": Pace(0, 0, 1.0),  # a megapixel a second is slow even on a busy network disk
    "train": Pace(0, 1500, 3.0),  # 5 steps a second with 16 crops of 64 x 64 pixels: a slow GPU; the next attempt goes on from there
    "sample": Pace(0, 300, 0.2),  # 5 megapixels through the network a second: a slow GPU
    "stitch": Pace(0, 0, 3.0),  # several quantities of each restored pixel; 20 megapixels a minute are slow
    "evaluate": Pace(0, 0, 30.0),  # Richardson-Lucy and the resolution measures, on one core
    "report": Pace(0, 300, 0.0),  # pictures that fit a screen, whatever the image
}
"""What is asked for where nothing was measured yet; each is slow on purpose, because too little time costs an attempt."""

Throughput = Mapping[str, Mapping[str, Mapping[str, Pace]]]
"""Paces by stage, by model (the empty name for stages without one) and by device (name of the GPU or of the CPU)."""


def throughput_file(results: str | Path) -> Path:
    """Return where the measured throughput lies."""
    return Path(results) / "throughput.json"


def read_throughput(path: str | Path) -> Throughput:
    """Read what was measured; empty where the file is missing or damaged, because the next `cvdm index` writes it anew."""
    try:
        stages = json.loads(Path(path).read_text(encoding="utf-8"))["paces"]
        return {
            stage: {model: {device: _pace(values) for device, values in devices.items()} for model, devices in models.items()}
            for stage, models in stages.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _pace(values: Mapping[str, float]) -> Pace:
    pace = Pace(**{field.name: values[field.name] for field in fields(Pace)})  # type: ignore[arg-type]  # checked in the next line
    if not all(math.isfinite(number) and number >= 0 for number in asdict(pace).values()):
        raise ValueError("a pace is made of finite numbers, none negative")
    return pace


def as_json(throughput: Throughput) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return what `read_throughput` reads under the key `paces`."""
    return {
        stage: {model: {device: asdict(pace) for device, pace in devices.items()} for model, devices in models.items()}
        for stage, models in throughput.items()
    }


def expected_seconds(throughput: Throughput, stage: str, megapixels: float, model: str = "") -> float | None:
    """Return the seconds that a typical job of a stage takes on what its newest jobs ran on; None where too little was measured.

    Parameters
    ----------
    throughput
        From `read_throughput`.
    stage
        Name of the stage.
    megapixels
        What the job works through, as `cvdm_core.workload` counts it.
    model
        The model's name; where it was never measured, the other models stand for it.
    """
    paces = _measured(throughput, stage, model)
    if not paces:
        return None
    return sum(pace.jobs * pace.seconds(megapixels) for pace in paces) / sum(pace.jobs for pace in paces)


def requested_seconds(throughput: Throughput, stage: str, megapixels: float, model: str = "") -> float:
    """Return the seconds to ask for: a slow job's on the slowest device of late, and half as much again.

    Where too little was measured it is the time of a slow machine (`UNMEASURED`). Raises KeyError for an unknown stage.
    """
    paces = _measured(throughput, stage, model)
    if not paces:
        return UNMEASURED[stage].seconds(megapixels)
    return MARGIN * max(pace.slow * pace.seconds(megapixels) for pace in paces)


def measured_memory_mb(throughput: Throughput, stage: str, model: str = "") -> float:
    """Return the most memory that jobs of a stage, but for odd ones, had at their peak, in megabytes; 0 where too little was measured."""
    return max((pace.memory_mb for pace in _measured(throughput, stage, model)), default=0.0)


def _measured(throughput: Throughput, stage: str, model: str) -> list[Pace]:
    models = throughput.get(stage, {})
    fewest = FEWEST_TRAININGS if stage == "train" else FEWEST_JOBS
    own = [pace for pace in models.get(model, {}).values() if pace.jobs >= fewest]
    return own or [pace for devices in models.values() for pace in devices.values() if pace.jobs >= fewest]
