"""Simulated specimens: fluorophores in space, on filaments, in puncta and on membranes.

A structure is an array of fluorophores, float64 of shape (N, 4): z, y, x in micrometres and brightness. Filaments are worm-like
chains (microtubules are stiff, persistence length far above a field; here 20 µm), puncta are clusters of 30-90 nm (clathrin-coated pits,
vesicles), and membranes are closed, undulating outlines and rings. Fluorophores are placed at random along each structure, as a label is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
DEPTH_UM = 0.5  # structures lie within this distance of the middle plane, as in a thin, spread cell


def _label(path: Array, spacing_um: float, brightness: float, rng: np.random.Generator) -> Array:
    """Place fluorophores on a path (N, 3) at random, on average one each `spacing_um`."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = rng.uniform(0, along[-1], rng.poisson(along[-1] / spacing_um))
    points = np.stack([np.interp(places, along, path[:, axis]) for axis in range(3)], axis=1)
    return np.column_stack([points, brightness * rng.gamma(8.0, 0.125, len(points))])


def filaments(extent_um: tuple[float, float], rng: np.random.Generator) -> Array:
    """Return fluorophores on worm-like chains that cross a field of `extent_um` (y, x)."""
    height, width = extent_um
    count = max(3, round(0.035 * height * width))
    step, persistence = 0.1, 20.0
    pieces = []
    for _ in range(count):
        n = int(rng.uniform(0.3, 1.2) * max(extent_um) / step)
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, np.sqrt(2 * step / persistence), n))
        tilt = 0.02 * np.cumsum(rng.normal(0, 0.1, n))
        start = rng.uniform((-DEPTH_UM, -0.1 * height, -0.1 * width), (DEPTH_UM, 1.1 * height, 1.1 * width))
        path = start + np.cumsum(step * np.stack([tilt, np.sin(angle), np.cos(angle)], axis=1), axis=0)
        path[:, 0] = DEPTH_UM * np.sin(path[:, 0] / DEPTH_UM)  # stays in the cell
        pieces.append(_label(path, 0.005, rng.uniform(0.6, 1.4), rng))
    return np.concatenate(pieces)


def puncta(extent_um: tuple[float, float], rng: np.random.Generator) -> Array:
    """Return fluorophores in clusters scattered, partly in groups, over a field of `extent_um` (y, x)."""
    height, width = extent_um
    count = round(0.5 * height * width)
    groups = rng.uniform((0, 0), (height, width), (max(2, count // 12), 2))
    lone = rng.uniform((0, 0), (height, width), (count, 2))
    near = groups[rng.integers(len(groups), size=count)] + rng.normal(0, 0.6, (count, 2))
    centres = np.where(rng.random((count, 1)) < 0.5, lone, near)
    pieces = []
    for centre in centres:
        n = rng.poisson(rng.uniform(25, 110))
        spread = rng.normal(0, rng.uniform(0.02, 0.06), (n, 3))
        middle = np.array([rng.uniform(-DEPTH_UM, DEPTH_UM), *centre])
        pieces.append(np.column_stack([middle + spread, rng.gamma(4.0, 0.25, n)]))
    return np.concatenate(pieces)


def membranes(extent_um: tuple[float, float], rng: np.random.Generator) -> Array:
    """Return fluorophores on undulating outlines of cells and on small rings (vesicles, 0.3-1.2 µm)."""
    height, width = extent_um
    angle = np.linspace(0, 2 * np.pi, 400)
    pieces = []
    radii = np.concatenate(
        [rng.uniform(2.5, 7.0, max(2, round(0.008 * height * width))), rng.uniform(0.3, 1.2, round(0.09 * height * width))]
    )
    for radius in radii:
        wave = sum(rng.normal(0, 0.12 / mode) * np.cos(mode * angle + rng.uniform(0, 2 * np.pi)) for mode in range(2, 7))
        outline = radius * (1 + wave)
        middle = rng.uniform((0, 0), (height, width))
        depth = rng.uniform(-DEPTH_UM, DEPTH_UM) + 0.1 * np.sin(angle + rng.uniform(0, 2 * np.pi))
        path = np.stack([depth, middle[0] + outline * np.sin(angle), middle[1] + outline * np.cos(angle)], axis=1)
        pieces.append(_label(path, 0.006, rng.uniform(0.4, 1.2), rng))
    return np.concatenate(pieces)


STRUCTURES: dict[str, Callable[[tuple[float, float], np.random.Generator], Array]] = {
    "tubulin": filaments,
    "vesicles": puncta,
    "membrane": membranes,
}


def drift(fluorophores: Array, rng: np.random.Generator) -> Array:
    """Return the specimen one time point later: everything moves by about 0.15 µm, smoothly over the field."""
    moved = fluorophores.copy()
    phase = rng.uniform(0, 2 * np.pi, 4)
    y, x = fluorophores[:, 1], fluorophores[:, 2]
    moved[:, 1] += 0.15 * np.sin(0.3 * x + phase[0]) + 0.05 * np.sin(0.8 * y + phase[1])
    moved[:, 2] += 0.15 * np.cos(0.3 * y + phase[2]) + 0.05 * np.cos(0.8 * x + phase[3])
    return moved
