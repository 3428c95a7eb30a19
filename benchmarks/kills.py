"""SIGKILL at random moments of `cvdm ingest` and `cvdm stitch`, then once to the end: is anything lost, changed or left over?

    python benchmarks/kills.py [--megabytes 1024] [--kills 100] [--folder DIR] [--seed 0]

One image of uint16 is ingested; then shards of random float32 pixels of the same extent stand in for the sampler's, and are stitched.
Each stage first runs undisturbed, which says how long it takes and what it must leave. Every killed run is a process of its own,
forked after the imports, so that kills fall into the work. Figures are printed; the exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from restoration_world import NAME, make_config, write_model
from store_tree import row_of

from cvdm_core import paths
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import Config
from cvdm_core.images.tiles import Shard, n_blocks, shards
from cvdm_core.images.validation import validate
from cvdm_core.model.folder import load_model
from cvdm_core.records.verify import folder_checksums, verify
from cvdm_core.restoration.plan import make_plan
from cvdm_core.restoration.sample import ShardRestorer, sample_block
from cvdm_core.restoration.stitch import stitch
from cvdm_core.sheet import find_acquisition, write_sheet

Files = dict[str, list[object]]
BAND = 1024


def counts(row: int, rows: int, edge: int) -> np.ndarray:
    """Pixels of the input from one row on: a gradient with Poisson noise, as compressible as a camera's."""
    return np.random.default_rng(row).poisson(200 + np.arange(edge) % 997, (rows, edge)).astype(np.uint16)


def tiles(edge: int) -> Iterator[np.ndarray]:
    """Yield the input's tiles, row by row."""
    for row in range(0, edge, BAND):
        band = counts(row, min(BAND, edge - row), edge)
        yield from (band[:, left : left + BAND] for left in range(0, edge, BAND))


def restored(_: object, shard: Shard) -> dict[str, np.ndarray]:
    """What the sampler is supposed to have said about a shard."""
    return {"mean": np.random.default_rng(shard.index).normal(500, 50, shard.shape).astype(np.float32)}


def make_world(folder: Path, edge: int) -> Config:
    """Write TIFF, sheet, configuration and a model; nothing is ingested yet."""
    tiff = folder / "in.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.1, "PhysicalSizeYUnit": "µm"}
    options = {"tile": (BAND, BAND), "compression": "zlib", "bigtiff": True, "ome": True, "metadata": metadata}
    tifffile.imwrite(tiff, tiles(edge), shape=(edge, edge), dtype=np.uint16, **options)
    store = {"chunk": 256, "shard": 1024}
    config = make_config(folder, store=store, model={"scale": 1}, sampling={"samples": 1, "keep_samples": 0, "shards_per_job": 10**6})
    write_sheet(config.acquisitions, {NAME: row_of(NAME, tiff)})
    write_model(config)
    return config


def run(work: Callable[[], None], seconds: float | None = None) -> tuple[bool, float]:
    """Run in a child, which is killed after so many seconds; return whether it was killed, and how long it ran."""
    begin = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)  # its number is ours until we have waited for it
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True, time.perf_counter() - begin
    if os.WEXITSTATUS(status):
        raise SystemExit("a stage that nobody had killed failed")
    return False, time.perf_counter() - begin


def left(folder: Path) -> Files:
    """Return bytes and checksum of everything below a folder but receipts, which hold times."""
    files: Files = folder_checksums(folder)["files"]
    receipts = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json") if path.name in ("ingest.json", "stitch.json")}
    return {name: ["receipt"] if name in receipts else value for name, value in files.items()}


def disturb(name: str, config: Config, store: Path, work: Callable[[], None], kills: int, chance: random.Random) -> list[str]:
    """Run a stage undisturbed, then from the same start with kills; return what is wrong at the end."""
    results, start = Path(config.results), Path(config.results).with_name("start")
    shutil.copytree(results, start) if results.exists() else start.mkdir()
    _, duration = run(work)
    wanted = left(results)
    problems: list[str] = []
    done = ended = begun = 0
    again = True
    while done < kills:
        if again:
            shutil.rmtree(results)
            shutil.copytree(start, results)
        killed, _ = run(work, chance.uniform(0, duration))
        done, ended, again = done + killed, ended + (not killed), not killed
        begun += any(results.glob(f"{NAME}/**/*.partial"))
        if store.exists():
            validate(store)
    run(work)
    shutil.rmtree(start)
    found = left(results)
    problems += [f"{name}: {path} is left over" for path in sorted(found.keys() - wanted.keys())]
    problems += [f"{name}: {path} is missing" for path in sorted(wanted.keys() - found.keys())]
    problems += [f"{name}: {path} has other bytes" for path in sorted(wanted.keys() & found.keys()) if wanted[path] != found[path]]
    problems += [f"{name}: verify says {problem}" for problem in verify([results], validate)]
    print(
        f"{name}: {duration:.1f} s undisturbed; killed {done} times ({begun} with a partial store or file on disk; {ended} runs had ended "
        f"before); then {len(found)} files, {len(problems)} problems",
        *problems,
        sep="\n",
        flush=True,
    )
    return problems


def differing_pixels(array: zarr.Array, expected: Callable[[Shard], np.ndarray]) -> int:
    """Count the stored pixels that are not what they were meant to be."""
    return sum(int((np.asarray(array[0, 0, 0, piece.y, piece.x]) != expected(piece)).sum()) for piece in shards(array.shape, BAND))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the ingested image; the restored one has twice as many")
    parser.add_argument("--kills", type=int, default=100, help="for each stage")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's folder for temporary files)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    edge = int((options.megabytes * 2**20 / 2) ** 0.5)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        config = make_world(Path(name), edge)
        print(f"{edge} x {edge} pixels, {options.kills} kills of each stage", flush=True)
        raw = paths.raw_store(config, NAME)
        problems = disturb("ingest", config, raw, lambda: ingest(config, NAME), options.kills, chance)

        plan = make_plan(config, find_acquisition(config.acquisitions, NAME), load_model(paths.model_folder(config)))
        ShardRestorer.restore = restored  # type: ignore[method-assign, assignment]
        for block in range(n_blocks(plan.shape, config.store.shard, config.sampling.shards_per_job)):
            sample_block(config, NAME, block)
        final = paths.restored_store(config, NAME)
        problems += disturb("stitch", config, final, lambda: stitch(config, NAME), options.kills, chance)

        bad = differing_pixels(zarr.open_array(raw / "0", mode="r"), lambda piece: counts(piece.y.start, piece.shape[0], edge)[:, piece.x])
        bad += differing_pixels(zarr.open_array(final / "0", mode="r"), lambda piece: restored(None, piece)["mean"])
    print(f"{bad} pixels differ", flush=True)
    return bool(problems or bad)


if __name__ == "__main__":
    sys.exit(main())
