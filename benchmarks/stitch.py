"""What stitch costs, against the bare gather, and how much memory it needs whatever the image.

    python benchmarks/stitch.py [--edge 33792] [--runs 3] [--folder DIR]

Level 0 of a float32 image lies there as block jobs leave it: whole shards of a texture under noise. "stitch" is the whole stage: settings
and weights checked, every shard's checksum, pyramid, seams, metadata, validation, receipt. "gather" is the least that makes an image of
pieces: read each shard, decode it, encode it, write it (level 0 alone, one after another, not synced), and nothing else. Each runs in a
process of its own, in turn; CPU seconds (user + system) are medians without the imports, memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from restoration_world import NAME, make_config, write_model

from cvdm_core import paths
from cvdm_core.config import Config, load
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, write_metadata
from cvdm_core.images.shards import encode_shard
from cvdm_core.images.stored import StoredLevel
from cvdm_core.images.tiles import Shard, n_blocks, shards
from cvdm_core.model.folder import load_model
from cvdm_core.records.receipts import stage
from cvdm_core.restoration.plan import make_plan
from cvdm_core.restoration.sample import ShardRestorer, sample_block
from cvdm_core.restoration.stitch import stitch
from cvdm_core.sheet import Acquisition, find_acquisition, write_sheet

SHARD, CHUNK = 1024, 256


def make_world(folder: Path, edge: int) -> Config:
    """Write sheet, model and an input of the right size without pixels, then the restored shards, as block jobs leave them."""
    store = {"chunk": CHUNK, "shard": SHARD}
    config = make_config(folder, store=store, model={"scale": 1}, sampling={"samples": 1, "keep_samples": 0, "shards_per_job": 64})
    row = Acquisition(
        acquisition=NAME, specimen="s", split="test", input="in.tif", size_t=1, size_c=1, size_z=1, size_y=edge, size_x=edge,
        dtype="uint16", pixel_size_um=0.1, pixel_size_source="metadata", channels=("actin",),
    )  # fmt: skip
    write_sheet(config.acquisitions, {NAME: row})
    raw = paths.raw_store(config, NAME)
    create_image(raw, row.shape, np.uint16, config.store)
    write_metadata(raw, "", ImageInfo(NAME, (0.1, 0.1), row.channels, ((0.0, 1000.0),)))
    with stage(paths.ingest_receipt(config, NAME), "ingest", NAME, config.results) as receipt:
        receipt.wrote = {str(raw): {"files": {}}}
    write_model(config)
    several = [np.random.default_rng(seed).normal(500, 50, (SHARD, SHARD)).astype(np.float32) for seed in range(8)]

    def restored(_: object, shard: Shard) -> dict[str, np.ndarray]:
        return {"mean": np.ascontiguousarray(several[shard.index % 8][: shard.shape[0], : shard.shape[1]])}

    ShardRestorer.restore = restored  # type: ignore[method-assign, assignment]
    for block in range(n_blocks(row.shape, SHARD, config.sampling.shards_per_job)):
        sample_block(config, NAME, block)
    return config


def gather(config: Config, folder: Path) -> None:
    """Read, decode, encode, write every shard of level 0."""
    plan = make_plan(config, find_acquisition(config.acquisitions, NAME), load_model(paths.model_folder(config)))
    level = StoredLevel(plan.partial)
    for shard in shards(plan.shape, SHARD):
        pixels = level.read(0, 0, 0, shard.y, shard.x)
        (folder / str(shard.index)).write_bytes(encode_shard(pixels[None, None], (1, 1), SHARD, CHUNK, config.store.compressor))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=33_792, help="of the image [pixels]")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where there is room for the image and each run's result")
    parser.add_argument("--part", choices=["world", "stitch", "gather"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "world":
        make_world(given.folder, given.edge)
    elif given.part:
        config = load([given.folder / "config.yaml"], ())
        out = given.folder / "gathered"
        out.mkdir(exist_ok=True)
        begin = time.process_time()
        stitch(config, NAME) if given.part == "stitch" else gather(config, out)
        spent = time.process_time() - begin
        print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        compare(given)


def compare(given: argparse.Namespace) -> None:
    """Run both in turn and print medians."""
    figures: dict[str, list[list[float]]] = {"gather": [], "stitch": []}
    for number in range(given.runs):
        with tempfile.TemporaryDirectory(dir=given.folder) as name:  # stitch moves the shards: a world of its own for every run
            run("world", Path(name), given.edge)
            for part in figures:
                figures[part].append([float(text) for text in run(part, Path(name), given.edge).split()[-2:]])
                print(f"run {number}: {part} {figures[part][-1][0]:.1f} CPU-s, {figures[part][-1][1]:.0f} MB", file=sys.stderr, flush=True)
    middle = {part: [statistics.median(column) for column in zip(*values, strict=True)] for part, values in figures.items()}
    print(f"\n| {given.edge} x {given.edge} float32 | CPU-s | gather = 1 | peak MB |\n| --- | ---: | ---: | ---: |")
    for part, (cpu, memory) in middle.items():
        print(f"| {part} | {cpu:.1f} | {cpu / middle['gather'][0]:.2f} | {memory:.0f} |")


def run(part: str, folder: Path, edge: int) -> str:
    """Run one part in a process of its own, in one thread; return what it printed."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), "--edge", str(edge)]
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.run(command, env={**os.environ, **single}, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
