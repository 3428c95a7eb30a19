"""A tiny facility: TIFFs of 64 x 64 pixels with targets of 128 x 128, a network that trains in seconds, and Snakemake to run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import yaml
from dry_runs import dry_run

from cvdm_core.config import merge
from cvdm_core.sheet import Acquisition, read_sheet, write_sheet

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LOCAL = ("--profile", f"{ROOT}/profiles/local")
NO_SLURM = Path(__file__).with_name("no_slurm")

TINY = {
    "restore": ["test", "predict"],
    "store": {"chunk": 64, "shard": 64},
    "model": {"name": "tiny", "denoiser": {"base_channels": 8, "multipliers": [1, 2]}, "schedule": {"base_channels": 4}},
    "training": {"steps": 20, "batch": 2, "crop": 32, "warmup_steps": 2, "validate_every": 20, "save_every": 10},
    "sampling": {"samples": 2, "steps": 2, "halo": 16, "tile": 64, "shards_per_job": 2},
    "evaluation": {"richardson_lucy_iterations": 2},
}


@dataclass(frozen=True)
class Facility:
    """A working directory with configuration, sheet and TIFFs."""

    folder: Path

    @property
    def sheet(self) -> Path:
        return self.folder / "config/acquisitions.tsv"

    def configure(self, **changes: object) -> None:
        """Write the tiny configuration with changes laid over it."""
        path = self.folder / "config/config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(merge(TINY, changes)), encoding="utf-8")

    def acquire(self, name: str, split: str, target: bool = True, file: str = "") -> Path:
        """Write the TIFFs of an acquisition and its row of the sheet, unmeasured; return the input's path."""
        truth = _spots(seed=len(name) * 100 + sum(map(ord, name)))
        paths = [self.folder / "raw" / (file or f"{name}.tif"), self.folder / "raw" / f"{name}_target.tif"]
        _write_tiff(paths[0], truth.reshape(64, 2, 64, 2).mean((1, 3)) + 100, pixel_size_um=0.1)
        if target:
            _write_tiff(paths[1], truth + 100, pixel_size_um=0.05)
        rows = read_sheet(self.sheet) if self.sheet.exists() else {}
        relative = [str(path.relative_to(self.folder)) for path in paths]
        row = Acquisition.model_validate(
            {"acquisition": name, "specimen": name, "split": split, "input": relative[0], "target": relative[1] if target else ""}
        )
        write_sheet(self.sheet, {**rows, name: row})
        return paths[0]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command in the folder."""
        return {**os.environ, "PATH": f"{NO_SLURM}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in the folder."""
        return subprocess.run(
            [BIN / command, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=850,
            check=False,
        )

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with the local profile."""
        return self.run("snakemake", "--snakefile", f"{ROOT}/Snakefile", *LOCAL, *arguments, **environment)

    def dry_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Let Snakemake plan without a profile (the local one hides the rules, and with them the table of jobs)."""
        return dry_run(self.folder, ["--snakefile", f"{ROOT}/Snakefile", *arguments], self.environment)

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return how many jobs of each rule a dry run plans."""
        return jobs_in(self.dry_run(*arguments))

    def copy(self, folder: Path) -> Facility:
        """Return the same facility elsewhere, with Snakemake's memory and all modification times."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Facility(folder)


def jobs_in(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many jobs of each rule a dry run has planned."""
    assert result.returncode == 0, result.stdout + result.stderr
    table = (result.stdout + result.stderr).partition("Job stats:")[2].partition("\n\n")[0]
    counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
    return {rule: count for rule, count in counts.items() if rule not in ("all", "total")}


def _spots(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:128, :128]
    image = np.zeros((128, 128))
    for row, column, height in zip(*generator.uniform(0, 128, (2, 40)), generator.uniform(200, 2000, 40), strict=True):
        image += height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return generator.poisson(image).astype(float)


def _write_tiff(path: Path, image: np.ndarray, pixel_size_um: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    resolution = (1 / pixel_size_um, 1 / pixel_size_um)
    tifffile.imwrite(path, image.round().astype(np.uint16), imagej=True, resolution=resolution, metadata={"unit": "um", "axes": "YX"})
