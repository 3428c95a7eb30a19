"""The stream of training crops: crop number n depends on the seed and on n, and on nothing else.

So a training that goes on from any step sees the same data as one that was never stopped, whatever the number of loading processes.
Places are uniform over all pixels of all planes. Crops without structure are not avoided: a restoration meets them too, and has to
leave them dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from cvdm_core.errors import UserError
from cvdm_core.images.intensity import UPSAMPLE_REACH, Normalisation, upsample
from cvdm_core.training.pairs import Pair, Place

Float32 = NDArray[np.float32]
Purpose = Literal["training", "statistics", "validation", "pictures"]
PURPOSES: tuple[Purpose, ...] = ("training", "statistics", "validation", "pictures")


class CropPlaces:
    """Random places of crops, uniform over all pixels.

    Parameters
    ----------
    pairs : sequence of Pair
    crop : int
        Edge of a crop on the grid of the target [pixels]; a multiple of the pairs' scale.
    seed : int
    purpose : str
        Crops for different purposes are independent.
    channel : str, optional
        Take this channel only.

    Raises
    ------
    UserError
        If a plane is smaller than a crop, or the crop is no whole number of input pixels.
    """

    def __init__(self, pairs: Sequence[Pair], crop: int, seed: int, purpose: Purpose, channel: str | None = None) -> None:
        scale = pairs[0].scale
        if crop % scale:
            raise UserError(f"training.crop ({crop}) must be a multiple of model.scale ({scale}), so that crops hold whole input pixels.")
        self.edge = crop // scale
        for pair in pairs:
            if min(pair.shape[3:]) < self.edge:
                y, x = (length * scale for length in pair.shape[3:])
                raise UserError(
                    f"{pair.row.acquisition}: its target has {y} x {x} pixels, less than training.crop ({crop}); lower training.crop."
                )
        self._pairs = pairs
        self._key = (seed, PURPOSES.index(purpose))
        self._entries = [
            (number, c) for number, pair in enumerate(pairs) for c, name in enumerate(pair.channels) if channel in (None, name)
        ]
        sizes = [int(np.prod(pairs[number].shape)) // pairs[number].shape[1] for number, _ in self._entries]
        self._ends = np.array(list(accumulate(sizes)))

    def __getitem__(self, number: int) -> tuple[Place, int]:
        """Return where crop `number` lies, and its symmetry (0 to 7, see `turn`)."""
        # Raw bits of a counter-based generator: the same crop in any order, and with any version of numpy.
        bits = np.random.Philox(key=np.array(self._key, np.uint64), counter=np.array([0, number, 0, 0], np.uint64)).random_raw(6)
        which, plane, y, x, symmetry = (int(value) for value in bits[:5])
        entry = int(np.searchsorted(self._ends, which % int(self._ends[-1]), side="right"))
        pair, c = self._entries[entry]
        size_t, _, size_z, size_y, size_x = self._pairs[pair].shape
        t, z = divmod(plane % (size_t * size_z), size_z)
        return Place(pair, t, c, z, y % (size_y - self.edge + 1), x % (size_x - self.edge + 1)), symmetry % 8


class CropReader:
    """Crops of pairs in model units, on the grid of the target; `maps` as from `statistics.measure_pair_maps`."""

    def __init__(self, pairs: Sequence[Pair], crop: int, maps: Sequence[Mapping[str, Mapping[str, Normalisation]]]) -> None:
        self._pairs = pairs
        self._edge = crop // pairs[0].scale
        self._scale = pairs[0].scale
        self._maps = maps

    def read(self, places: Sequence[Place]) -> tuple[Float32, Float32]:
        """Return conditions (upsampled inputs) and targets, each (len(places), crop, crop) in model units."""
        edge, scale = self._edge, self._scale
        inputs = np.stack([self._pairs[place.pair].read_input(place, edge, edge).astype(np.float32) for place in places])
        inside = slice(UPSAMPLE_REACH * scale, (UPSAMPLE_REACH + edge) * scale)
        conditions = upsample(inputs, scale)[:, inside, inside]
        targets = np.empty_like(conditions)
        for index, place in enumerate(places):
            pair = self._pairs[place.pair]
            maps = self._maps[place.pair][pair.channels[place.c]]
            conditions[index] = maps["input"].to_model(conditions[index])
            targets[index] = maps["target"].to_model(pair.read_target(place, edge, edge))
        return conditions, targets


class TrainingBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The batch of every step: item `step` is the conditions and targets of that step, (batch, 1, crop, crop) float32.

    Parameters
    ----------
    places, reader
        Where crops lie, and what reads them.
    batch : int
        Crops a step and process.
    rank, world : int
        Number of this process among the processes that train together.
    """

    def __init__(self, places: CropPlaces, reader: CropReader, batch: int, rank: int = 0, world: int = 1) -> None:
        self._places = places
        self._reader = reader
        self._batch = batch
        self._rank = rank
        self._world = world

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Read and augment the batch of a step."""
        first = (step * self._world + self._rank) * self._batch
        chosen = [self._places[first + index] for index in range(self._batch)]
        conditions, targets = self._reader.read([place for place, _ in chosen])
        for index, (_, symmetry) in enumerate(chosen):
            conditions[index] = turn(conditions[index], symmetry)
            targets[index] = turn(targets[index], symmetry)
        return torch.from_numpy(conditions)[:, None], torch.from_numpy(targets)[:, None]


def turn(image: Float32, symmetry: int) -> Float32:
    """Return a square image in one of the eight symmetries of the square: flips and quarter turns.

    Parameters
    ----------
    image : ndarray of shape (N, N)
    symmetry : int
        0 to 7; 0 leaves the image as it is.
    """
    turned = image.T if symmetry & 1 else image
    turned = turned[::-1] if symmetry & 2 else turned
    # A copy, because the caller writes the result over the image that it is a view of.
    return np.array(turned[:, ::-1] if symmetry & 4 else turned)
