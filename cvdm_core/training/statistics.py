"""Intensity statistics of the training set: what makes counts of any camera and exposure the same to the network.

The input of each channel is standardised by mean and standard deviation without its brightest and darkest thousandth (hot pixels,
debris). The target is then put on the input's scale by the line target = a * input + b, so that the residual that the network restores
holds structure and no constant gain or offset: pairs are taken at different exposures, and a residual with a gain in it would be large
wherever the image is bright.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cvdm_core.errors import UserError
from cvdm_core.images.intensity import UPSAMPLE_REACH, Normalisation
from cvdm_core.training.crops import CropPlaces, CropReader, Float32
from cvdm_core.training.pairs import Pair

SAMPLE_CROPS = 512
"""Crops a channel that are looked at; with crops of 64 pixels two million target pixels."""
PAIR_CROPS = 128
"""Crops of one pair and channel that its own line is fitted to."""
TRIM_PERCENT = 0.1
BLOCK = 8
"""Edge of the block means that the line is fitted to [input pixels]."""
CLEAR = 0.5
"""Correlation of block means below which a pair has no line of its own: that of an empty pair is noise, and would magnify its target's."""

ChannelNormalisation = Mapping[str, Normalisation]
PairMaps = Sequence[Mapping[str, ChannelNormalisation]]


def measure_normalisation(pairs: Sequence[Pair], crop: int, seed: int) -> dict[str, dict[str, Normalisation]]:
    """Return the linear maps of input and target, by channel name.

    Parameters
    ----------
    pairs : sequence of Pair
        The training pairs.
    crop : int
        Edge of a crop on the grid of the target [pixels].
    seed : int
        Seed of the places that are looked at.

    Raises
    ------
    UserError
        If a channel's inputs are constant.
    """
    names = dict.fromkeys(name for pair in pairs for name in pair.channels)
    return {name: _measure_channel(pairs, crop, seed, name) for name in names}


def measure_pair_maps(
    pairs: Sequence[Pair], crop: int, seed: int, normalisation: Mapping[str, ChannelNormalisation], intensities: str
) -> PairMaps:
    """Return for each pair what brings its images to model units, by channel name.

    For "absolute" intensities that is the channel's normalisation. For "relative" ones the line from input to target is fitted to each
    pair by itself: a gain or offset that differs from file to file cannot be known from the input, and a model that is asked for it
    learns to draw random brightness.
    """
    if intensities == "absolute":
        return [normalisation] * len(pairs)
    return [{name: _own_line(pair, crop, seed, name, normalisation[name]) for name in pair.channels} for pair in pairs]


def measure_residual_std(pairs: Sequence[Pair], crop: int, seed: int, maps: PairMaps) -> float:
    """Return the standard deviation of target - condition in model units, over crops of all channels."""
    reader = CropReader(pairs, crop, maps)
    places = CropPlaces(pairs, crop, seed, "statistics")
    total = 0.0
    for number in range(SAMPLE_CROPS):
        condition, target = reader.read([places[number][0]])
        total += float(np.mean((target - condition).astype(np.float64) ** 2))
    return float(np.sqrt(total / SAMPLE_CROPS))


def _measure_channel(pairs: Sequence[Pair], crop: int, seed: int, channel: str) -> dict[str, Normalisation]:
    inputs, targets = _crops(pairs, crop, seed, channel, SAMPLE_CROPS)
    offset, spread = float(inputs.mean(dtype=np.float64)), float(inputs.std(dtype=np.float64))
    if not spread > 0:
        raise UserError(
            f"channel {channel!r}: the inputs of the training pairs are constant, so there is nothing to learn; check the files."
        )
    gain, shift, _ = _line(inputs, targets)
    if gain > 0:
        target = Normalisation(gain * offset + shift, gain * spread)
    else:  # Target and input do not rise together (another contrast): each is standardised by itself.
        target = Normalisation(float(targets.mean(dtype=np.float64)), float(targets.std(dtype=np.float64)) or 1.0)
    return {"input": Normalisation(offset, spread), "target": target}


def _own_line(pair: Pair, crop: int, seed: int, channel: str, maps: ChannelNormalisation) -> ChannelNormalisation:
    """Return the channel's maps with a target map for this pair alone; unchanged where its target does not clearly rise with its input."""
    gain, shift, correlation = _line(*_crops([pair], crop, seed, channel, PAIR_CROPS))
    given = maps["input"]
    clear = correlation >= CLEAR
    return {"input": given, "target": Normalisation(gain * given.offset + shift, gain * given.scale)} if clear else maps


def _crops(pairs: Sequence[Pair], crop: int, seed: int, channel: str, count: int) -> tuple[Float32, Float32]:
    """Return trimmed inputs and targets of `count` crops of a channel, (count, edge, edge) and (count, crop, crop)."""
    edge = crop // pairs[0].scale
    places = CropPlaces(pairs, crop, seed, "statistics", channel)
    inner = slice(UPSAMPLE_REACH, UPSAMPLE_REACH + edge)
    inputs, targets = np.empty((count, edge, edge), np.float32), np.empty((count, crop, crop), np.float32)
    for number in range(count):
        place, _ = places[number]
        inputs[number] = pairs[place.pair].read_input(place, edge, edge)[inner, inner]
        targets[number] = pairs[place.pair].read_target(place, edge, edge)
    return _trimmed(inputs), _trimmed(targets)


def _trimmed(values: Float32) -> Float32:
    """Return the values with the outermost ones drawn in to the percentiles: a hot pixel alone would bend the line of its channel."""
    low, high = np.percentile(values, [TRIM_PERCENT, 100 - TRIM_PERCENT])
    return np.clip(values, np.float32(low), np.float32(high))


def _line(inputs: Float32, targets: Float32) -> tuple[float, float, float]:
    """Return gain and shift of the least-squares line through block means, and their correlation; 0 where one of the two is constant.

    On single pixels noise in the input would draw the gain towards zero; means over blocks larger than the PSF know little of noise
    and of the target's finer detail.
    """
    edge = min(BLOCK, inputs.shape[1])
    x = _block_means(inputs, edge).astype(np.float64).ravel()
    y = _block_means(targets, edge * (targets.shape[1] // inputs.shape[1])).astype(np.float64).ravel()
    variance = float(np.var(x))
    gain = float(np.mean((x - x.mean()) * (y - y.mean()))) / variance if variance > 0 else 0.0
    correlation = gain * float(np.sqrt(variance / spread)) if (spread := float(np.var(y))) > 0 else 0.0
    return gain, float(y.mean() - gain * x.mean()), correlation


def _block_means(images: Float32, edge: int) -> Float32:
    """Return the means of whole blocks: (N, Y, X) to (N, Y // edge, X // edge)."""
    rows, columns = images.shape[1] // edge, images.shape[2] // edge
    cut = images[:, : rows * edge, : columns * edge].reshape(len(images), rows, edge, columns, edge)
    return np.asarray(cut.mean(axis=(2, 4)), np.float32)
