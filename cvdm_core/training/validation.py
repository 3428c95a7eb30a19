"""What is measured while training: always on the same crops with the same times and noise, so that two points of a curve compare.

The loss is a mean over crops of the training's size; samples are drawn as a restoration would draw them, with the configured steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvdm_core.config import SamplingSettings
from cvdm_core.images.intensity import Normalisation
from cvdm_core.model import Restorer, draw
from cvdm_core.training.crops import CropPlaces, CropReader, Float32
from cvdm_core.training.pairs import Pair, Place

LOSS_CROPS = 64
LOSS_BATCH = 16
PICTURES = 4
PICTURE_CANDIDATES = 32
PICTURE_EDGE = 128
"""Edge of the crops that samples are drawn for, on the grid of the target [pixels]; less where planes are smaller."""
PICTURE_SAMPLES = 4
SCHEDULE_TIMES = 101
SEED = 20_240_507
"""Of crops, times and noise in validation; the same for every model, so that models compare too."""


@dataclass(frozen=True)
class Samples:
    """The picture crops in model units, each (N, Y, X): the upsampled input, one sample, the mean of several, the truth.

    With a label and a pixel size [micrometres] for each crop.
    """

    condition: Float32
    sample: Float32
    mean: Float32
    target: Float32
    labels: list[str]
    pixel_sizes_um: list[float]

    def psnr(self, image: Float32) -> float:
        """Return the PSNR of `image` against the truth [dB]; the range is the truth's, over all crops."""
        error = float(np.mean((image - self.target).astype(np.float64) ** 2))
        return float(10 * np.log10(float(np.ptp(self.target)) ** 2 / max(error, 1e-12)))


class Validation:
    """The fixed crops of the validation pairs (at least one pair).

    Parameters
    ----------
    pairs : sequence of Pair
    crop : int
        Edge of the crops that the loss is taken on, on the grid of the target [pixels].
    maps : sequence of mappings
        For each pair by channel name, see `statistics.measure_pair_maps`.
    sampling : SamplingSettings
        Steps and sampler.
    """

    def __init__(
        self, pairs: Sequence[Pair], crop: int, maps: Sequence[Mapping[str, Mapping[str, Normalisation]]], sampling: SamplingSettings
    ) -> None:
        self._sampling = sampling
        places = CropPlaces(pairs, crop, SEED, "validation")
        self._condition, self._target = _tensors(CropReader(pairs, crop, maps), [places[number][0] for number in range(LOSS_CROPS)])
        scale = pairs[0].scale
        edge = min(max(PICTURE_EDGE // scale * scale, crop), *(length * scale for pair in pairs for length in pair.shape[3:]))
        reader, places = CropReader(pairs, edge, maps), CropPlaces(pairs, edge, SEED, "pictures")
        chosen = _fullest([places[number][0] for number in range(PICTURE_CANDIDATES)], reader)
        self._picture_condition, self._picture_target = _tensors(reader, chosen)
        self._labels = [f"{pairs[place.pair].row.acquisition}\n{pairs[place.pair].channels[place.c]}" for place in chosen]
        self._pixel_sizes_um = [pairs[place.pair].pixel_size_um for place in chosen]

    @torch.no_grad()
    def losses(self, restorer: Restorer) -> dict[str, float]:
        """Return the loss and its parts, averaged over the crops."""
        device = next(restorer.parameters()).device
        generator = torch.Generator(device).manual_seed(SEED)
        totals: dict[str, float] = {}
        for first in range(0, LOSS_CROPS, LOSS_BATCH):
            condition, target = (crops[first : first + LOSS_BATCH].to(device) for crops in (self._condition, self._target))
            parts = restorer.loss(condition, target, generator)
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(condition) / LOSS_CROPS
        return totals

    @torch.no_grad()
    def samples(self, restorer: Restorer) -> Samples:
        """Draw samples for the picture crops; of a regression, both sample and mean are its result."""
        device = next(restorer.parameters()).device
        condition = self._picture_condition.to(device)
        if restorer.spec.objective == "regression":
            drawn = restorer.restore(condition, restorer.regress(condition))[None]
        else:
            drawn = torch.stack([self._draw(restorer, condition, SEED + number) for number in range(PICTURE_SAMPLES)])
        return Samples(
            condition=_images(condition),
            sample=_images(drawn[0]),
            mean=_images(drawn.mean(dim=0)),
            target=_images(self._picture_target),
            labels=self._labels,
            pixel_sizes_um=self._pixel_sizes_um,
        )

    @torch.no_grad()
    def schedule(self, restorer: Restorer) -> list[tuple[float, float, float, float]]:
        """Return rows (t, mean, 5th and 95th percentile of gamma over the pixels of the crops); none for a regression."""
        if restorer.spec.objective == "regression":
            return []
        lam = restorer.schedule.condition(self._condition[:LOSS_BATCH].to(next(restorer.parameters()).device))
        rows = []
        for t in np.linspace(0, 1, SCHEDULE_TIMES):
            gamma = restorer.schedule.gamma(float(t), lam).cpu().numpy().astype(np.float64)
            low, high = np.percentile(gamma, [5, 95])
            rows.append((float(t), float(gamma.mean()), float(low), float(high)))
        return rows

    def _draw(self, restorer: Restorer, condition: Tensor, seed: int) -> Tensor:
        lam = restorer.schedule.condition(condition)
        times = restorer.times(self._sampling.steps)
        generator = torch.Generator(condition.device).manual_seed(seed)
        residual = draw(
            lambda z, index: restorer.predict_x0(z, condition, lam, times[index]),
            lambda t: restorer.schedule.gamma(t, lam),
            times,
            lambda step: torch.randn(condition.shape, generator=generator, device=condition.device),
            self._sampling.method,
        )
        return restorer.restore(condition, residual)


def _fullest(candidates: Sequence[Place], reader: CropReader) -> list[Place]:
    """Return the places with most contrast in the truth, at most one a plane: an empty picture teaches nobody anything."""
    by_contrast = sorted(candidates, key=lambda place: -float(np.std(reader.read([place])[1])))
    best: dict[tuple[int, int, int, int], Place] = {}
    for place in by_contrast:
        best.setdefault((place.pair, place.t, place.c, place.z), place)
    return list(best.values())[:PICTURES]


def _tensors(reader: CropReader, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
    conditions, targets = reader.read(places)
    return torch.from_numpy(conditions)[:, None], torch.from_numpy(targets)[:, None]


def _images(batch: Tensor) -> Float32:
    return np.asarray(batch[:, 0].float().cpu().numpy(), np.float32)
