"""What the inputs of a training look like: between which values the features of their windows lie, for `quality.gate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvdm_core.images.appearance import appearance, bounds
from cvdm_core.images.intensity import UPSAMPLE_REACH
from cvdm_core.training.crops import CropPlaces
from cvdm_core.training.pairs import Pair

WINDOWS = 512


def measure_inputs(pairs: Sequence[Pair], crop: int, seed: int) -> dict[str, Any]:
    """Return what `model.yaml` tells of the inputs: `window` [input pixels] and, of 512 such windows of each channel, the bounds.

    Parameters
    ----------
    pairs : sequence of Pair
        The training pairs.
    crop : int
        Edge of a crop on the grid of the target [pixels]; a window is what is read of the input for one, with its context.
    seed : int
        Seed of the places.

    Returns
    -------
    dict
        `{"window": edge, "channels": {channel: {feature: [low, high]}}}`.
    """
    channels, window = {}, crop // pairs[0].scale + 2 * UPSAMPLE_REACH
    for name in dict.fromkeys(name for pair in pairs for name in pair.channels):
        places = CropPlaces(pairs, crop, seed, "statistics", name)
        chosen = [places[number][0] for number in range(WINDOWS)]
        found = bounds([appearance(pairs[place.pair].read_input(place, places.edge, places.edge)) for place in chosen])
        channels[name] = {feature: list(values) for feature, values in found.items()}
    return {"window": window, "channels": channels}
