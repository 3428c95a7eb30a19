"""From blocks to one verified image: check every shard, build what is missing, measure the seams, publish.

What lies is withdrawn: the receipt of a block whose shards are not there as recorded, or are those of other settings, weights or input,
is deleted, so that the next run of the workflow restores that block again; shards that are held already are not computed again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.files import PARTIAL, remove_folder
from cvdm_core.images.publishing import publish
from cvdm_core.images.stored import StoredLevel
from cvdm_core.images.tiles import block_shards, n_blocks
from cvdm_core.model.description import DescribedModel, read_description
from cvdm_core.records.receipts import read_json, stage, write_json
from cvdm_core.restoration.build import build_store
from cvdm_core.restoration.plan import (
    Plan,
    ShardReceipts,
    differing,
    make_plan,
    makers,
    model_read,
    path_in_store,
    published_shards,
    settings_for_receipt,
)
from cvdm_core.restoration.seams import measure_seams
from cvdm_core.routing import routed
from cvdm_core.sheet import find_acquisition
from cvdm_core.workload import megapixels

NAMED_BLOCKS = 8
"""Blocks named in one error message; more would hide the sentence."""


def stitch(config: Config, acquisition: str) -> None:
    """Check all blocks of an acquisition, build the pyramid, publish the restored image, and write its receipt.

    The receipt's `details` hold the measured seams (`seams`, for mean and std), the linear map of integer images, and who made the shards
    (`made`). Where the same image is published already and unharmed, only the receipt is written.

    Raises
    ------
    UserError
        If blocks are missing, damaged or of other settings: names them and the command that restores them.
    """
    row = find_acquisition(config.acquisitions, acquisition)
    config = routed(config, row)
    with stage(paths.stitch_receipt(config, acquisition), "stitch", acquisition, config.results) as receipt:
        model, _ = read_description(paths.model_folder(config))
        plan = _as_begun(config, make_plan(config, row, model))
        problem = _published_problem(plan)
        if problem and plan.partial.is_dir():
            _publish(config, plan, model, _checked_shards(config, plan))
            receipt.usage["megapixels"] = megapixels(config, row, "stitch")
        elif problem:
            raise UserError(_complaint(plan, _withdrawn(config, plan, problem)))
        published = read_json(plan.published)
        receipt.read = {str(paths.raw_store(config, acquisition)): plan.inputs, **model_read(config, model)}
        receipt.wrote = {str(plan.final): {"files": published["files"]}}
        receipt.settings = settings_for_receipt(config, row)
        receipt.details = published["details"]
        _remove_leftovers(plan)


def _as_begun(config: Config, plan: Plan) -> Plan:
    """Return the plan with the code that restored its blocks, if it was one: older code is no reason to restore them again."""
    codes = set()
    for block in range(_blocks(config, plan)):
        path = paths.block_receipt(config, plan.row.acquisition, block)
        if not _receipt_problem(plan, path):
            codes.add(read_json(path)["details"].get("code", ""))
    return replace(plan, code=codes.pop()) if len(codes) == 1 else plan


def _checked_shards(config: Config, plan: Plan) -> ShardReceipts:
    """Return the receipts of all shards; their files are in the partial store as recorded."""
    held: ShardReceipts = {}
    problems: dict[int, str] = {}
    for block in range(_blocks(config, plan)):
        path = paths.block_receipt(config, plan.row.acquisition, block)
        problem = _receipt_problem(plan, path) or _add_block(config, plan, block, read_json(path)["details"], held)
        if problem:
            problems[block] = problem
            path.unlink(missing_ok=True)
    if problems:
        raise UserError(_complaint(plan, problems))
    return held


def _receipt_problem(plan: Plan, path: Path) -> str:
    if not path.is_file():
        return "no receipt"
    same = read_json(path).get("details", {}).get("fingerprint") == plan.fingerprint
    return "" if same else "restored with other settings, weights or input"


def _add_block(config: Config, plan: Plan, block: int, details: dict[str, Any], held: ShardReceipts) -> str:
    """Add the block's shards to those that are held, or return what is wrong with the first bad one."""
    if details.get("code", "") != plan.code:
        return "restored by other code, or another torch, than other blocks"
    for shard in block_shards(plan.shape, config.store.shard, config.sampling.shards_per_job, block):
        content = details["shards"].get(str(shard.index))
        if content is None:
            return f"its receipt leaves out shard {shard.index}: made with another sampling.shards_per_job"
        if bad := differing(plan.partial, content["files"]):
            return f"{bad[0]} in {plan.partial} is missing or damaged"
        held[shard.index] = content
    return ""


def _published_problem(plan: Plan) -> str:
    """Return what keeps the published image from being this one, with all its files as they were written; a damaged one no longer counts.

    A partial store beside a good one is what a kill has left of its removal, and says nothing.
    """
    if published_shards(plan) is None:
        return f"neither {plan.partial} nor a published store of these settings is there"
    bad = differing(plan.final, read_json(plan.published)["files"])
    if not bad:
        return ""
    plan.published.unlink()
    return f"{bad[0]} in {plan.final} is missing or damaged"


def _withdrawn(config: Config, plan: Plan, problem: str) -> dict[int, str]:
    """Withdraw the receipts of all blocks, whose shards are nowhere, and return what is said of each."""
    problems: dict[int, str] = {}
    for block in range(_blocks(config, plan)):
        path = paths.block_receipt(config, plan.row.acquisition, block)
        problems[block] = _receipt_problem(plan, path) or problem
        path.unlink(missing_ok=True)
    return problems


def _complaint(plan: Plan, problems: dict[int, str]) -> str:
    named = list(problems)[:NAMED_BLOCKS]
    listed = "; ".join(f"block {block} ({problems[block]})" for block in named)
    more = f"; and {len(problems) - len(named)} more" if len(problems) > len(named) else ""
    again = f"cvdm sample --acquisition {plan.row.acquisition} --block {named[0]}"
    return f"{plan.final.parent}: blocks cannot be used: {listed}{more}; run the workflow again, or `{again}` for each of them."


def _publish(config: Config, plan: Plan, model: DescribedModel, held: ShardReceipts) -> None:
    store, files, held, intensity_map = build_store(config, plan, model, held)
    details = {
        "fingerprint": plan.fingerprint,
        "quantities": plan.quantities,
        "blocks": _blocks(config, plan),
        "seams": _seams(config, plan, model),
        "intensity_map": intensity_map,
        "made": makers(held),
    }
    shards = {str(index): content for index, content in held.items()}
    # Before the rename, so that a store in its final place always has a record of what it must be.
    write_json(plan.published, {"fingerprint": plan.fingerprint, "files": files, "shards": shards, "details": details})
    publish(store, plan.final)


def _seams(config: Config, plan: Plan, model: DescribedModel) -> dict[str, Any]:
    period = math.lcm(model.spec.stride, config.model.scale)
    measured: dict[str, Any] = {}
    for quantity in sorted({"mean", "std"} & set(plan.quantities)):
        level = StoredLevel(plan.partial, path_in_store(quantity))
        measured[quantity] = measure_seams(level.read, plan.shape, config.store.shard, period)
    return measured


def _blocks(config: Config, plan: Plan) -> int:
    return n_blocks(plan.shape, config.store.shard, config.sampling.shards_per_job)


def _remove_leftovers(plan: Plan) -> None:
    """Remove partial stores, shard receipts and half-written receipts, of this plan and of older ones, once the image is published."""
    folder = plan.final.parent
    for left in folder.glob(".restored.*"):
        remove_folder(left)
    for left in (*folder.glob(f"restored.*{PARTIAL}"), *folder.glob("restored.*.shards")):
        remove_folder(left.rename(folder / f".{left.name}.old"))  # a kill leaves no half of it under its name
    for pattern in (".*.json.*", "blocks/.*.json.*"):
        for left in folder.glob(pattern):
            left.unlink()
