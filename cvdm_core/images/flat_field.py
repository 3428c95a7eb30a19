"""Correction of uneven illumination: corrected = (pixel - dark) / profile + dark, the profile having the mean 1.

`dark` is what the camera counts without light; it is not illumination, so it is not divided by it. Results are rounded to the nearest
integer (halves to the even one) and clipped to the data type where that holds integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes
from cvdm_core.images.tiff_header import TiffHeader

DARKEST = 0.05  # of the mean; where less light falls, division makes noise and no image


class FlatField:
    """The profile of the illumination, by channel.

    Parameters
    ----------
    path
        A TIFF of the profile, of the size of a field: one plane for all channels, or one for each.
    header
        Of the fields.
    dark
        Counts of the camera without light, of the profile's pixels too.

    Raises
    ------
    UserError
        If the file cannot be read, has another size, or is no profile (not above the dark level everywhere, or not a number).
    """

    def __init__(self, path: str | Path, header: TiffHeader, dark: float) -> None:
        """Read and check the profile; it stays in memory, one field of float32 a channel."""
        self.dark = np.float32(dark)
        with open_planes(path) as planes:
            self.files = planes.files
            times, channels, depth, *size = planes.header.shape
            if tuple(size) != header.shape[3:] or times * channels * depth not in (1, header.shape[1]):
                raise UserError(
                    f"{path}: the flat field is {planes.header.shape} (T, C, Z, Y, X) and the fields are {header.shape}; it needs their "
                    "rows and columns, and one plane, or one for each channel."
                )
            whole = slice(0, size[0]), slice(0, size[1])
            places = np.ndindex(times, channels, depth)
            self._profiles = [self._normalised(path, planes.read(t, c, z, *whole)) for t, c, z in places]

    def _normalised(self, path: str | Path, pixels: NDArray[Any]) -> NDArray[np.float32]:
        light = pixels.astype(np.float64) - self.dark
        mean = light.mean()
        if not np.isfinite(mean) or mean <= 0 or light.min() < DARKEST * mean:
            raise UserError(
                f"{path}: this is no illumination profile: above the dark level of {self.dark:g} its mean is {mean:.4g} and its smallest "
                f"value {light.min():.4g}, and less than {DARKEST:.0%} of the mean cannot be corrected; give the right file or dark_level."
            )
        return np.asarray(light / mean, np.float32)

    def __call__(self, channel: int, pixels: NDArray[Any], y: slice, x: slice) -> NDArray[Any]:
        """Return a region of a field corrected, in its data type."""
        profile = self._profiles[channel if len(self._profiles) > 1 else 0][y, x]
        flat = (pixels.astype(np.result_type(pixels.dtype, np.float32)) - self.dark) / profile + self.dark
        if pixels.dtype.kind in "iu":
            limits = np.iinfo(pixels.dtype)
            flat = np.clip(np.rint(flat), limits.min, limits.max)
        corrected: NDArray[Any] = flat.astype(pixels.dtype)
        return corrected
