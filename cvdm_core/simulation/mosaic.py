"""A simulated mosaic: fields cut from one specimen at known places, with the play of a stage, noise and uneven light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from scipy.ndimage import gaussian_filter

CAMERA_OFFSET = 100


@dataclass(frozen=True)
class SimulatedMosaic:
    """Fields of one specimen, row by row.

    Attributes
    ----------
    fields : (N, Y, X) uint16.
    corners : (N, 2) true first row and column of each in the specimen [pixels].
    stage : (N, 2) where the stage says that they are, (y, x) [pixels].
    specimen : (Y, X) float32, photons a pixel without noise.
    light : (Y, X) float32, illumination of a field, with the mean 1.
    """

    fields: npt.NDArray[np.uint16]
    corners: npt.NDArray[np.int_]
    stage: npt.NDArray[np.float64]
    specimen: npt.NDArray[np.float32]
    light: npt.NDArray[np.float32]


def simulate_mosaic(
    grid: tuple[int, int], field: int, overlap: float = 0.1, jitter: float = 3.0, uneven: float = 0.0, photons: float = 60.0, seed: int = 0
) -> SimulatedMosaic:
    """Simulate a grid of fields of a specimen of points and blurs.

    Parameters
    ----------
    grid
        Rows and columns of fields.
    field, overlap, jitter
        Edge of a field [pixels], share of it that neighbours have in common, and the largest play of the stage along y and x [pixels].
    uneven
        Loss of light in a field's corners.
    photons
        Mean number of photons a pixel.
    seed
        Of specimen, play and noise.
    """
    random = np.random.default_rng(seed)
    step, margin = round(field * (1 - overlap)), int(np.ceil(jitter)) + 2
    planned = np.array([(row * step, column * step) for row in range(grid[0]) for column in range(grid[1])], float)
    corners = np.rint(planned + random.uniform(-jitter, jitter, planned.shape)).astype(int) + margin
    specimen = _specimen(tuple(int(size) for size in planned.max(axis=0) + field + 2 * margin), photons, random)
    at = np.linspace(-1, 1, field)
    light = (1 - uneven * (at[:, None] ** 2 + at[None, :] ** 2) / 2).astype(np.float32)
    light /= light.mean()
    seen = [specimen[y : y + field, x : x + field] * light for y, x in corners]
    counts = np.stack([random.poisson(one) + random.normal(CAMERA_OFFSET, 1.5, one.shape) for one in seen])
    fields = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    return SimulatedMosaic(fields, corners, planned, specimen, light)


def write_mosaic(
    path: str | Path, fields: npt.NDArray[np.generic], stage_um: npt.NDArray[np.float64], pixel_um: float, axes: str = "YX"
) -> None:
    """Write an OME-TIFF with one image a field, (N, ...) along `axes`, each plane with the position (y, x) of the stage."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, (field, (y, x)) in enumerate(zip(fields, stage_um, strict=True)):
            planes = int(np.prod(field.shape[:-2]))
            plane = {"PositionX": [float(x)] * planes, "PositionY": [float(y)] * planes}
            units = {f"Position{axis}Unit": ["µm"] * planes for axis in "XY"}
            size = {"PhysicalSizeX": pixel_um, "PhysicalSizeY": pixel_um, "PhysicalSizeZ": 1.0}
            metadata = {"axes": axes, "Name": f"field {number}", **size, "Plane": plane | units}
            file.write(field, photometric="minisblack", metadata=metadata)


def _specimen(shape: tuple[int, ...], photons: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return points of many brightnesses, sharp and blurred, over a smooth background."""
    count = shape[0] * shape[1] // 300
    points = np.zeros(shape, np.float32)
    points[random.integers(0, shape[0], count), random.integers(0, shape[1], count)] = random.exponential(1.0, count)
    image = gaussian_filter(points, 1.3) + gaussian_filter(points, 5.0) + 0.3 * points.mean()
    return np.asarray(image * photons / image.mean(), np.float32)
