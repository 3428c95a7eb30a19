"""What a model makes of inputs that the gate calls unlike its training, and of those that it does not: the demo's, changed in known ways.

    make demo && python benchmarks/gate_harm.py --config config/config.yaml [--edge 256]

The truth is that of the unchanged input, so a change that takes information away lowers what anybody could restore; the spread / error
of the samples, which an honest model would keep at 1, tells whether the model knows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.ndimage import gaussian_filter
from steps import crops

from cvdm_core import paths
from cvdm_core.config import Config, load
from cvdm_core.images.intensity import upsample
from cvdm_core.images.reading import open_image
from cvdm_core.model.folder import load_model
from cvdm_core.quality.gate import compare_inputs
from cvdm_core.quality.planes import Plane, Stored
from cvdm_core.quality.reference import Moments, psnr
from cvdm_core.quality.uncertainty import finite_sample_factor
from cvdm_core.restoration.plan import make_plan
from cvdm_core.restoration.shard import ShardRestorer
from cvdm_core.sheet import Acquisition, read_sheet
from cvdm_core.simulation.microscope import Camera
from cvdm_core.training.inputs import measure_inputs
from cvdm_core.training.pairs import open_pairs

Image = NDArray[np.float32]
CAMERA = Camera()


def dimmer(share: float) -> Callable[[Image], Image]:
    """Return what leaves each electron in with a probability: a shorter exposure."""

    def change(image: Image) -> Image:
        electrons = np.maximum(np.rint((image - CAMERA.offset) / CAMERA.gain), 0).astype(int)
        return np.asarray(CAMERA.offset + CAMERA.gain * np.random.default_rng(0).binomial(electrons, share), np.float32)

    return change


def brighter(factor: float) -> Callable[[Image], Image]:
    """Return what multiplies all above the camera's offset: another gain."""
    return lambda image: np.asarray(CAMERA.offset + factor * (image - CAMERA.offset), np.float32)


def blurred(sigma: float) -> Callable[[Image], Image]:
    """Return a blur by a Gaussian along y and x, of images (T, C, Z, Y, X)."""
    return lambda image: np.asarray(gaussian_filter(image, (0, 0, 0, sigma, sigma)), np.float32)


def noisier(counts: float) -> Callable[[Image], Image]:
    """Return what adds normal noise."""
    return lambda image: np.asarray(image + np.random.default_rng(0).normal(0, counts, image.shape), np.float32)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "half the exposure": dimmer(0.5),
    "a fifth of the exposure": dimmer(0.2),
    "gain x 2": brighter(2),
    "gain x 4": brighter(4),
    "offset + 100": lambda image: image + 100,
    "noise of 10 counts more": noisier(10),
    "noise of 30 counts more": noisier(30),
    "blur, sigma 0.5 px": blurred(0.5),
    "blur, sigma 1 px": blurred(1),
    "blur, sigma 2 px": blurred(2),
}


def measure(config: Config, row: Acquisition, change: Callable[[Image], Image], edge: int) -> list[tuple[float, float, float, float]]:
    """Return for each channel the largest share outside the bounds, the PSNR of input and mean [dB], and spread / error."""
    model = load_model(paths.model_folder(config))
    told = model.info.get("inputs") or measure_inputs(
        open_pairs(config, read_sheet(config.acquisitions).values(), "train"), config.training.crop, config.training.seed
    )
    restorer = ShardRestorer.of(config, make_plan(config, row, model), model)
    restorer.raw = restorer.raw.copy(data=change(restorer.raw.values.astype(np.float32))).chunk()
    stored = Stored(paths.raw_store(config, row.acquisition))
    stored.array = restorer.raw
    target = open_image(paths.target_store(config, row.acquisition))
    found = []
    for shard in crops(row, config.model.scale, edge):
        channel = row.channels[shard.c]
        rows, _ = compare_inputs(channel, stored, [Plane(0, shard.c, 0)], told["window"], told["channels"][channel])
        truth = target[shard.t, shard.c, shard.z, shard.y, shard.x].values.astype(np.float32)
        planes = restorer.restore(shard)
        before = upsample(restorer.raw[shard.t, shard.c, shard.z].values, config.model.scale)[shard.y, shard.x]
        moments = [Moments(), Moments()]
        for each, image in zip(moments, (before, planes["mean"]), strict=True):
            each.add(image, truth)
        first, last = (psnr(each.fitted_mse, float(np.ptp(truth))) for each in moments)
        spread = float(np.sqrt(np.mean(planes["std"] ** 2))) * finite_sample_factor(config.sampling.samples, ddof=1)
        found.append((rows[0].value, first, last, abs(moments[1].fit[0]) * spread / math.sqrt(moments[1].fitted_mse)))
    return found


def main() -> None:
    """Print the means over the channels of all test acquisitions with a truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append", required=True)
    parser.add_argument("--edge", type=int, default=256)
    given = parser.parse_args()
    config = load(given.config, [])
    rows = [row for row in read_sheet(config.acquisitions).values() if row.split == "test" and row.target]
    table = Table("input", "largest share outside", "input [dB]", "mean [dB]", "gain [dB]", "spread / error")
    for name, change in track(CHANGES.items(), console=Console(stderr=True), transient=True):
        share, first, last, honest = np.mean([line for row in rows for line in measure(config, row, change, given.edge)], axis=0)
        table.add_row(name, *(f"{value:.2f}" for value in (share, first, last, last - first, honest)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
