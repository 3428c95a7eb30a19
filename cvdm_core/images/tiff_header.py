"""What a TIFF says about itself, whatever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvdm_core.images.tiff_metadata import Metadata


@dataclass(frozen=True)
class TiffHeader:
    """What a TIFF says about itself.

    Attributes
    ----------
    shape : (T, C, Z, Y, X) in pixels; interleaved or separate colour samples are channels.
    axes : axes as found in the file, longer than 1, in tifffile's letters.
    undeclared : whether the file does not say what its pages are (the argument `pages` decided).
    dtype : data type of the pixels, native byte order.
    metadata : calibration, channels and optics, see `tiff_metadata.Metadata`.
    images : the images that begin in the file, by what the file calls them ("" where it does not); this one is `images[series]`.
    further : numbers of the others that have the same size and data type (positions, fields).
    by_rows : whether pixels are compressed in strips, so that a piece of a plane costs its whole rows: read it row by row.
    """

    shape: tuple[int, int, int, int, int]
    axes: str
    undeclared: bool
    dtype: np.dtype[Any]
    metadata: Metadata
    images: tuple[str, ...]
    further: tuple[int, ...]
    ome_xml: str | None
    by_rows: bool = False

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) in micrometres, or None where the file does not know a believable one."""
        return self.metadata.pixel_size_um

    @property
    def pixel_size_reason(self) -> str:
        """Why `pixel_size_um` is None; empty where it is known."""
        return self.metadata.pixel_size_reason

    @property
    def z_step_um(self) -> float | None:
        """Distance of planes in micrometres."""
        return self.metadata.z_step_um

    @property
    def time_step_s(self) -> float | None:
        """Time between time points in seconds."""
        return self.metadata.time_step_s

    @property
    def channels(self) -> tuple[str, ...]:
        """One name a channel, all different, without `;`."""
        return self.metadata.channels

    @property
    def emission_nm(self) -> tuple[float, ...]:
        """Emission wavelength of every channel in nanometres, or empty if not all are known."""
        return self.metadata.emission_nm

    @property
    def na(self) -> float | None:
        """Numerical aperture of the objective."""
        return self.metadata.na
