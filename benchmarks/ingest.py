"""What ingest costs, against other ways from TIFF to OME-Zarr and against what cannot be avoided.

    python benchmarks/ingest.py --folder /scratch --others OTHERS/bin/python [--sets plane stack files] [--runs 5] [--small]

OTHERS is an environment with tensorstore, ngff-zarr, ome-zarr, bioio-ome-zarr, bioio-tifffile, tifffile, imagecodecs and zarr. Every way
runs in a process of its own, one after another, in turn (so that a slow minute hits all); CPU seconds (user + system, of the process and
its children) and peak resident memory are medians; level 0 is read back and compared with the TIFF once for each way. The same shards
(1024 pixels), chunks (256 pixels) and codec (blosc, zstd level 1, bitshuffle) where a way lets one choose.

"cvdm" is the whole stage: header checks, both hashes of every file, checksums, pyramid, receipt, validation. "floor" is the least that any
way must do: read the bytes, compress every level, write the result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile

WAYS = Path(__file__).with_name("ingest_ways.py")
OWN = ("floor", "cvdm")
OTHER = ("tensorstore", "ngff-zarr", "ome-zarr", "bioio")


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


def run(python: str, way: str, kind: str, source: Path, out: Path, check: bool) -> tuple[float, float]:
    """Run one way in a process of its own; return CPU seconds and peak memory [MB]."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [python, str(WAYS), way, kind, str(source), str(out)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way} on {kind} ended with status {process.returncode}")
    if check and way != "floor":
        subprocess.run([python, str(WAYS), "check", kind, str(source), str(out)], check=True)
    return float(printed) if way == "floor" else usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where there is room for twice the largest image")
    parser.add_argument("--others", help="python of the environment with the other libraries")
    parser.add_argument("--sets", nargs="+", choices=["plane", "stack", "files"], default=["plane", "stack", "files"])
    parser.add_argument("--ways", nargs="+", choices=[*OWN, *OTHER], default=[*OWN, *OTHER])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a sixteenth of the pixels, to try it out")
    given = parser.parse_args()
    small = 4 if given.small else 1
    ways = [way for way in given.ways if way in OWN or given.others]
    for kind in given.sets:
        source = given.folder / f"ingest_{kind}{'' if kind == 'files' else '.ome.tif'}"
        shutil.rmtree(source, ignore_errors=True) if source.is_dir() else source.unlink(missing_ok=True)
        if kind == "plane":
            make_plane(source, 32768 // small)
        elif kind == "stack":
            make_stack(source, 200 // small, 1600 // (2 if given.small else 1))
        else:
            make_files(source, 2000 // small**2, 512)
        figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(given.runs):
            for way in ways:
                python = sys.executable if way in OWN else given.others
                figures[way].append(run(python, way, kind, source, given.folder / "ingest_out", check=number == 0))
                print(f"  {kind} {way}: {figures[way][-1][0]:.2f} CPU-s, {figures[way][-1][1]:.0f} MB", file=sys.stderr, flush=True)
        own = statistics.median(cpu for cpu, _ in figures["cvdm"]) if "cvdm" in figures else float("nan")
        print(f"\n| {kind} | CPU-s | cvdm = 1 | peak MB |\n| --- | ---: | ---: | ---: |")
        for way, values in figures.items():
            cpu = statistics.median(value for value, _ in values)
            print(f"| {way} | {cpu:.2f} | {cpu / own:.2f} | {statistics.median(memory for _, memory in values):.0f} |")
        shutil.rmtree(source) if source.is_dir() else source.unlink()
        shutil.rmtree(given.folder / "ingest_out", ignore_errors=True)


if __name__ == "__main__":
    main()
