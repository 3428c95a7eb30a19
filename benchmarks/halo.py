"""How much context a shard needs: difference to the image restored whole, for each halo, and what the halo costs.

    python benchmarks/halo.py --model models/cvdm
    python benchmarks/halo.py                          # default network with random weights
    python benchmarks/halo.py --precision bfloat16     # what the split into shards costs there, and the distance to float32

One synthetic plane is restored whole, and in shards that see `halo` pixels of context, with the same noise at every pixel. Differences are
relative to the data range of the whole image; `pixels` is how many pixels the network computes for each pixel that is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cvdm_core.images.tiles import shards, with_halo
from cvdm_core.model import ModelSpec, NoiseField, Restorer, build_model, resolve_precision
from cvdm_core.model.folder import load_model
from cvdm_core.restoration.regions import RegionModel

HALOS = (0, 16, 32, 64, 96, 128)
FIELD = NoiseField(0, "halo", "benchmark")


def random_network() -> Restorer:
    """Return the default network; the layers that are zero before training are drawn at random, so that every path counts."""
    restorer = build_model(ModelSpec(), 0)
    generator = torch.Generator().manual_seed(0)
    for name, weights in restorer.named_parameters():
        if not weights.any():
            weights.data = torch.randn(weights.shape, generator=generator) * (0.3 if "weight" in name else 0.05)
    return restorer.eval().requires_grad_(False)


def plane(edge: int) -> torch.Tensor:
    """Return a normalised picture of blurred puncta and filaments under Poisson noise, (Y, X)."""
    random = np.random.default_rng(0)
    spots = gaussian_filter((random.random((edge, edge)) > 0.995) * 1.0, 2.5)
    stripes = np.abs(np.sin(np.add.outer(np.arange(edge), 0.6 * np.arange(edge)) / 23)) > 0.99
    lines = gaussian_filter(stripes * 1.0, 2.0)
    counts = random.poisson(20 + 3000 * spots + 200 * lines)
    return torch.from_numpy(((counts - counts.mean()) / counts.std()).astype(np.float32))


def restore(
    restorer: Restorer, condition: torch.Tensor, shard: int, halo: int, steps: int, tile: int, dtype: torch.dtype
) -> tuple[NDArray[np.float32], float]:
    """Return the restored plane, and the pixels computed for each pixel kept."""
    size = condition.shape[0]
    result = np.empty((size, size), np.float32)
    times = restorer.times(steps)
    computed = 0
    for part in shards((1, 1, 1, size, size), shard):
        y, x = (with_halo(pixels, halo, size, restorer.stride) for pixels in (part.y, part.x))

        def noise(step: int, y: slice = y, x: slice = x) -> torch.Tensor:
            return torch.from_numpy(FIELD.normal(0, step, 0, 0, y, x))[None, None]

        drawn = RegionModel(restorer, condition[y, x], tile, dtype).sample(noise, times, "ancestral")[0, 0].numpy()
        result[part.y, part.x] = drawn[part.y.start - y.start : part.y.stop - y.start, part.x.start - x.start : part.x.stop - x.start]
        computed += drawn.size
    return result, computed / size**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder; without it, random weights")
    parser.add_argument("--edge", type=int, default=768, help="edge of the plane [pixels]")
    parser.add_argument("--shard", type=int, default=256, help="edge of a shard [pixels]; the inner ones have a halo on all sides")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    dtype = resolve_precision(options.precision, torch.device("cpu"))
    torch.set_num_threads(1)
    restorer = load_model(options.model).restorer if options.model else random_network()
    condition = plane(options.edge)
    whole, _ = restore(restorer, condition, options.edge, 0, options.steps, options.edge, dtype)
    data_range = float(np.ptp(whole))
    print(
        f"{options.model or 'random weights'}: receptive field {restorer.receptive_field} px, {options.steps} steps, range {data_range:.3g}"
    )
    print("| halo | largest difference / range | rms difference / range | pixels |\n|---|---|---|---|")
    for halo in HALOS:
        cut, cost = restore(restorer, condition, options.shard, halo, options.steps, options.edge, dtype)
        difference = np.abs(cut - whole) / data_range
        print(f"| {halo} | {difference.max():.1e} | {np.sqrt((difference**2).mean()):.1e} | {cost:.2f} |", flush=True)
    for tile in (128, 200):
        tiled, _ = restore(restorer, condition, options.edge, 0, options.steps, tile, dtype)
        print(f"tiles of {tile} px inside one shard: largest difference / range {np.abs(tiled - whole).max() / data_range:.1e}")
    if options.precision != "float32":
        exact, _ = restore(restorer, condition, options.edge, 0, options.steps, options.edge, torch.float32)
        print(f"whole image against float32: largest difference / range {np.abs(whole - exact).max() / data_range:.1e}")


if __name__ == "__main__":
    main()
