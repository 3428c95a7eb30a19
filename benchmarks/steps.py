"""How many denoising steps are enough? Samplers and step counts against 200 steps, on pairs with truth.

    python benchmarks/steps.py --config config/config.yaml [--split val] [--steps 3 5 10 20 200] [--edge 256]

PSNR alone rewards blur, so three things are judged together: scale-invariant PSNR of one sample and of the mean, power of one sample
between 0.15 and 0.35 cycles a pixel over the truth's, and spread / error (predicted spread over root mean square error, after the affine
fit and corrected for the number of samples; 1 is calibrated, below 1 over-confident). The rule: the smallest number of steps that is no
worse than 200 in PSNR (of the mean), whose high-frequency power is within 5 % of the truth's, and that is no less calibrated.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cvdm_core import paths
from cvdm_core.config import Config, load
from cvdm_core.images.reading import open_image
from cvdm_core.images.tiles import Shard
from cvdm_core.model.folder import load_model
from cvdm_core.quality.reference import Moments, psnr
from cvdm_core.quality.resolution import BandPower
from cvdm_core.quality.uncertainty import finite_sample_factor
from cvdm_core.restoration.plan import make_plan
from cvdm_core.restoration.shard import ShardRestorer
from cvdm_core.sheet import Acquisition, read_sheet

CONSOLE = Console(stderr=True)


def crops(row: Acquisition, scale: int, edge: int) -> list[Shard]:
    """Return the middle of the first plane of each channel, as if it were a shard."""
    _, size_c, _, height, width = row.restored_shape(scale)
    y, x = (max(0, (size - edge) // 2) // 16 * 16 for size in (height, width))
    return [Shard(c, 0, c, 0, slice(y, min(height, y + edge)), slice(x, min(width, x + edge))) for c in range(size_c)]


def measure(config: Config, rows: list[Acquisition], edge: int) -> dict[str, float]:
    """Return the figures of one setting of `config.sampling`, means over the crops."""
    model = load_model(paths.model_folder(config))
    figures: dict[str, list[float]] = {"sample": [], "mean": [], "power": [], "spread / error": []}
    for row in rows:
        restorer = ShardRestorer.of(config, make_plan(config, row, model), model)
        target = open_image(paths.target_store(config, row.acquisition))
        for shard in crops(row, config.model.scale, edge):
            truth = target[shard.t, shard.c, shard.z, shard.y, shard.x].values.astype(np.float32)
            planes = restorer.restore(shard)
            moments = {}
            for name in ("sample_0", "mean"):
                moments[name] = Moments()
                moments[name].add(planes[name], truth)
                figures["sample" if name == "sample_0" else name].append(psnr(moments[name].fitted_mse, float(np.ptp(truth))))
            power = [BandPower() for _ in range(2)]
            for band, image in zip(power, (planes["sample_0"], truth), strict=True):
                band.add(image)
            gain = moments["mean"].fit[0] if model.info.get("intensities") == "relative" else 1.0  # as `cvdm evaluate` has it
            figures["power"].append(gain * gain * power[0].power / power[1].power)
            spread = float(np.sqrt(np.mean(planes["std"] ** 2))) * finite_sample_factor(config.sampling.samples, ddof=1)
            figures["spread / error"].append(moments["mean"].fit[0] * spread / math.sqrt(moments["mean"].fitted_mse))
    return {name: float(np.mean(values)) for name, values in figures.items() if values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append", required=True)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--split", default="val")
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 4, 5, 7, 10, 20, 50, 200])
    parser.add_argument("--methods", nargs="+", default=["ancestral"])
    parser.add_argument("--edge", type=int, default=256)
    parser.add_argument("--limit", type=int, default=4, help="acquisitions to look at")
    given = parser.parse_args()
    base = load(given.config, given.overrides)
    rows = [row for row in read_sheet(base.acquisitions).values() if row.split == given.split and row.target][: given.limit]
    table = Table(title=f"{base.model.name}: {len(rows)} acquisitions of split {given.split}, {base.sampling.samples} samples")
    for heading in ("sampler", "steps", "one sample [dB]", "mean [dB]", "power ratio", "spread / error"):
        table.add_column(heading, justify="right")
    settings = [(method, steps) for method in given.methods for steps in given.steps]
    for method, steps in track(settings, console=CONSOLE, transient=True):
        config = load(given.config, [*given.overrides, f"sampling.steps={steps}", f"sampling.method={method}"])
        found = measure(config, rows, given.edge)
        table.add_row(method, str(steps), *(f"{found[name]:.2f}" for name in ("sample", "mean", "power", "spread / error")))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
