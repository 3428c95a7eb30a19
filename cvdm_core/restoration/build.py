"""From complete shards to a complete store: pyramid, integers where they are asked for, and what the image says about itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.files import PARTIAL, checksum_file, files_below
from cvdm_core.images.mosaic import ATTRIBUTE as MOSAIC
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, display_windows, target_origin_um, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter, nested
from cvdm_core.images.reading import open_image
from cvdm_core.images.stored import StoredLevel
from cvdm_core.images.tiles import Shard, shards
from cvdm_core.model.description import DescribedModel
from cvdm_core.restoration.plan import Files, Plan, ShardReceipts, path_in_store

LARGEST_INTEGER = 65_535

IntegerMap = dict[str, float]
"""`scale` and `offset` of value = stored * scale + offset."""


def build_store(
    config: Config, plan: Plan, model: DescribedModel, held: ShardReceipts
) -> tuple[Path, Files, ShardReceipts, IntegerMap | None]:
    """Complete the partial store, or make its integer copy, up to the metadata.

    Returns
    -------
    store : Path
        The complete store, not yet in its final place.
    files : dict
        Bytes and checksum of each of its files.
    held : dict
        `held`, with the level-0 files as they are in that store.
    intensity_map : dict or None
        How integers are to be read; std stays float32.
    """
    if config.store.output_dtype == "uint16":
        store = plan.final.with_name(f"restored.{plan.fingerprint}.uint16{PARTIAL}")
        intensity_map = _integer_map(held)
        files, held = _write_integers(config, plan, store, intensity_map, held)
    else:
        store, intensity_map = plan.partial, None
        files = {name: value for content in held.values() for name, value in content["files"].items()}
        writers = {quantity: PyramidWriter(store, path_in_store(quantity)) for quantity in plan.quantities}
        levels0 = _open_levels0(plan)
        for shard in _with_progress(config, plan):
            for quantity, writer in writers.items():
                files |= writer.add(shard, levels0[quantity].read(shard.t, shard.c, shard.z, shard.y, shard.x))
    for quantity in plan.quantities:
        write_metadata(store, path_in_store(quantity), _describe(config, plan, model, quantity, intensity_map, store))
    for name in files_below(store):
        if name not in files and not name.endswith(PARTIAL):
            files[name] = [(store / name).stat().st_size, checksum_file(store / name)]
    return store, files, held, intensity_map


def _open_levels0(plan: Plan) -> dict[str, StoredLevel]:
    return {quantity: StoredLevel(plan.partial, path_in_store(quantity)) for quantity in plan.quantities}


def _with_progress(config: Config, plan: Plan) -> Iterator[Shard]:
    total = len(shards(plan.shape, config.store.shard))
    label = f"stitch {plan.row.acquisition}"
    yield from track(
        nested(plan.shape, config.store.shard),
        label,
        total=total,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _integer_map(held: ShardReceipts) -> IntegerMap:
    """Return one map for all images but std: from the smallest to the largest value that any of them holds."""
    ranges = [pair for content in held.values() for quantity, pair in content["ranges"].items() if quantity != "std"]
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return {"scale": (high - low) / LARGEST_INTEGER or 1.0, "offset": low}


def _write_integers(config: Config, plan: Plan, store: Path, intensity_map: IntegerMap, held: ShardReceipts) -> tuple[Files, ShardReceipts]:
    files: Files = {}
    moved: ShardReceipts = {}
    sources = _open_levels0(plan)
    for quantity in plan.quantities:
        create_image(store, plan.shape, np.float32 if quantity == "std" else np.uint16, config.store, path_in_store(quantity))
    writers = {quantity: PyramidWriter(store, path_in_store(quantity)) for quantity in plan.quantities}
    for shard in _with_progress(config, plan):
        level0: Files = {}
        for quantity, source in sources.items():
            plane = source.read(shard.t, shard.c, shard.z, shard.y, shard.x)
            if quantity != "std":
                counts = np.rint((plane.astype(np.float64) - intensity_map["offset"]) / intensity_map["scale"])
                plane = counts.clip(0, LARGEST_INTEGER).astype(np.uint16)
            written = writers[quantity].write(shard, plane)
            prefix = f"{path_in_store(quantity)}/0/".removeprefix("/")
            level0 |= {name: value for name, value in written.items() if name.startswith(prefix)}
            files |= written
        moved[shard.index] = {**held[shard.index], "files": level0}
    return files, moved


def _describe(config: Config, plan: Plan, model: DescribedModel, quantity: str, intensity_map: IntegerMap | None, store: Path) -> ImageInfo:
    raw = open_image(paths.raw_store(config, plan.row.acquisition))
    y, x = raw.attrs["pixel_size_um"]
    pixel = (y / config.model.scale, x / config.model.scale)
    facts: dict[str, Any] = {
        "quantity": quantity,
        "model": model.name,
        "objective": model.spec.objective,
        "weights_sha256": model.weights_sha256,
        "fingerprint": plan.fingerprint,
        "pixel_size_source": plan.row.pixel_size_source,
        **{name: value for name in ("z_step_source", "assumed") if (value := getattr(plan.row, name))},
        "scale": config.model.scale,
    }
    if (mosaic := raw.attrs["cvdm"].get(MOSAIC)) is not None:  # where, in pixels of the input, something was acquired
        places = [{axis: field[axis] for axis in "yx"} for field in mosaic["fields"]]
        facts[MOSAIC] = {"covered": mosaic["covered"], "field_shape": mosaic["field_shape"], "fields": places}
    if model.spec.objective == "diffusion":
        facts |= config.sampling.model_dump(mode="json", include={"seed", "samples", "steps", "method", "quantiles"}) | {"std_ddof": 1}
    if intensity_map is not None and quantity != "std":
        facts["intensity_map"] = intensity_map
    return ImageInfo(
        name=plan.row.acquisition if quantity == "mean" else f"{plan.row.acquisition} {quantity}",
        pixel_size_um=pixel,
        channels=plan.row.channels,
        windows=display_windows(store, path_in_store(quantity)),
        z_step_um=raw.attrs.get("z_step_um"),
        time_step_s=raw.attrs.get("time_step_s"),
        origin_um=target_origin_um(pixel, config.model.scale),
        attributes=facts,
    )
