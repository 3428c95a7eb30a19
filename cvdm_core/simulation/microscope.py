"""A widefield microscope with a scientific CMOS camera, and a sharper reference of the same field.

Light from each fluorophore is spread by the defocused widefield PSF (`cvdm_core.images.optics`), summed over the area of a camera
pixel, and counted: Poisson photons, Gaussian read noise, gain and offset (Janesick, Photon Transfer, 2007). The target is what a
structured-illumination microscope would show: twice the sampling, twice the cut-off frequency, sectioned, with many more photons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from cvdm_core.images.optics import defocused_psf

Array = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint16]
FINE = 4  # points of the optical grid along an input pixel; the target has two of them


@dataclass(frozen=True)
class Camera:
    """A camera: counts = offset + gain · (Poisson(photons) + Normal(0, read_noise))."""

    offset: float = 100.0
    gain: float = 2.2
    read_noise: float = 1.6

    def expose(self, photons: Array, rng: np.random.Generator) -> Image:
        """Return counts, uint16, for the expected photons of each pixel."""
        electrons = rng.poisson(photons) + rng.normal(0, self.read_noise, photons.shape)
        return np.clip(np.rint(self.offset + self.gain * electrons), 0, 65535).astype(np.uint16)


@dataclass(frozen=True)
class Microscope:
    """A 63x/1.2 water objective in front of 6.5 µm pixels."""

    na: float = 1.2
    pixel_size_um: float = 6.5 / 63
    background: float = 6.0
    target_exposure: float = 40.0
    sectioning_um: float = 0.35
    layer_um: float = 0.25
    camera: Camera = Camera()


@lru_cache(maxsize=16)
def _transfer(grid: tuple[int, int], na: float, emission_nm: float, spacing_um: float, defocus_um: float) -> npt.NDArray[np.complex64]:
    """Return the optical transfer function on the half plane of a real Fourier transform."""
    psf = defocused_psf(grid, na, emission_nm, spacing_um, defocus_um)
    return np.asarray(fft.rfft2(psf.astype(np.float32)))


def _layers(fluorophores: npt.NDArray[np.float64], shape: tuple[int, int], spacing_um: float, layer_um: float) -> dict[float, Array]:
    """Sum fluorophores onto grids of `shape`, one for each depth, sharing each one linearly among its four neighbours."""
    depth = np.rint(fluorophores[:, 0] / layer_um)
    grids = {}
    for layer in np.unique(depth):
        chosen = fluorophores[depth == layer]
        position = chosen[:, 1:3] / spacing_um - 0.5
        corner = np.floor(position).astype(np.int64)
        share = position - corner
        grid = np.zeros(shape[0] * shape[1])
        for dy in (0, 1):
            for dx in (0, 1):
                weight = chosen[:, 3] * np.abs(1 - dy - share[:, 0]) * np.abs(1 - dx - share[:, 1])
                y, x = corner[:, 0] + dy, corner[:, 1] + dx
                inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
                grid += np.bincount(y[inside] * shape[1] + x[inside], weight[inside], minlength=grid.size)
        grids[float(layer) * layer_um] = grid.reshape(shape).astype(np.float32)
    return grids


def _bin(image: Array, factor: int) -> Array:
    height, width = image.shape
    return np.asarray(image.reshape(height // factor, factor, width // factor, factor).sum(axis=(1, 3)))


def expected_photons(
    fluorophores: npt.NDArray[np.float64],
    shape: tuple[int, int],
    emission_nm: float,
    photons: float,
    z_um: float,
    microscope: Microscope,
) -> tuple[Array, Array]:
    """Return the expected photons of each pixel of the input, (Y, X), and of the target, (2Y, 2X), float32.

    `photons` is the 99.9th percentile of the signal in an input pixel. The optical grid is larger than the field by 2 µm on each side,
    so that light does not wrap around.
    """
    spacing = microscope.pixel_size_um / FINE
    margin = FINE * int(np.ceil(2.0 / microscope.pixel_size_um))
    grid = (fft.next_fast_len(FINE * shape[0] + 2 * margin), fft.next_fast_len(FINE * shape[1] + 2 * margin))
    shifted = fluorophores + np.array([0, margin * spacing, margin * spacing, 0])
    wide = np.zeros((grid[0], grid[1] // 2 + 1), dtype=np.complex64)
    sectioned = np.zeros_like(wide)
    for depth, layer in _layers(shifted, grid, spacing, microscope.layer_um).items():
        spectrum = fft.rfft2(layer)
        wide += spectrum * _transfer(grid, microscope.na, emission_nm, spacing, round(abs(depth - z_um), 6))
        sectioned += spectrum * np.float32(np.exp(-0.5 * ((depth - z_um) / microscope.sectioning_um) ** 2))
    sharp = sectioned * _transfer(grid, microscope.na, emission_nm / 2, spacing, 0.0)
    field = (slice(margin, margin + FINE * shape[0]), slice(margin, margin + FINE * shape[1]))
    seen = np.maximum(_bin(fft.irfft2(wide, s=grid)[field], FINE), 0)
    truth = np.maximum(_bin(fft.irfft2(sharp, s=grid)[field], FINE // 2), 0)
    level = np.float32(photons / np.percentile(seen, 99.9))
    return seen * level + microscope.background, truth * level * microscope.target_exposure + 1.0


def acquire(
    fluorophores: npt.NDArray[np.float64],
    shape: tuple[int, int],
    emission_nm: float,
    photons: float,
    rng: np.random.Generator,
    z_um: float = 0.0,
    microscope: Microscope | None = None,
) -> tuple[Image, Image]:
    """Return the widefield input (Y, X) and the sharper target (2Y, 2X), both uint16, of one plane."""
    used = microscope or Microscope()
    seen, truth = expected_photons(fluorophores, shape, emission_nm, photons, z_um, used)
    return used.camera.expose(seen, rng), used.camera.expose(truth, rng)
