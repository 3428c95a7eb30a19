"""Is the model as uncertain as it is wrong? Coverage, spread against error, and whether the standard deviation finds the errors.

All corrections are for the number K of posterior samples: even a perfect sampler shows, with few samples, an interval that holds the
truth too rarely and a mean whose error exceeds the spread. A truth that holds noise of its own counts against the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.stats import spearmanr

Image = NDArray[np.floating]

BINS = 20  # of the calibration curve
RING = (5, 11)  # edges of the square ring of neighbours by whose variance a pixel is binned [pixels]
RING_HALO = RING[1] // 2  # context with which a block gives the whole image's bins [pixels]


def expected_coverage(quantiles: tuple[float, float], samples: int) -> float:
    """Share of truths that the stored interval holds when the sampler is perfect and has drawn K samples.

    The i-th smallest of K samples exceeds the truth with probability i/(K+1), and a quantile q interpolated linearly lies at the
    place i = 1 + (K-1)·q. Exact at whole places, close between them. 5-95 % of 8 samples: 0.70, not 0.90.
    """
    low, high = quantiles
    return (samples - 1) * (high - low) / (samples + 1)


def finite_sample_factor(samples: int, ddof: int) -> float:
    """RMSE of the mean over root mean variance that a perfect sampler shows with K samples.

    sqrt((K+1)/(K-1)) for the population standard deviation (ddof 0), sqrt(1 + 1/K) for the sample standard deviation (ddof 1).

    Raises
    ------
    ValueError
        If there are fewer than two samples, which have no spread.
    """
    if samples < 2:
        raise ValueError("one posterior sample has no spread")
    return math.sqrt(1 + 1 / samples) if ddof else math.sqrt((samples + 1) / (samples - 1))


def neighbours_variance(std: Image) -> NDArray[np.float64]:
    """Return for each pixel of a plane (Y, X) the mean variance around it: in 11 x 11 pixels without the inner 5 x 5.

    Pixels binned by their own standard deviation would not lie on the diagonal even for a perfect sampler: of few samples, those with a
    small one are mostly those that scattered little by chance. Nearest neighbours scatter together, so they are left out as well.
    """
    variance = np.square(std, dtype=np.float64)
    inner, outer = (correlate1d(correlate1d(variance, np.ones(edge), axis=0), np.ones(edge), axis=1) for edge in RING)
    ring: NDArray[np.float64] = (outer - inner) / (RING[1] ** 2 - RING[0] ** 2)
    return ring


@dataclass
class Calibration:
    """Counts and sums of spread and error, gathered block by block.

    Parameters
    ----------
    edges
        Borders of the bins of the neighbours' variance, increasing, BINS - 1 of them (see `bin_edges`).
    factor
        `finite_sample_factor`, by which every standard deviation is multiplied.
    """

    edges: NDArray[np.float64]
    factor: float
    inside: int = 0
    count: NDArray[np.int64] = field(init=False)
    squared_spread: NDArray[np.float64] = field(init=False)
    squared_error: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with empty bins."""
        bins = len(self.edges) + 1
        self.count = np.zeros(bins, np.int64)
        self.squared_spread, self.squared_error = np.zeros(bins), np.zeros(bins)

    def add(self, truth: Image, mean: Image, std: Image, lower: Image, upper: Image, around: Image) -> None:
        """Add one block; all arrays have one shape and the truth's unit. `around` is `neighbours_variance`, by which pixels are binned."""
        self.inside += int(np.count_nonzero((truth >= lower) & (truth <= upper)))
        spread = np.asarray(std, np.float64).ravel()
        error = (np.asarray(mean, np.float64) - truth).ravel()
        number = np.searchsorted(self.edges, np.ravel(around), side="right")
        bins = len(self.count)
        self.count += np.bincount(number, minlength=bins)
        self.squared_spread += np.bincount(number, spread * spread, minlength=bins)
        self.squared_error += np.bincount(number, error * error, minlength=bins)

    @property
    def coverage(self) -> float:
        """Share of pixels whose truth lies in the stored interval."""
        total = int(self.count.sum())
        return self.inside / total if total else math.nan

    @property
    def spread_skill(self) -> float:
        """Root mean variance over RMSE of the mean, corrected for K: 1 is calibrated, below 1 over-confident."""
        skill = math.sqrt(self.squared_error.sum())
        return self.factor * math.sqrt(self.squared_spread.sum()) / skill if skill > 0 else math.nan

    @property
    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each bin the root mean variance (corrected for K) and the RMSE; NaN for an empty bin (Levi et al. 2019)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.factor * np.sqrt(self.squared_spread / self.count), np.sqrt(self.squared_error / self.count)


def bin_edges(around: Image, bins: int = BINS) -> NDArray[np.float64]:
    """Return the bins - 1 inner borders that split the given values into equally many."""
    return np.quantile(np.asarray(around, np.float64), np.arange(1, bins) / bins)


def spearman(predictor: Image, error: Image) -> float:
    """Spearman rank correlation of a predictor with |error|; NaN where one of them is constant."""
    if not (np.ptp(predictor) > 0 and np.ptp(error) > 0):
        return math.nan
    return float(spearmanr(np.ravel(predictor), np.abs(np.ravel(error))).statistic)
