"""The range that `psnr` is measured over: one for each channel of a model, so that its evaluations compare with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvdm_core.training.crops import CropPlaces
from cvdm_core.training.pairs import Pair

CROPS = 128
PERCENTILES = (0.1, 99.9)


def measure_truth_range(pairs: Sequence[Pair], crop: int, seed: int) -> dict[str, float]:
    """Return the distance of the 0.1 and 99.9 percentiles of the targets [counts], by channel.

    Parameters
    ----------
    pairs : sequence of Pair
        The training pairs.
    crop : int
        Edge of a crop on the grid of the target [pixels]; 128 crops a channel are looked at.
    seed : int
        Seed of the places.
    """
    ranges: dict[str, float] = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair.channels):
        places = CropPlaces(pairs, crop, seed, "statistics", name)
        edge = crop // pairs[0].scale
        chosen = [places[number][0] for number in range(CROPS)]
        targets = np.stack([pairs[place.pair].read_target(place, edge, edge) for place in chosen]).astype(np.float32)
        low, high = np.percentile(targets, PERCENTILES)
        ranges[name] = float(high - low)
    return ranges
