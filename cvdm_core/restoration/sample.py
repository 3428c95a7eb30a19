"""Restoring one block: posterior samples of each of its shards, what they say together, and whole shards on disk."""

from __future__ import annotations

import platform
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from cvdm_core import paths
from cvdm_core.cluster.clock import Deadline
from cvdm_core.config import Config
from cvdm_core.errors import TimeUpError, UserError
from cvdm_core.images.omezarr import create_image, write_region
from cvdm_core.images.tiles import Shard, block_shards, shards
from cvdm_core.model.folder import LoadedModel, load_model
from cvdm_core.records.receipts import stage, versions
from cvdm_core.restoration.plan import (
    Files,
    Plan,
    ShardReceipts,
    differing,
    held_shard,
    make_plan,
    model_read,
    path_in_store,
    published_shards,
    record_shard,
    settings_for_receipt,
)
from cvdm_core.restoration.shard import ShardRestorer
from cvdm_core.routing import routed
from cvdm_core.sheet import find_acquisition
from cvdm_core.workload import megapixels


def sample_block(config: Config, acquisition: str, block: int) -> None:
    """Restore one block of an acquisition and write its receipt.

    Shards that are on disk already, from the same input, weights, settings and code, are kept. The receipt lists all shards of the block
    with the bytes and checksums of their files.

    Raises
    ------
    UserError
        If the acquisition, its input or the model is missing or does not fit, or there is no such block.
    """
    row = find_acquisition(config.acquisitions, acquisition)
    config = routed(config, row)
    target = paths.block_receipt(config, acquisition, block)
    with stage(target, "sample", acquisition, config.results, part=f"{block:04d}") as receipt:
        model = load_model(paths.model_folder(config))
        plan = make_plan(config, row, model)
        own = block_shards(plan.shape, config.store.shard, config.sampling.shards_per_job, block)
        receipt.read = {str(paths.raw_store(config, acquisition)): plan.inputs, **model_read(config, model)}
        receipt.settings = settings_for_receipt(config, row)
        done = _published(plan, own) or {shard.index: held for shard in own if (held := held_shard(plan, shard))}
        missing = [shard for shard in own if shard.index not in done]
        label = f"{acquisition}, block {block}"
        if len(missing) < len(own):
            _say(f"{label}: {len(own) - len(missing)} of {len(own)} shards are there already")
        if missing:
            receipt.details = _restore(config, plan, model, missing, label, done)
            share = len(missing) / len(shards(plan.shape, config.store.shard))
            receipt.usage["megapixels"] = share * megapixels(config, row, "sample")
        receipt.details |= {
            "fingerprint": plan.fingerprint,
            "code": plan.code,
            "quantities": plan.quantities,
            "shards": {str(shard.index): done[shard.index] for shard in own},
        }


def _published(plan: Plan, own: list[Shard]) -> ShardReceipts | None:
    """Return the receipts of the block's shards in a store that was published from the same plan; a damaged store no longer counts."""
    published = published_shards(plan)
    if published is None:
        return None
    held = {shard.index: published[str(shard.index)] for shard in own}
    if any(differing(plan.final, content["files"]) for content in held.values()):
        plan.published.unlink(missing_ok=True)
        return None
    return held


def _restore(config: Config, plan: Plan, model: LoadedModel, missing: list[Shard], label: str, done: ShardReceipts) -> dict[str, Any]:
    for quantity in plan.quantities:
        create_image(plan.partial, plan.shape, np.float32, config.store, path_in_store(quantity))
    restorer = ShardRestorer.of(config, plan, model)
    made = {
        "versions": versions(),
        "host": platform.node(),
        "device": restorer.device_name,
        "precision": str(restorer.dtype).removeprefix("torch."),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _say(f"{label}: {len(missing)} shards on {made['device']}, {made['precision']}")
    begin = time.perf_counter()
    deadline = Deadline.of_this_job()
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(label, total=len(missing))
        longest = 0.0
        for count, shard in enumerate(missing):
            if deadline.comes_within(longest):
                raise TimeUpError(
                    f"{label}: the job's time limit is near; {count} of {len(missing)} shards are done, and the next attempt does "
                    "the rest; give it more time (write `runtime: ...`, in minutes, below `sample:` in set-resources of the profile), or "
                    "lower sampling.shards_per_job."
                )
            shard_begin = time.perf_counter()
            files: Files = {}
            ranges = {}
            for quantity, plane in restorer.restore(shard).items():
                if not np.isfinite(plane).all():
                    raise UserError(
                        f"{label}: the model makes values of shard {shard.index} that are no numbers; look for absurd pixels in the input, "
                        "and at the model's training curves."
                    )
                files |= write_region(plan.partial, shard, plane, path_in_store(quantity))
                ranges[quantity] = (float(plane.min()), float(plane.max()))
            done[shard.index] = record_shard(plan, shard, files, ranges, made | {"batch": restorer.batch})
            longest = max(longest, time.perf_counter() - shard_begin)
            progress.advance(bar)
    seconds = time.perf_counter() - begin
    restored = sum(shard.shape[0] * shard.shape[1] for shard in missing) / 1e6
    draws = config.sampling.samples if restorer.is_diffusion else 1
    _say(f"{label}: {restored:.2f} Mpx x {draws} in {seconds:.1f} s, {restored * draws / seconds:.3g} Mpx/s")
    return {
        "device": made["device"],
        "precision": made["precision"],
        "batch": restorer.batch,
        "shards_computed": len(missing),
        "megapixels_per_second": restored * draws / seconds,
        "stride": restorer.network.stride,
        "receptive_field": restorer.network.receptive_field,
        "times": restorer.times,
    }


def _say(text: str) -> None:
    print(f"cvdm sample: {text}", file=sys.stderr, flush=True)
