"""What is said about the posterior samples of a pixel: mean, standard deviation, lower and upper quantile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

ROWS = 128
"""Rows taken together: bounds the float64 copies that the sums need."""


def summarise(samples: NDArray[np.float32], quantiles: tuple[float, float]) -> dict[str, Plane]:
    """Return mean, std, lower and upper over the posterior samples of each pixel.

    Parameters
    ----------
    samples
        Posterior samples, `(K, Y, X)`, float32, in intensity units.
    quantiles
        Lower and upper quantile, between 0 and 1.

    Returns
    -------
    dict of (Y, X) float32 arrays
        `mean`; with at least two samples also `std`, the sample standard deviation (divided by K - 1: its square is unbiased), and `lower`
        and `upper`, interpolated linearly between order statistics (type 7 of Hyndman & Fan 1996, numpy's default). One sample has no
        spread, so nothing but its mean is returned.
    """
    count, height, width = samples.shape
    names = statistics_of(count)
    planes = {name: np.empty((height, width), np.float32) for name in names}
    for row in range(0, height, ROWS):
        rows = slice(row, min(height, row + ROWS))
        piece = samples[:, rows].astype(np.float64)
        planes["mean"][rows] = piece.mean(axis=0)
        if count < 2:
            continue
        planes["std"][rows] = piece.std(axis=0, ddof=1)
        piece.sort(axis=0)
        for name, quantile in zip(("lower", "upper"), quantiles, strict=True):
            planes[name][rows] = _between_ranks(piece, quantile)
    return planes


def statistics_of(samples: int) -> tuple[str, ...]:
    """Return the names of the statistics that so many samples have."""
    return ("mean", "std", "lower", "upper") if samples > 1 else ("mean",)


def _between_ranks(ordered: NDArray[np.float64], quantile: float) -> NDArray[np.float64]:
    position = quantile * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    between: NDArray[np.float64] = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    return between
