"""Richardson-Lucy with the theoretical PSF of the microscope: the reference row that every user knows.

Only where the sheet gives numerical aperture and emission wavelength. The PSF is the theory's, not the instrument's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvdm_core.images.optics import widefield_psf
from cvdm_core.quality.fidelity import RICHARDSON_LUCY_HALO, richardson_lucy
from cvdm_core.quality.planes import Plane, Scratch, Source, Stored, blocks, inside, with_halo
from cvdm_core.quality.reference import Moments, exact_quantiles
from cvdm_core.sheet import Acquisition

AIRY_PIXELS = (0.1, 32.0)  # radii that are believed, in pixels of the restored image; outside, a number in the sheet is wrong


def deconvolve(
    raw: Stored,
    upsampled: Source,
    row: Acquisition,
    channel: int,
    planes: list[Plane],
    iterations: int,
    shape: tuple[int, int],
    pixel_size_um: tuple[float, float],
    scratch: Path,
) -> Source | str | None:
    """Deconvolve the upsampled input of one channel, block by block, into a scratch file.

    The background is the 0.1 percentile of the channel's input, and is added again, so that the result is in camera units.

    Parameters
    ----------
    raw, upsampled
        The input on its own grid, and on that of the restored image.
    shape, pixel_size_um
        (Y, X) of the restored image.
    scratch
        Folder for the result (planes x Y x X float32).

    Returns
    -------
    The result; None if the sheet does not give aperture and wavelength; a sentence if it gives such for which there is no PSF.
    """
    if row.na is None or channel >= len(row.emission_nm):
        return None
    airy = 0.61e-3 * row.emission_nm[channel] / row.na / pixel_size_um[0]
    if not AIRY_PIXELS[0] <= airy <= AIRY_PIXELS[1]:
        return f"the theoretical PSF would have a radius of {airy:.3g} pixels; check aperture, wavelength and pixel size"
    try:
        psf = widefield_psf(row.na, row.emission_nm[channel], pixel_size_um[0])
    except ValueError as error:
        return f"there is no theoretical PSF: {error}"
    background, mean = _levels(raw, planes)
    below = min(background, 0.0)  # of signed images and of such that are corrected for the background: no photons are negative
    result = Scratch(scratch / f"richardson_lucy_{channel}.raw", planes, shape)
    for plane in planes:
        for block in blocks(shape):
            region = with_halo(block, RICHARDSON_LUCY_HALO, shape)
            image = upsampled.read(plane, *region) - np.float32(below)
            estimate = richardson_lucy(image, psf, iterations, background - below, max(mean - background, 1e-3))
            result.write(plane, *block, estimate[inside(block, region)] + background)
    return result


def _levels(raw: Stored, planes: list[Plane]) -> tuple[float, float]:
    pieces = [(plane, block) for plane in planes for block in blocks(raw.shape)]
    (background,) = exact_quantiles(lambda: (raw.read(plane, *block) for plane, block in pieces), (0.001,))
    moments = Moments()
    for plane, block in pieces:
        pixels = raw.read(plane, *block)
        moments.add(pixels, pixels)
    return background, moments.mean_image
