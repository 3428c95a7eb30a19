"""Comparison with the truth: PSNR, NRMSE, SSIM and MS-SSIM, each from sums that are gathered block by block.

The sums are pooled, so the numbers of an image do not depend on how it was cut into blocks, and an image of any size fits in
little memory. Definitions follow Wang et al. 2003/2004 (SSIM, MS-SSIM) and Weigert et al. 2018 (affine fit before comparison, NRMSE
over the 0.1-99.9 percentile range of the truth).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Image = NDArray[np.floating]

SSIM_SIGMA = 1.5
SSIM_REACH = 5  # pixels that the 11-pixel Gaussian window looks to each side
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first
MS_SSIM_STRIDE = 2 ** (len(MS_SSIM_WEIGHTS) - 1)
MS_SSIM_SHORTEST = (2 * SSIM_REACH + 1) * MS_SSIM_STRIDE
STRUCTURE_HALO = SSIM_REACH * MS_SSIM_STRIDE  # context with which a block gives the whole image's SSIM and MS-SSIM [pixels]


@dataclass
class Moments:
    """First and second moments of pairs (image, truth), pooled over blocks.

    Kept about the running means (Chan, Golub & LeVeque 1983), so that a camera offset costs no precision.
    """

    count: int = 0
    mean_image: float = 0.0
    mean_truth: float = 0.0
    square_image: float = 0.0
    square_truth: float = 0.0
    product: float = 0.0

    def add(self, image: Image, truth: Image) -> None:
        """Add the pixels of one block; `image` and `truth` have one shape, any dtype."""
        if not image.size:
            return
        a, b = np.asarray(image, np.float64), np.asarray(truth, np.float64)
        mean_a, mean_b = float(a.mean()), float(b.mean())
        a, b = (a - mean_a).ravel(), (b - mean_b).ravel()
        step_a, step_b, total = mean_a - self.mean_image, mean_b - self.mean_truth, self.count + a.size
        between = self.count * a.size / total
        self.square_image += float(a @ a) + step_a * step_a * between
        self.square_truth += float(b @ b) + step_b * step_b * between
        self.product += float(a @ b) + step_a * step_b * between
        self.mean_image += step_a * a.size / total
        self.mean_truth += step_b * a.size / total
        self.count = total

    @property
    def fit(self) -> tuple[float, float]:
        """Slope and intercept of the least-squares line that carries the image to the truth; a constant image has slope 0."""
        slope = self.product / self.square_image if self.square_image > 0 else 0.0
        return slope, self.mean_truth - slope * self.mean_image

    @property
    def mse(self) -> float:
        """Mean squared difference of image and truth as they are."""
        squares = self.square_image + self.square_truth - 2 * self.product
        return max(squares, 0.0) / self.count + (self.mean_image - self.mean_truth) ** 2

    @property
    def fitted_mse(self) -> float:
        """Mean squared difference after the affine fit."""
        return max(self.square_truth - self.fit[0] * self.product, 0.0) / self.count

    @property
    def pearson(self) -> float:
        """Pearson correlation; NaN where one of the two is constant."""
        norm = math.sqrt(self.square_image * self.square_truth)
        return self.product / norm if norm > 0 else math.nan


def psnr(mse: float, data_range: float) -> float:
    """Peak signal-to-noise ratio, 10·log10(range²/mse) [dB]; infinite for identical images."""
    return math.inf if mse == 0 else 10 * math.log10(data_range * data_range / mse)


def nrmse(mse: float, data_range: float) -> float:
    """Root mean squared error over a range (Weigert et al. 2018: affine-fitted image, range = 0.1-99.9 percentile of the truth)."""
    return math.sqrt(mse) / data_range


def exact_quantiles(blocks: Callable[[], Iterable[Image]], quantiles: Sequence[float]) -> list[float]:
    """Quantiles of all pixels, equal to `np.quantile` of the whole, in two passes with bounded memory.

    A float32 is read as a 32-bit key of the same order; the first pass counts the upper 16 bits, the second the lower 16 bits of
    those keys that matter (radix selection).

    Parameters
    ----------
    blocks
        Called once a pass; yields the image piece by piece, converted to float32.
    quantiles
        Between 0 and 1; 0 is the minimum, 1 the maximum.

    Raises
    ------
    ValueError
        If there is no pixel.
    """
    upper = np.zeros(65536, np.int64)
    for block in blocks():
        upper += np.bincount(_ordered_keys(block) >> 16, minlength=65536)
    ends = np.cumsum(upper)
    total = int(ends[-1])
    if not total:
        raise ValueError("quantiles of no pixels")
    places = [q * (total - 1) for q in quantiles]
    ranks = {rank for place in places for rank in (math.floor(place), min(math.floor(place) + 1, total - 1))}
    bucket = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
    lower = {number: np.zeros(65536, np.int64) for number in bucket.values()}
    for block in blocks():
        keys = _ordered_keys(block)
        for number, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == number] & 0xFFFF, minlength=65536)
    values = {}
    for rank, number in bucket.items():
        inside = rank - int(ends[number] - upper[number])
        values[rank] = _from_key(number << 16 | int(np.searchsorted(np.cumsum(lower[number]), inside, side="right")))
    result = []
    for place in places:
        low, high = values[math.floor(place)], values[min(math.floor(place) + 1, total - 1)]
        result.append(low + (high - low) * (place - math.floor(place)))
    return result


def _ordered_keys(block: Image) -> NDArray[np.uint32]:
    bits = np.ascontiguousarray(block, np.float32).ravel().view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))


def _from_key(key: int) -> float:
    bits = key ^ 0x80000000 if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))


class Structure:
    """SSIM and MS-SSIM of one plane, gathered block by block; blockwise equals whole.

    Only windows that lie inside the plane count (as in Wang's programs and in scikit-image's mean), at every scale; scales are 2x2
    means. C1 = (0.01·R)², C2 = (0.03·R)², Gaussian window of sigma 1.5 and 11 pixels, population covariance, negative
    contrast terms count as 0 in MS-SSIM.

    Parameters
    ----------
    shape
        (Y, X) of the whole plane.
    data_range
        R, in the truth's unit.
    """

    def __init__(self, shape: tuple[int, int], data_range: float) -> None:
        """Begin with nothing gathered."""
        self.shape = shape
        self.constants = ((0.01 * data_range) ** 2, (0.03 * data_range) ** 2)
        self.scales = len(MS_SSIM_WEIGHTS) if min(shape) >= MS_SSIM_SHORTEST else 1
        self._contrast = np.zeros(self.scales)
        self._similarity = np.zeros(self.scales)
        self._count = np.zeros(self.scales)

    def add(self, image: Image, truth: TruthBlock) -> None:
        """Add one block of the image; `image` covers the same region (block and halo) as `truth`."""
        levels = zip(_pyramid(image, self.scales), truth.levels, strict=True)
        for scale, (plane, (reference, mean_truth, var_truth, inside)) in enumerate(levels):
            c1, c2 = self.constants
            mean = _window_mean(plane)[inside]
            var = _window_mean(plane * plane)[inside] - mean * mean
            covariance = _window_mean(plane * reference)[inside] - mean * mean_truth
            contrast = (2 * covariance + c2) / (var + var_truth + c2)
            self._contrast[scale] += contrast.sum()
            self._similarity[scale] += (contrast * (2 * mean * mean_truth + c1) / (mean * mean + mean_truth * mean_truth + c1)).sum()
            self._count[scale] += contrast.size

    @property
    def ssim(self) -> float:
        """Mean structural similarity (Wang et al. 2004); NaN where the plane is smaller than the window."""
        return float(self._similarity[0] / self._count[0]) if self._count[0] else math.nan

    @property
    def ms_ssim(self) -> float:
        """Multi-scale structural similarity (Wang et al. 2003); NaN where the short side is below 176 pixels."""
        if self.scales == 1 or not self._count.all():
            return math.nan
        terms = np.append(self._contrast[:-1], self._similarity[-1]) / self._count
        return float(np.prod(np.maximum(terms, 0) ** np.array(MS_SSIM_WEIGHTS)))


class TruthBlock:
    """The truth's share in SSIM of one block, computed once and used for every image that is compared.

    Parameters
    ----------
    region
        Truth of the block with its halo, (Y, X).
    y, x
        The block itself, in pixels of the plane; starts are multiples of 16, ends too or the plane's end.
    origin
        Position of `region` in the plane; multiples of 16.
    shape
        (Y, X) of the whole plane.
    scales
        How many scales `Structure` uses.
    """

    def __init__(self, region: Image, y: slice, x: slice, origin: tuple[int, int], shape: tuple[int, int], scales: int) -> None:
        """Filter the truth at every scale."""
        self.levels = []
        for scale, plane in enumerate(_pyramid(region, scales)):
            inside = tuple(
                slice(
                    max(part.start >> scale, SSIM_REACH) - (first >> scale),
                    max(min(part.stop >> scale, (size >> scale) - SSIM_REACH) - (first >> scale), 0),
                )
                for part, first, size in zip((y, x), origin, shape, strict=True)
            )
            mean = _window_mean(plane)[inside]
            self.levels.append((plane, mean, _window_mean(plane * plane)[inside] - mean * mean, inside))


def _pyramid(region: Image, scales: int) -> list[NDArray[np.float64]]:
    levels = [np.asarray(region, np.float64)]
    for _ in range(scales - 1):
        plane = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
        levels.append((plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4)
    return levels


def _window_mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    filtered: NDArray[np.float64] = gaussian_filter(plane, SSIM_SIGMA, radius=SSIM_REACH)
    return filtered
