"""The image of a point in a widefield microscope, from numerical aperture and wavelength.

Scalar Debye theory: the pupil is a disc of radius NA/λ in spatial frequency, a defocus of z multiplies it by
exp(2πi z √((n/λ)² − ν²)), and the intensity is the squared modulus of its Fourier transform (Goodman, Introduction to Fourier Optics,
ch. 6; Hanser et al., J. Microscopy 216:32, 2004). In focus and for small apertures this is the Airy pattern. Polarisation and
aberrations are left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
WATER = 1.333


def defocused_psf(
    shape: tuple[int, int], na: float, emission_nm: float, pixel_size_um: float, z_um: float = 0.0, index: float = WATER
) -> Array:
    """Return the intensity of a point at distance `z_um` from focus, on a periodic grid with the point at index (0, 0).

    Parameters
    ----------
    shape : (Y, X) of the grid; it should be several times wider than the blur.
    na, emission_nm, pixel_size_um, z_um, index : aperture, wavelength [nm], grid spacing [µm], defocus [µm], refractive index.

    Returns
    -------
    float64 array of `shape` that sums to 1.

    Raises
    ------
    ValueError
        If the grid is too coarse for the intensity (spacing above λ/(4 NA)), or the aperture exceeds the index.
    """
    wavelength = emission_nm / 1000.0
    if na >= index:
        raise ValueError(f"numerical aperture {na} is not below the refractive index {index}")
    if pixel_size_um > wavelength / (4 * na):
        raise ValueError(
            f"spacing {pixel_size_um} µm is too coarse for NA {na} at {emission_nm} nm: at most {wavelength / (4 * na):.4f} µm"
        )
    fy, fx = (np.fft.fftfreq(n, pixel_size_um) for n in shape)
    squared = fy[:, None] ** 2 + fx[None, :] ** 2
    inside = squared <= (na / wavelength) ** 2
    axial = np.sqrt(np.maximum((index / wavelength) ** 2 - squared, 0.0))
    pupil = np.where(inside, np.exp(2j * np.pi * z_um * axial), 0)
    intensity = np.abs(np.fft.ifft2(pupil)) ** 2
    return np.asarray(intensity / intensity.sum())


def widefield_psf(na: float, emission_nm: float, pixel_size_um: float, oversampling: int = 4) -> Array:
    """Return the in-focus image of a point as seen by pixels of `pixel_size_um`, centred in an odd square array that sums to 1.

    The pattern is computed `oversampling` times finer and summed over the area of each pixel. The array reaches to 8 times the
    Airy radius 0.61 λ/NA, which holds about 98 % of the light.
    """
    airy_um = 0.61 * emission_nm / 1000.0 / na
    radius = max(1, int(np.ceil(8 * airy_um / pixel_size_um)))
    edge = 2 * radius + 1
    factor = oversampling if oversampling % 2 else oversampling + 1
    while pixel_size_um / factor > emission_nm / 1000.0 / (4 * na):
        factor += 2
    fine = defocused_psf((2 * edge * factor,) * 2, na, emission_nm, pixel_size_um / factor, index=max(WATER, na + 0.1))
    centred = np.roll(fine, (edge * factor // 2, edge * factor // 2), axis=(0, 1))[: edge * factor, : edge * factor]
    pixels = centred.reshape(edge, factor, edge, factor).sum(axis=(1, 3))
    return np.asarray(pixels / pixels.sum())
