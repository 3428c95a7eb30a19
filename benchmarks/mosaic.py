"""How exactly simulated mosaics are put together, what that costs, and what fusing them costs in time and memory.

    python benchmarks/mosaic.py accuracy          # error over the play of the stage, the light and uneven illumination
    python benchmarks/mosaic.py fusion            # CPU seconds and peak memory of reading every shard, for two sizes of mosaic

Errors are distances of a field's place from the truth, of all fields of 5x5, where all together lie best [pixels], before and after
rounding to whole pixels. Each row of `fusion` is a process of its own; the file is made before it is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cvdm_core.errors import UserError
from cvdm_core.images.fields import open_fields
from cvdm_core.images.mosaic import Mosaic, MosaicPlanes
from cvdm_core.images.mosaic_arrangement import arrange
from cvdm_core.images.tiles import shards
from cvdm_core.simulation.mosaic import simulate_mosaic, write_mosaic

PIXEL = 0.1
CASES = ({}, {"jitter": 1.0}, {"jitter": 6.0}, {"photons": 6.0}, {"photons": 2.0}, {"uneven": 0.4}, {"overlap": 0.2, "jitter": 12.0})


def accuracy(seeds: int, edge: int) -> None:
    print("| jitter [px] | overlap | photons | uneven | fields | measured overlaps | largest error [px] | on whole pixels | CPU [s] |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        values = {"jitter": 3.0, "overlap": 0.1, "photons": 60.0, "uneven": 0.0} | case
        exact, whole, used, count, seconds, refused = 0.0, 0.0, 0, 0, 0.0, 0
        for seed in range(seeds):
            sim = simulate_mosaic((5, 5), edge, seed=seed, **values)
            with tempfile.TemporaryDirectory() as folder:
                write_mosaic(Path(folder) / "scan.ome.tif", sim.fields, sim.stage * PIXEL, PIXEL)
                with open_fields(Path(folder) / "scan.ome.tif") as fields:
                    begin = time.process_time()
                    try:
                        found = arrange(fields, {name: stage for name, stage in fields.stages.items() if stage}, PIXEL, "+x+y")
                    except UserError:
                        refused += 1
                        continue
                    seconds += time.process_time() - begin
            places = np.array([field.moved_px for field in found.fields]) + sim.stage
            exact = max(exact, _error(places, sim.corners))
            whole = max(whole, _error(np.array([(field.y, field.x) for field in found.fields], float), sim.corners))
            used += sum(pair.state == "measured" for pair in found.overlaps)
            count += len(found.overlaps)
        done = max(seeds - refused, 1)
        print(
            "| " + " | ".join(f"{values[name]:g}" for name in ("jitter", "overlap", "photons", "uneven")) + f" | {25 * done} | "
            f"{used} of {count} | "
            f"{exact:.3f} | {whole:.3f} | {seconds / done:.1f} |" + (f" ({refused} refused)" if refused else ""),
            flush=True,
        )


def _error(places: np.ndarray, corners: np.ndarray) -> float:
    off = (places - places.mean(axis=0)) - (corners - corners.mean(axis=0))
    return float(np.hypot(*off.T).max())


def fusion(edge: int) -> None:
    print("| fields | canvas | megapixels | CPU [s] | megapixels a CPU-second | peak memory before and after [MiB] |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for grid in (4, 8):
        with tempfile.TemporaryDirectory() as folder:
            sim = simulate_mosaic((1, 1), edge)
            step = round(edge * 0.9)
            stage = np.array([(row * step, column * step) for row in range(grid) for column in range(grid)], float)
            write_mosaic(Path(folder) / "scan.ome.tif", np.repeat(sim.fields, grid**2, axis=0), stage * PIXEL, PIXEL)
            subprocess.run([sys.executable, __file__, "fuse", folder, str(grid)], check=True)


def fuse(folder: Path, grid: int) -> None:
    with open_fields(folder / "scan.ome.tif") as fields:
        shape = fields.header.shape[3:]
        step = round(shape[0] * 0.9)
        placed = _placed(grid, step)
        canvas = (step * (grid - 1) + shape[0],) * 2
        mosaic = Mosaic(canvas, shape, "+x+y", "stated", (0, 0), None, None, 1.0, "", (), placed, ())
        planes = MosaicPlanes(fields, mosaic)
        before, begin = _peak_mb(), time.process_time()
        total = 0
        for shard in shards(planes.header.shape, 1024):
            total += int(planes.read(shard.t, shard.c, shard.z, shard.y, shard.x)[0, 0])
        spent = time.process_time() - begin
        pixels = canvas[0] * canvas[1] / 1e6
        size = f"{canvas[0]} x {canvas[1]} | {pixels:.1f}"
        print(f"| {grid}x{grid} of {shape[0]}² | {size} | {spent:.2f} | {pixels / spent:.0f} | {before:.0f}, {_peak_mb():.0f} |")


def _peak_mb() -> float:
    """Return this process's peak of resident memory; `ru_maxrss` would be that of its parent where that is larger."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _placed(grid: int, step: int) -> tuple:
    from cvdm_core.images.mosaic import PlacedField

    places = [(row * step, column * step) for row in range(grid) for column in range(grid)]
    return tuple(PlacedField(str(number), y, x, (0.0, 0.0), (0.0, 0.0), "overlap") for number, (y, x) in enumerate(places))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "fusion", "fuse"))
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--edge", type=int, default=0, help="of a field [pixels]; default: 256 for accuracy, 1024 for fusion")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if given.what == "accuracy":
        accuracy(given.seeds, given.edge or 256)
    elif given.what == "fusion":
        fusion(given.edge or 1024)
    else:
        fuse(Path(given.rest[0]), int(given.rest[1]))
