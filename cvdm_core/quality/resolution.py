"""Resolution and sharpness: Fourier ring correlation against the truth, and the power of high spatial frequencies.

FRC: van Heel & Stewart 1982, Nieuwenhuizen et al. 2013; computed by `cubic` 0.8. It says up to which frequency an image agrees
with the truth; of a single restored image without truth it would say nothing about resolution, so it is not offered there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # cubic says at import that there is no CuPy; none is needed here
    from cubic.metrics.spectral.frc import calculate_frc

Image = NDArray[np.floating]

FRC_THRESHOLD = 1 / 7
FRC_CROP = 1024  # longest edge that is transformed: bounds time and memory [pixels]
FRC_SHORTEST = 64  # below this the rings are too few for a curve [pixels]
BAND = (0.15, 0.35)  # "high" spatial frequencies [cycles per pixel of the target grid]
TILE = 256  # edge of the windowed pieces whose spectra are averaged [pixels]


@dataclass(frozen=True)
class RingCorrelation:
    """A curve of Fourier ring correlation.

    `frequency` is in cycles per micrometre (centre of each ring), `correlation` between 0 and 1; `resolution_um` is the inverse
    of the frequency where the smoothed curve falls below 1/7, NaN where it never does.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    resolution_um: float


def central_square(shape: tuple[int, int], longest: int = FRC_CROP) -> tuple[slice, slice]:
    """Return the central square of a plane, with an even edge of at most `longest` pixels and an even origin."""
    edge = min(*shape, longest) // 2 * 2
    y, x = ((size - edge) // 4 * 2 for size in shape)
    return slice(y, y + edge), slice(x, x + edge)


def ring_correlation(image: Image, truth: Image, pixel_size_um: float) -> RingCorrelation:
    """Fourier ring correlation of two square images of one field (Hamming window, rings of one frequency step).

    Parameters
    ----------
    image, truth
        (N, N), any unit; offset and scale do not matter.
    pixel_size_um
        Edge of a pixel [micrometre].

    Raises
    ------
    ValueError
        If an image is constant, so that no correlation is defined.
    """
    if not (np.ptp(image) > 0 and np.ptp(truth) > 0):
        raise ValueError("an image without contrast has no ring correlation")
    result = calculate_frc(
        np.asarray(image, np.float64),
        np.asarray(truth, np.float64),
        threshold_value=FRC_THRESHOLD,
        curve_fit_type="smooth-spline",
        backend="hist",
    )
    # Without spacing, cubic counts frequencies in units of Nyquist and lengths in pixels.
    frequency = np.asarray(result.correlation["frequency"], np.float64) * 0.5 / pixel_size_um
    correlation = np.asarray(result.correlation["correlation"], np.float64)
    return RingCorrelation(frequency, correlation, float(result.resolution["resolution"]) * pixel_size_um)


@dataclass
class BandPower:
    """Mean spectral power in a radial band, gathered over the pieces of an image (Welch's method, Hann window).

    Compare only values gathered over the same blocks: the ratio of two is the high-frequency power ratio.
    """

    low: float = BAND[0]
    high: float = BAND[1]
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, block: Image) -> None:
        """Add one block, (Y, X); it is covered by windows of at most 256 pixels, evenly spread."""
        for piece in _pieces(block):
            window = np.outer(*(np.hanning(size + 2)[1:-1] for size in piece.shape)).astype(np.float32)
            spectrum = fft.rfft2((piece - piece.mean(dtype=np.float64)).astype(np.float32) * window)
            radius = np.hypot(np.fft.fftfreq(piece.shape[0])[:, None], np.fft.rfftfreq(piece.shape[1]))
            band = (radius >= self.low) & (radius < self.high)
            power = np.square(np.abs(spectrum[band]), dtype=np.float64)
            if power.size:
                self._sum += float(power.mean()) / float(np.square(window, dtype=np.float64).sum()) * piece.size
                self._weight += piece.size

    @property
    def power(self) -> float:
        """Mean power density in the band, in squared units of the image; NaN where nothing was added."""
        return self._sum / self._weight if self._weight else math.nan


def _pieces(block: Image) -> Iterator[Image]:
    edges = [min(size, TILE) for size in block.shape]
    starts = [
        np.linspace(0, size - edge, math.ceil(size / edge)).astype(int).tolist() for size, edge in zip(block.shape, edges, strict=True)
    ]
    for y in starts[0]:
        for x in starts[1]:
            yield block[y : y + edges[0], x : x + edges[1]]
