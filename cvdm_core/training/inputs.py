"""What the inputs of a training look like: between which values the features of their windows lie, for `quality.gate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from cvdm_core.images.appearance import FEATURES, SMALLEST, Bounds, appearance
from cvdm_core.images.intensity import UPSAMPLE_REACH
from cvdm_core.training.crops import CropPlaces
from cvdm_core.training.pairs import Pair

WINDOWS = 512
CENTRAL = (0.5, 99.5)
"""Percentiles between which windows, and images, of the training lie."""
LARGEST_LOG = 700.0
"""Whose exponential is a number still."""


def measure_inputs(pairs: Sequence[Pair], crop: int, seed: int) -> dict[str, Any]:
    """Return what `model.yaml` tells of the inputs: `window` [input pixels] and, of 512 such windows of each channel, the bounds.

    Nothing is told of a channel of which one pair alone was looked at: how much its images differ from each other cannot be known.

    Parameters
    ----------
    pairs : sequence of Pair
        The training pairs.
    crop : int
        Edge of a crop on the grid of the target [pixels]; a window is what it covers of the input, and at least `SMALLEST` pixels.
    seed : int
        Seed of the places.

    Returns
    -------
    dict
        `{"window": edge, "channels": {channel: {feature: [low, high]}}}`.
    """
    scale, shortest = pairs[0].scale, min(length for pair in pairs for length in pair.shape[3:])
    window, inner = min(max(crop // scale, SMALLEST), shortest), slice(UPSAMPLE_REACH, -UPSAMPLE_REACH)
    channels = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair.channels if window >= SMALLEST):
        places = CropPlaces(pairs, window * scale, seed, "statistics", name)
        chosen = [places[number][0] for number in range(WINDOWS)]
        images = [place.pair for place in chosen]
        if len(set(images)) > 1:
            # Without the context of a crop: at the image's border that repeats pixels, which makes a window smooth.
            features = [appearance(pairs[place.pair].read_input(place, window, window)[inner, inner]) for place in chosen]
            channels[name] = {feature: list(values) for feature, values in bounds(features, images).items()}
    return {"window": window, "channels": channels}


def bounds(features: Sequence[NDArray[np.float64]], images: Sequence[int]) -> Bounds:
    """Return between which values a window is as in the training, by feature: there lie the central 99 % of its windows, and more.

    Images differ from each other, and few tell little of the next one. So the bounds also hold the interval in which the median of a
    further image is expected with 99 % (Student's t; of logarithms where no median is zero or less: exposures differ by factors).

    Parameters
    ----------
    features
        Of each window, as from `appearance`.
    images
        Number of the image that each window is from; at least two different ones.
    """
    windows, of = np.stack(features), np.asarray(images)
    low, high = np.percentile(windows, CENTRAL, axis=0)
    medians = np.stack([np.median(windows[of == image], axis=0) for image in np.unique(of)])
    positive, count = (medians > 0).all(axis=0), len(medians)
    values = np.where(positive, np.log(np.where(positive, medians, 1)), medians)
    reach = t.ppf(CENTRAL[1] / 100, count - 1) * values.std(axis=0, ddof=1) * np.sqrt(1 + 1 / count)
    ends = values.mean(axis=0) + np.stack([-reach, reach])
    ends = np.where(positive, np.exp(np.clip(ends, -LARGEST_LOG, LARGEST_LOG)), ends)
    return {name: (float(min(low[n], ends[0, n])), float(max(high[n], ends[1, n]))) for n, name in enumerate(FEATURES)}
