"""A small displacement between two images of one field: shift, rotation and scale about the field's centre, and how to undo it.

Positions are measured from the centre of the field, in pixels, as complex numbers x + iy. What lies at position p in the input lies at
p + shift + (scale_error + i rotation) p in the target. One complex line, so that fitting it is linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

Float64 = NDArray[np.float64]
Region = tuple[slice, slice]
Read = Callable[[slice, slice], NDArray[np.generic]]

ORDER = 5  # of the spline: on simulated targets the cubic one's error is two to three times as large (benchmarks/pair_registration.py)
REACH = 16  # pixels read around a region: the spline's prefilter decays by 0.43 a pixel, to 1e-6 of a neighbour's error


@dataclass(frozen=True)
class Similarity:
    """Displacement of the target against the input.

    Attributes
    ----------
    shift_y, shift_x : float
        At the field's centre [pixels].
    rotation : float
        From x towards y [radian]; small, so that sin and tangent are the angle.
    scale_error : float
        Relative: 0.01 is a target magnified by 1 %.
    """

    shift_y: float = 0.0
    shift_x: float = 0.0
    rotation: float = 0.0
    scale_error: float = 0.0

    @classmethod
    def from_complex(cls, shift: complex, linear: complex) -> Similarity:
        """Return the displacement shift + linear * p."""
        return cls(shift.imag, shift.real, linear.imag, linear.real)

    @property
    def shift(self) -> complex:
        """The shift as x + iy."""
        return complex(self.shift_x, self.shift_y)

    @property
    def linear(self) -> complex:
        """Scale error + i rotation."""
        return complex(self.scale_error, self.rotation)

    def at(self, positions: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Return the displacement at positions (x + iy from the centre)."""
        return self.shift + self.linear * positions

    def after(self, other: Similarity) -> Similarity:
        """Return this displacement, measured against an image that `other` had displaced already."""
        linear = (1 + self.linear) * (1 + other.linear) - 1
        return Similarity.from_complex(other.shift + (1 + other.linear) * self.shift, linear)

    def minus(self, other: Similarity) -> Similarity:
        """Return the difference of two displacements, place by place."""
        return Similarity.from_complex(self.shift - other.shift, self.linear - other.linear)

    def enlarged(self, scale: int) -> Similarity:
        """Return the same displacement in pixels that are `scale` times smaller."""
        return Similarity(self.shift_y * scale, self.shift_x * scale, self.rotation, self.scale_error)

    def largest(self, shape: tuple[int, int]) -> float:
        """Return the largest displacement anywhere in a field of `shape` (Y, X) [pixels]."""
        return float(abs(self.at(_corners(shape))).max())

    def valid(self, shape: tuple[int, int]) -> Region:
        """Return the rectangle of whole pixels (y, x) that a target of `shape` still shows everywhere once it is moved back."""
        moved = _corners(shape) + self.at(_corners(shape))
        edges = []
        for size, first, last in (
            (shape[0], min(p.imag for p in moved[:2]), max(p.imag for p in moved[2:])),
            (shape[1], min(p.real for p in moved[::2]), max(p.real for p in moved[1::2])),
        ):
            half = (size - 1) / 2
            before, after = (max(0, math.ceil(excess - 1e-6)) for excess in (-half - first, last - half))
            edges.append(slice(min(before, size), max(size - after, min(before, size))))
        return edges[0], edges[1]

    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self.shift == 0 and self.linear == 0


def _corners(shape: tuple[int, int]) -> NDArray[np.complex128]:
    y, x = ((size - 1) / 2 for size in shape)
    return np.array([complex(-x, -y), complex(x, -y), complex(-x, y), complex(x, y)])


def read_moved(read: Read, shape: tuple[int, int], move: Similarity, region: Region) -> NDArray[np.generic]:
    """Return a region of a plane that is moved back by a displacement: its pixel p is what the plane shows at p + displacement.

    Parameters
    ----------
    read
        Returns a region (y, x) of the plane as stored, whole or in pieces.
    shape
        (Y, X) of the plane.
    move
        In pixels of the plane, about its centre.
    region
        (y, x), inside the plane; memory is that of the region and its surroundings.

    Returns
    -------
    ndarray of the region's shape, float64; without a displacement the stored pixels themselves, bit for bit
        Quintic spline interpolation. Beyond the plane's edge its mirror image stands, which is not data: see `Similarity.valid`.
    """
    if move.is_identity():
        return read(*region)
    centre = complex((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    first = complex(region[1].start, region[0].start) - centre
    last = complex(region[1].stop - 1, region[0].stop - 1) - centre
    corners = np.array([first, complex(last.real, first.imag), complex(first.real, last.imag), last])
    seen = corners + move.at(corners) + centre
    y = _around(min(p.imag for p in seen), max(p.imag for p in seen), shape[0])
    x = _around(min(p.real for p in seen), max(p.real for p in seen), shape[1])
    pixels = np.asarray(read(y, x), np.float64)
    matrix = np.array([[1 + move.scale_error, move.rotation], [-move.rotation, 1 + move.scale_error]])
    start = first + complex(move.at(np.array([first]))[0]) + centre - complex(x.start, y.start)
    size = (region[0].stop - region[0].start, region[1].stop - region[1].start)
    moved: Float64 = affine_transform(pixels, matrix, (start.imag, start.real), size, order=ORDER, mode="mirror")
    return moved


def _around(first: float, last: float, size: int) -> slice:
    """Return the pixels from `first` to `last` and `REACH` around them, inside an axis of `size`; never none."""
    start = min(max(math.floor(first) - REACH, 0), max(size - 2 * REACH, 0))
    return slice(start, max(min(math.ceil(last) + REACH + 1, size), min(start + 2 * REACH, size)))
