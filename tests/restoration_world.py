"""A small ingested acquisition and a model with random weights: what sampling and stitching are tested on.

The weights are drawn so that every layer matters: the network's last layer, and lambda's, are zero before training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, write_metadata
from cvdm_core.images.publishing import publish
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiles import n_blocks, shards
from cvdm_core.model import ModelSpec, Restorer, build_model
from cvdm_core.model.folder import load_model, save_model
from cvdm_core.records.receipts import fingerprint, stage
from cvdm_core.records.verify import folder_checksums
from cvdm_core.restoration.plan import Plan, make_plan
from cvdm_core.restoration.sample import sample_block
from cvdm_core.sheet import Acquisition, find_acquisition, write_sheet

NAME = "cells"
PIXEL_UM = 0.13
SPEC = {"denoiser": {"base_channels": 8, "multipliers": [1, 2], "unshuffle": 2}, "schedule": {"base_channels": 4}, "residual_std": 0.5}


def random_restorer(seed: int = 0, **changes: object) -> Restorer:
    """Return a network of realistic size of output, with a lambda that differs from pixel to pixel."""
    restorer = build_model(ModelSpec.from_dict({**SPEC, **changes}), seed).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, weights in restorer.named_parameters():
        if not weights.any():
            weights.copy_(torch.randn(weights.shape, generator=generator) * (0.3 if "weight" in name else 0.05))
    return restorer


def make_config(root: Path, **sections: dict[str, object]) -> Config:
    """Return a configuration below `root`, written to `config.yaml` there as well; sections are laid over small defaults."""
    values = {
        "acquisitions": str(root / "acquisitions.tsv"),
        "results": str(root / "results"),
        "models": str(root / "models"),
        "store": {"chunk": 16, "shard": 32, **sections.get("store", {})},
        "model": {"scale": 2, **sections.get("model", {})},
        "sampling": {"samples": 3, "steps": 2, "halo": 24, "tile": 64, "shards_per_job": 4, **sections.get("sampling", {})},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return parse(values, "a test")


def make_world(
    root: Path, size: tuple[int, int] = (40, 33), channels: tuple[str, ...] = ("actin",), **sections: dict[str, object]
) -> Config:
    """Write sheet, input store with its receipt, and model folder, as the stages before leave them; `size` is the input's (Y, X)."""
    root.mkdir(parents=True, exist_ok=True)
    config = make_config(root, **sections)
    shape = (1, len(channels), 1, *size)
    row = Acquisition(
        acquisition=NAME, specimen="s", split="test", input="in.tif", size_t=1, size_c=len(channels), size_z=1, size_y=size[0],
        size_x=size[1], dtype="uint16", pixel_size_um=PIXEL_UM, pixel_size_source="metadata", channels=channels,
    )  # fmt: skip
    write_sheet(config.acquisitions, {NAME: row})
    random = np.random.default_rng(1)
    pixels = (random.poisson(300 + 200 * np.sin(np.indices(shape).sum(axis=0) / 5))).astype(np.uint16)
    final = paths.raw_store(config, NAME)
    partial = final.with_suffix(".partial")
    create_image(partial, shape, np.uint16, config.store)
    writer = PyramidWriter(partial)
    for shard in shards(shape, config.store.shard):
        writer.write(shard, pixels[shard.t, shard.c, shard.z, shard.y, shard.x])
    windows = tuple((0.0, 1000.0) for _ in channels)
    write_metadata(partial, "", ImageInfo(NAME, (PIXEL_UM, PIXEL_UM), channels, windows))
    publish(partial, final)
    with stage(paths.ingest_receipt(config, NAME), "ingest", NAME, config.results) as receipt:
        receipt.wrote = {str(final): folder_checksums(final)}
    write_model(config)
    return config


def write_model(config: Config, **changes: object) -> None:
    """Write the model folder of a configuration."""
    folder = paths.model_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    restorer = random_restorer(**changes)
    maps = {"input": {"offset": 300.0, "scale": 150.0}, "target": {"offset": 100.0, "scale": 50.0}}
    save_model(folder, restorer, restorer.spec, {"*": maps}, {}, {"name": config.model.name, "scale": config.model.scale})


def content(store: Path) -> str:
    """Return a fingerprint of every byte of a store."""
    return fingerprint(folder_checksums(store))


def plan_of(config: Config) -> Plan:
    """Return the plan of the restoration."""
    return make_plan(config, find_acquisition(config.acquisitions, NAME), load_model(paths.model_folder(config)))


def restore_all(config: Config, order: int = 1) -> None:
    """Sample all blocks; with the order -1 the last one first."""
    blocks = range(n_blocks(plan_of(config).shape, config.store.shard, config.sampling.shards_per_job))
    for block in blocks[::order]:
        sample_block(config, NAME, block)


def flip_a_bit(path: Path) -> None:
    """Damage a file in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def names(config: Config) -> list[str]:
    """Return what lies in the folder of the restored acquisition."""
    return sorted(path.name for path in paths.restored_folder(config, NAME).iterdir())
