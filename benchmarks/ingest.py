"""What ingest costs, against other ways from TIFF to OME-Zarr and against what cannot be avoided.

    python benchmarks/ingest.py --folder /scratch --others OTHERS/bin/python [--sets plane stack files] [--runs 5] [--slow-runs 3] [--small]

OTHERS is an environment with tensorstore, ngff-zarr, ome-zarr, bioio-ome-zarr, bioio-tifffile, tifffile, imagecodecs, zarr and
dask[array]. Every way runs in a process of its own, one after another, in turn (so that a slow minute hits all). CPU seconds (user +
system, of the process and its children, one thread where a way lets one choose) and peak resident memory are medians, of the whole process
and of what comes after its imports. Level 0 is read back and compared with the TIFF once for each way.

All have the same shards (1024 pixels), chunks (256 pixels), levels and 2x2 means, and where a way lets one choose the same codec (blosc,
zstd level 1, bitshuffle, a chunk in one piece); bioio and ngff-zarr choose theirs. cvdm and tensorstore add a CRC-32C to every chunk and
sync every file to the disk; the others do neither.

All stores but two have the axes (plane, Y, X) and shards of one plane; cvdm and "tensorstore-tczyx" write (T, C, Z, Y, X), where small
planes share a shard.
"cvdm" is the whole stage: registration, header checks, checksums of all that is read and written, pyramid, receipt, validation. "hashes"
is what the checksums in it cost, which no other way takes. "floor" is the least that any way must do: read the bytes, compress every
level, write the result; it makes a pyramid too, but that is not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

WAYS = Path(__file__).with_name("ingest_ways.py")
OWN = ("floor", "cvdm", "hashes")
OTHER = ("tensorstore", "tensorstore-tczyx", "ngff-zarr", "ome-zarr", "bioio")
SLOW = OTHER[2:]
PARTS = ("floor", "hashes")  # of which a part of the process counts, and which leave no store
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1")


def make_plane(path: Path, edge: int) -> None:
    """Write a tiled uint16 plane of structure under Poisson noise."""
    tifffile.imwrite(path, _tiles(edge), shape=(edge, edge), dtype=np.uint16, tile=(512, 512), bigtiff=True, **_described("YX"))


def make_stack(path: Path, planes: int, edge: int) -> None:
    """Write a stack, one page a plane."""
    images = (_texture(edge, number) for number in range(planes))
    tifffile.imwrite(path, images, shape=(planes, edge, edge), dtype=np.uint16, bigtiff=True, **_described("ZYX"))


def make_files(folder: Path, count: int, edge: int) -> None:
    """Write one small TIFF a time point."""
    folder.mkdir()
    for number in range(count):
        tifffile.imwrite(folder / f"image_T{number:04d}.tif", _texture(edge, number))


def _texture(edge: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:edge, :edge].astype(np.float32)
    return random.poisson(120 + 100 * np.sin(y / 9) * np.sin(x / 11), (edge, edge)).astype(np.uint16)


def _tiles(edge: int) -> object:
    several = [_texture(512, seed) for seed in range(16)]
    return (several[number % len(several)] for number in range((edge // 512) ** 2))


def _described(axes: str) -> dict[str, object]:
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.1, "PhysicalSizeYUnit": "µm"}
    return {"ome": True, "metadata": {"axes": axes, **sizes, **({"PhysicalSizeZ": 0.3, "PhysicalSizeZUnit": "µm"} if "Z" in axes else {})}}


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the whole process and of the work after its imports, and peak resident memory [MB]."""

    whole: float
    work: float
    memory: float


def run(python: str, way: str, kind: str, source: Path, out: Path) -> Cost:
    """Run one way in a process of its own."""
    command = [python, str(WAYS), way, kind, str(source), str(out)]
    with subprocess.Popen(
        command, env={**os.environ, **SINGLE, "PYTHONPATH": str(WAYS.parents[1])}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way} on {kind} ended with status {process.returncode}")
    work = float(printed.split()[-1])
    return Cost(work if way in PARTS else usage.ru_utime + usage.ru_stime, work, usage.ru_maxrss / 1024)


def emptied(folder: Path) -> None:
    """Free the space of a result but keep its files until the end.

    ext4 searches for new inodes among those that were freed in the last minutes, which cost the next way up to half of its time.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def compare(given: argparse.Namespace, kind: str, source: Path, out: Path) -> dict[str, list[Cost]]:
    """Run every way as often as is asked for, in turn; check each one's pixels once."""
    ways = [way for way in given.ways if way in OWN or given.others]
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for number in range(given.runs):
        for way in ways:
            if way in SLOW and number >= given.slow_runs:
                continue
            python = sys.executable if way in OWN else given.others
            place = out / f"{number}.{'cvdm' if way == 'hashes' else way}"
            place.mkdir(parents=True, exist_ok=True)
            cost = run(python, way, kind, source, place)
            costs[way].append(cost)
            print(f"  {kind} {way}: {cost.whole:.2f} CPU-s, {cost.work:.2f} of work, {cost.memory:.0f} MB", file=sys.stderr, flush=True)
            if number == 0 and way not in PARTS:
                subprocess.run([python, str(WAYS), "check", kind, str(source), str(place)], check=True, stdout=subprocess.DEVNULL)
            if way != "cvdm" or "hashes" not in ways:
                emptied(place)
    return costs


def table(kind: str, costs: dict[str, list[Cost]]) -> str:
    """Return medians as a table."""
    middle = {
        way: [statistics.median(getattr(cost, name) for cost in values) for name in ("whole", "work", "memory")]
        for way, values in costs.items()
    }
    own = middle.get("cvdm", [float("nan")] * 3)
    rows = [
        f"| {way} | {whole:.2f} | {whole / own[0]:.2f} | {work:.2f} | {work / own[1]:.2f} | {memory:.0f} | {len(costs[way])} |"
        for way, (whole, work, memory) in middle.items()
    ]
    head = f"| {kind} | CPU-s | cvdm = 1 | without imports | cvdm = 1 | peak MB | runs |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where there is room for twice the largest image")
    parser.add_argument("--others", help="python of the environment with the other libraries")
    parser.add_argument("--sets", nargs="+", choices=["plane", "stack", "files"], default=["plane", "stack", "files"])
    parser.add_argument("--ways", nargs="+", choices=[*OWN, *OTHER], default=[*OWN, *OTHER])
    parser.add_argument("--gigabytes", type=float, default=2, help="size of the plane")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow-runs", type=int, default=5, help="runs of ngff-zarr, ome-zarr and bioio")
    parser.add_argument("--small", action="store_true", help="a sixteenth of the pixels, to try it out")
    given = parser.parse_args()
    small = 4 if given.small else 1
    for kind in given.sets:
        source, out = given.folder / f"ingest_{kind}{'' if kind == 'files' else '.ome.tif'}", given.folder / f"ingest_out_{kind}"
        shutil.rmtree(source, ignore_errors=True) if source.is_dir() else source.unlink(missing_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        if kind == "plane":
            make_plane(source, 512 * int((given.gigabytes * 2**29) ** 0.5 / 512 / small))
        elif kind == "stack":
            make_stack(source, 200 // small, 1600 // (2 if given.small else 1))
        else:
            make_files(source, 2000 // small**2, 512)
        print(f"\n{table(kind, compare(given, kind, source, out))}", flush=True)
        shutil.rmtree(source) if source.is_dir() else source.unlink()
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
