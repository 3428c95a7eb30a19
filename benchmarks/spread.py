"""How much of the true spread is left in posterior samples that are drawn in few steps, by a network without any error.

The residual of a pixel is normal with the standard deviation s, in units of the model's residual_std, and nothing more can be known of it.
Then the exact conditional mean of z = sqrt(gamma) r + sqrt(1 - gamma) noise is linear in z, and stands here in place of the network. The
sampler, its grid of times and the quantities are those of the workflow. What is too small in this table no training mends.

    python benchmarks/spread.py
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cvdm_core.model.sampler import draw, time_grid

SPREADS = (1.0, 0.3, 0.1)
STEPS = (5, 10, 20, 50, 200)


def gamma(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signal power of the cosine schedule; on the grid "cos" every schedule from noise to signal has the same levels."""
    return np.cos(np.pi / 2 * t) ** 2


def spread_left(steps: int, s: float, pixels: int) -> float:
    """Return the standard deviation of samples of normal residuals, as a share of the true one, `s`."""
    generator = torch.Generator().manual_seed(steps)
    times = time_grid(steps, gamma)
    levels = {t: torch.tensor(float(gamma(np.array(t)))) for t in times}

    def exact(z: Tensor, k: int) -> Tensor:
        level = levels[times[k]]
        return level.sqrt() * s**2 / (level * s**2 + 1 - level) * z

    sample = draw(exact, levels.__getitem__, times, lambda _: torch.randn(pixels, generator=generator))
    return float(sample.std()) / s


def spread_skill(left: float, samples: int) -> float:
    """Return the spread / error ratio of an ensemble whose members have `left` of the true spread around the true mean; 1 is calibrated."""
    return left * math.sqrt((1 + 1 / samples) / (1 + left**2 / samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8, help="posterior samples a pixel")
    parser.add_argument("--pixels", type=int, default=1_000_000)
    given = parser.parse_args()
    print("| steps | " + " | ".join(f"s = {s:g}: spread left | spread / error" for s in SPREADS) + " |")
    print("| ---: |" + " ---: | ---: |" * len(SPREADS))
    for steps in STEPS:
        left = [spread_left(steps, s, given.pixels) for s in SPREADS]
        print(f"| {steps} | " + " | ".join(f"{share:.2f} | {spread_skill(share, given.samples):.2f}" for share in left) + " |")


if __name__ == "__main__":
    main()
