"""Fidelity to what was measured: RSP and RSE without a truth, and Richardson-Lucy as the reference every user knows.

RSP and RSE: Culley et al. 2018 (SQUIRREL), as NanoPyx computes them for equal grids: the restored image is blurred by the Gaussian
that brings it closest to the input, brought to the input's grid, and fitted with a slope and an offset. They see errors that are
larger than the blur and are blind to smaller ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from cvdm_core.quality.reference import Moments

Image = NDArray[np.floating]

BLUR_LARGEST = 12.0  # largest sigma that is tried [pixels of the target grid]
BLUR_CROP = 512  # edge of the crop on which the blur is fitted [pixels of the target grid]
RICHARDSON_LUCY_HALO = 64  # context around a block; iterations reach farther only with negligible weight, see the test [pixels]


def blur_reach(sigma: float) -> int:
    """Pixels that the blur of `reblur` looks to each side."""
    return math.ceil(4 * sigma)


def reblur(restored: Image, sigma: float, scale: int) -> NDArray[np.float64]:
    """Blur a restored image and bring it to the input's grid by the mean of scale x scale pixels.

    Parameters
    ----------
    restored
        (Y·scale, X·scale), its first pixel being the first of an input pixel.
    sigma
        Of the Gaussian [pixels of `restored`].
    """
    blurred = np.asarray(restored, np.float64)
    if sigma > 0:
        blurred = gaussian_filter(blurred, sigma, radius=blur_reach(sigma))
    y, x = (size // scale for size in blurred.shape)
    binned: NDArray[np.float64] = blurred.reshape(y, scale, x, scale).mean(axis=(1, 3))
    return binned


def fit_blur(restored: Image, measured: Image, scale: int) -> float:
    """Return the sigma [pixels of the target grid] with which `reblur` comes closest to the input, after an affine fit.

    Parameters
    ----------
    restored
        (Y·scale, X·scale).
    measured
        The raw input of the same field, (Y, X).
    """

    def distance(sigma: float) -> float:
        moments = Moments()
        moments.add(reblur(restored, sigma, scale), measured)
        return moments.fitted_mse

    coarse = np.linspace(0, BLUR_LARGEST, 13)
    best = int(np.argmin([distance(sigma) for sigma in coarse]))
    bounds = (float(coarse[max(best - 1, 0)]), float(coarse[min(best + 1, len(coarse) - 1)]))
    refined = minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(refined.x if refined.fun < distance(float(coarse[best])) else coarse[best])


def rsp(moments: Moments) -> float:
    """Resolution-scaled Pearson correlation, from the moments of (re-blurred result, input); 1 is perfect."""
    return moments.pearson


def rse(moments: Moments) -> float:
    """Resolution-scaled error, the root mean square left after the fit, in units of the input; 0 is perfect."""
    return math.sqrt(moments.fitted_mse)


def richardson_lucy(image: Image, psf: Image, iterations: int, background: float, start: float) -> NDArray[np.float32]:
    """Richardson-Lucy deconvolution (Richardson 1972, Lucy 1974) with a known background.

    The model is image ≈ psf * estimate + background, and each iteration multiplies the estimate by
    psf^T * (image / (psf * estimate + background)). The border is continued by reflection as far as the psf reaches.

    Parameters
    ----------
    image
        (Y, X), in camera units; below zero counts as zero.
    psf
        Two-dimensional, odd edges, sums to 1, on the same grid.
    iterations
        At least 1.
    background
        Offset of the camera, at least 0 [camera units].
    start
        Value of the flat first estimate, above 0; the same for all blocks of an image.

    Returns
    -------
    The estimate, (Y, X), float32, in camera units above the background.
    """
    reach = max(psf.shape) // 2
    data = np.pad(np.maximum(image, 0).astype(np.float32), reach, mode="symmetric" if min(image.shape) >= reach else "edge")
    shape = tuple(fft.next_fast_len(size, real=True) for size in data.shape)
    forward = fft.rfft2(_centred(psf, shape))
    floor = np.float32(max(background, 1e-6 * start))
    padded = np.pad(data, [(0, long - size) for long, size in zip(shape, data.shape, strict=True)], mode="edge")
    estimate = np.full(shape, start, np.float32)
    for _ in range(iterations):
        predicted = np.maximum(fft.irfft2(fft.rfft2(estimate) * forward, shape), 0) + floor
        ratio = padded / predicted
        estimate *= np.maximum(fft.irfft2(fft.rfft2(ratio) * np.conj(forward), shape), 0)
    return estimate[reach : reach + image.shape[0], reach : reach + image.shape[1]].copy()


def _centred(psf: Image, shape: tuple[int, ...]) -> NDArray[np.float32]:
    kernel = np.zeros(shape, np.float32)
    kernel[: psf.shape[0], : psf.shape[1]] = psf
    return np.roll(kernel, tuple(-(size // 2) for size in psf.shape), axis=(0, 1))
