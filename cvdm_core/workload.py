"""How many megapixels each stage has to work through: what throughput is measured in, and what time is asked and planned for.

From the configuration and the sheet alone, because the Snakefile counts with it each time it is parsed.
"""

from __future__ import annotations

from math import ceil, prod

from cvdm_core.config import Config
from cvdm_core.sheet import Acquisition

STAGES = ("ingest", "train", "sample", "stitch", "evaluate", "report")

STAGES_OF = {"ingest": ("ingest",), "train": ("train",), "sample": ("sample",), "finish": ("stitch", "evaluate", "report")}
"""The stages that a job of a rule of the workflow goes through, in order."""


def megapixels(config: Config, row: Acquisition, stage: str) -> float:
    """Return the megapixels that a stage works through for a whole acquisition; for `sample`, in all its blocks together.

    ingest: input and target. sample: what passes the network, shards with their halos, for each sample and step. stitch: the restored
    image. evaluate and report: the input.

    Raises
    ------
    ValueError
        If `stage` is none of these.
    """
    restored = row.restored_shape(config.model.scale)
    if stage == "ingest":
        return (prod(row.shape) + (prod(restored) if row.target else 0)) / 1e6
    if stage == "sample":
        sides = (size + 2 * config.sampling.halo * (ceil(size / config.store.shard) - 1) for size in restored[3:])
        return prod(restored[:3]) * prod(sides) * passes(config, row) / 1e6
    if stage == "stitch":
        return prod(restored) / 1e6
    if stage in ("evaluate", "report"):
        return prod(row.shape) / 1e6
    raise ValueError(f"{stage!r} is no stage of an acquisition")


def block_megapixels(config: Config, row: Acquisition) -> float:
    """Return the megapixels that pass the network in one block job of an acquisition; its last block may have fewer."""
    restored = row.restored_shape(config.model.scale)
    shards = prod(restored[:3]) * prod(ceil(size / config.store.shard) for size in restored[3:])
    return megapixels(config, row, "sample") * min(1.0, config.sampling.shards_per_job / shards)


def training_megapixels(config: Config, steps: int | None = None) -> float:
    """Return the megapixels of crops that each device is trained on, in `steps` or in all steps."""
    settings = config.training
    return (settings.steps if steps is None else steps) * settings.batch * settings.crop**2 / 1e6


def passes(config: Config, row: Acquisition) -> int:
    """Return how often a pixel passes the network: once for each sample and step, or once for a regression."""
    return 1 if config.model.objective == "regression" else (row.samples or config.sampling.samples) * config.sampling.steps
