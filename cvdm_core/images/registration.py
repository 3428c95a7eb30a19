"""How far the target of a pair lies from its input: windows by phase correlation, and one similarity through their displacements.

The target is brought to the input's sampling (area mean), both are band-passed, and each window's displacement is the peak of their
cross-correlation (Guizar-Sicairos et al., Optics Letters 33:156, 2008; scikit-image). Spectra are not whitened: with an input that is
noise at most frequencies, whitening would let noise vote. A window is believed if others agree with it, so a wrong or an empty pair
has no figures instead of random ones. Large rotations and scales are found first, on the whole field, from log-polar spectra
(Reddy & Chatterji, IEEE Trans. Image Processing 5:1266, 1996).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

from cvdm_core.images.similarity import Float64, Read, Region, Similarity, read_moved

PASS = (1.0, 5.0)
"""Gaussian sigmas whose difference is the band that is compared [input pixels]: finer is the input's noise, coarser its background."""
EDGES = (64, 256)  # shortest and longest edge of a window [input pixels]
STEPS = 100  # a displacement is found to a hundredth of a pixel
PEAK = 6.0  # standard deviations of the correlation map; the highest of 256² random values is at 4.5
AGREE = 0.75  # windows this close to a common displacement agree [input pixels]
FEWEST = 4  # windows that must agree: two define a similarity
MAJORITY = 0.6  # of the windows with a peak
ROUNDS = 4  # of fitting and choosing anew who agrees
NEAR = 0.6  # what is left this close is not measured again: the window's edge pulls half a pixel by less than 0.02 [input pixels]
PULL = 0.05  # what lies beside a window's middle is pulled towards it, the more the blurrier: by this in what is left [input pixels]
STEEPEST = 0.1  # rotation or scale, beside what is known already, that two windows may propose


@dataclass(frozen=True)
class Plane:
    """One plane of a pair: how its pixels are read, and (Y, X) of the input; the target has `scale` times as many."""

    input: Read
    target: Read
    shape: tuple[int, int]
    scale: int


@dataclass(frozen=True)
class Window:
    """One window: its place (y, x of the input), the displacement found there as x + iy, and the height of its peak."""

    region: Region
    position: complex
    displacement: complex
    peak: float
    correlation: float


@dataclass(frozen=True)
class Registration:
    """What was measured; lengths in input pixels, NaN where nothing could be measured.

    Attributes
    ----------
    similarity : Similarity or None
        Displacement of the target; None where it could not be measured.
    shift_alone : Similarity or None
        The same without rotation and scale.
    residual : float
        Median distance of the agreeing windows from the similarity.
    uncertainty, linear_uncertainty : float
        Standard errors of the shift, and of rotation and scale error, from the scatter of the windows; the latter with `PULL`.
    agreeing, seen, windows : int
        Windows that agree, that show anything in common, and that were looked at.
    correlation : float
        Median correlation coefficient of the agreeing windows, in the band that is compared.
    """

    similarity: Similarity | None
    shift_alone: Similarity | None
    residual: float
    uncertainty: float
    linear_uncertainty: float
    agreeing: int
    seen: int
    windows: int
    correlation: float


def register(planes: Sequence[Plane], overview: Plane) -> Registration:
    """Measure the displacement that planes of one channel have in common.

    Parameters
    ----------
    planes
        Planes of one channel, all of one shape; more than a few cost time without making the result much better.
    overview
        One of them, or a lower pyramid level of it, at most about 512 pixels wide: read as a whole.

    Returns
    -------
    Registration
        Memory is that of two windows and of the overview.
    """
    for start in _first_guesses(overview, planes[0].shape):
        found = _fit(planes, start)
        if found.similarity is None:
            continue
        if found.similarity.minus(start).largest(planes[0].shape) <= NEAR:
            return found
        again = _fit(planes, found.similarity)
        return again if again.similarity is not None else found
    return found


def windows(shape: tuple[int, int]) -> list[Region]:
    """Return the windows of a plane of (Y, X) pixels: 3 x 3 to 5 x 5, evenly spread, overlapping where the plane is small."""
    edge = int(np.clip(min(shape) // 2 // 16 * 16, *EDGES))
    edges = [min(edge, size) for size in shape]
    counts = [int(np.clip(size // edge, 3, 5)) for size in shape]
    starts = [
        np.unique(np.linspace(0, size - part, count).round().astype(int)) for size, part, count in zip(shape, edges, counts, strict=True)
    ]
    return [(slice(int(y), int(y) + edges[0]), slice(int(x), int(x) + edges[1])) for y in starts[0] for x in starts[1]]


def read_pair(plane: Plane, move: Similarity, region: Region) -> tuple[Float64, Float64]:
    """Return a region of the input, and of the target moved back and brought to the input's sampling by the mean of its pixels."""
    scale = plane.scale
    y, x = (slice(part.start * scale, part.stop * scale) for part in region)
    size = (plane.shape[0] * scale, plane.shape[1] * scale)
    fine = np.asarray(read_moved(plane.target, size, move.enlarged(scale), (y, x)), np.float64)
    rows, columns = fine.shape[0] // scale, fine.shape[1] // scale
    coarse = fine.reshape(rows, scale, columns, scale).mean((1, 3)) if scale > 1 else fine
    return np.asarray(plane.input(*region), np.float64), coarse


def _windows(plane: Plane, start: Similarity) -> Iterator[Window]:
    centre = complex((plane.shape[1] - 1) / 2, (plane.shape[0] - 1) / 2)
    for region in windows(plane.shape):
        displacement, peak, correlation = displacement_of(*read_pair(plane, start, region))
        middle = complex((region[1].start + region[1].stop - 1) / 2, (region[0].start + region[0].stop - 1) / 2)
        yield Window(region, middle - centre, displacement, peak, correlation)


def displacement_of(input: Float64, target: Float64) -> tuple[complex, float, float]:
    """Return how far (x + iy) the content of `target` lies from that of `input`, (Y, X) each, with the peak's height and correlation.

    The height is in standard deviations of the correlation map; 0 where one of the images is flat.
    """
    first, second = (fft.fft2(_band(image)) for image in (input, target))
    surface = fft.ifft2(first * second.conj()).real
    spread = float(surface.std())
    if not spread > 0:
        return 0j, 0.0, 0.0
    shift, error, _ = phase_cross_correlation(first, second, upsample_factor=STEPS, space="fourier", normalization=None)
    return complex(-shift[1], -shift[0]), float(surface.max()) / spread, float(np.sqrt(max(0.0, 1 - error**2)))


def _band(image: Float64) -> Float64:
    fine, coarse = (gaussian_filter(image, sigma, mode="nearest") for sigma in PASS)
    rows, columns = (np.hanning(size + 2)[1:-1] for size in image.shape)
    band: Float64 = (fine - coarse) * rows[:, None] * columns
    band -= band.mean()
    return band


def _fit(planes: Sequence[Plane], start: Similarity) -> Registration:
    """Return the similarity that most windows agree on: every two windows propose one, and the one with most followers is fitted."""
    found = [window for plane in planes for window in _windows(plane, start)]
    seen = [window for window in found if window.peak >= PEAK]
    p, d = (np.array([getattr(window, name) for window in seen], complex) for name in ("position", "displacement"))
    d = d + start.at(p + d)
    agrees = _largest_following(p, d, start.linear)
    distance = np.full(len(p), np.inf)
    for _ in range(ROUNDS):
        if agrees.sum() < max(FEWEST, MAJORITY * len(seen)):
            return Registration(None, None, math.nan, math.nan, math.nan, int(agrees.sum()), len(seen), len(found), math.nan)
        shift, linear = _line(p[agrees], d[agrees])
        distance = abs(d - shift - linear * p)
        agrees = distance <= AGREE
    count = int(agrees.sum())
    # Two complex numbers were fitted; neighbouring windows share up to half of their pixels, hence the factor 2.
    error = float(np.sqrt(np.mean(distance[agrees] ** 2) * count / max(count - 2, 1) * 2))
    return Registration(
        similarity=Similarity.from_complex(shift, linear),
        shift_alone=Similarity.from_complex(complex(d[agrees].mean()), 0j),
        residual=float(np.median(distance[agrees])),
        uncertainty=error / math.sqrt(count),
        # The pull is the same in all windows that see one cell in an empty field, so that their number does not lessen it.
        linear_uncertainty=math.hypot(error / math.sqrt(count), PULL) / max(float(np.std(p[agrees])), 1.0),
        agreeing=count,
        seen=len(seen),
        windows=len(found),
        correlation=float(np.median([window.correlation for window, one in zip(seen, agrees, strict=True) if one])),
    )


def _largest_following(p: NDArray[np.complex128], d: NDArray[np.complex128], known: complex) -> NDArray[np.bool_]:
    best = np.zeros(len(p), bool)
    for i in range(len(p)):
        for j in range(i):
            linear = (d[i] - d[j]) / (p[i] - p[j]) if p[i] != p[j] else known  # the same place in another plane
            if abs(linear - known) <= STEEPEST:
                agrees = abs(d - d[i] - linear * (p - p[i])) <= AGREE
                if agrees.sum() > best.sum():
                    best = agrees
    return best


def _line(p: NDArray[np.complex128], d: NDArray[np.complex128]) -> tuple[complex, complex]:
    """Fit d = shift + linear * p by least squares, in complex numbers."""
    if np.ptp(p.real) == 0 and np.ptp(p.imag) == 0:
        return complex(d.mean()), 0j
    shift, linear = np.linalg.lstsq(np.stack([np.ones_like(p), p], 1), d, rcond=None)[0]
    return complex(shift), complex(linear)


def _first_guesses(overview: Plane, shape: tuple[int, int]) -> Iterator[Similarity]:
    """Yield displacements to start from, in pixels of a plane of `shape`: a shift alone, then one with rotation and scale."""
    factor = shape[1] / overview.shape[1]
    whole = (slice(0, overview.shape[0]), slice(0, overview.shape[1]))
    images = read_pair(overview, Similarity(), whole)
    displacement, _, _ = displacement_of(*images)
    # Whole pixels, so that a pair without rotation is not interpolated before it is measured.
    yield Similarity(round(displacement.imag * factor), round(displacement.real * factor))
    turned = _rotation_and_scale(*images)
    displacement, _, _ = displacement_of(*read_pair(overview, turned, whole))
    guess = Similarity.from_complex(displacement, 0j).after(turned)
    yield Similarity.from_complex(guess.shift * factor, guess.linear)


def _rotation_and_scale(input: Float64, target: Float64) -> Similarity:
    """Return rotation and scale of the target from the magnitudes of the spectra, which do not see a shift."""
    edge = min(input.shape)
    radius = edge // 4  # finer than half the band is noise in most inputs
    if radius < 2:  # a line has no spectrum of two dimensions
        return Similarity()
    polar = []
    for image in (input, target):
        y, x = ((size - edge) // 2 for size in image.shape)
        spectrum = np.log1p(abs(np.fft.fftshift(np.fft.fft2(_band(image[y : y + edge, x : x + edge])))))
        unwrapped = warp_polar(spectrum, radius=radius, output_shape=(720, radius * 4), scaling="log", order=1)
        polar.append(unwrapped[:360] - unwrapped[:360].mean(0))  # half a turn holds all; without the mean, the blur's decay goes
    shift, _, _ = phase_cross_correlation(*polar, upsample_factor=20, normalization=None)
    angle = np.deg2rad(shift[0] / 2)
    factor = np.exp(shift[1] * np.log(radius) / (radius * 4))
    linear = factor * np.exp(-1j * angle) - 1
    return Similarity.from_complex(0j, complex(linear))
