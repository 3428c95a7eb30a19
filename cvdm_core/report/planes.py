"""Reading planes for a page: which store, which image, which pyramid level.

Only one plane per channel is shown: the first time point, the middle z. Whole fields are read from the pyramid level next to the size
shown, details from level 0, the error in strips; so memory depends on the size of the page, not on the size of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.images.certificate import read_certificate
from cvdm_core.images.intensity import input_window, upsample
from cvdm_core.images.reading import open_image
from cvdm_core.report.pictures import Affine, Plane, resize, shrink
from cvdm_core.sheet import Acquisition

STRIP = 1024  # rows that are held at once where every pixel must be read
KINDS = ("input", "restored", "truth", "sample", "error", "std")  # the pictures, in their order on the page


@dataclass(frozen=True)
class Sources:
    """The stores of one acquisition; `extra` are the images that lie beside the mean in `restored`."""

    raw: Path
    restored: Path
    truth: Path | None
    extra: frozenset[str]
    scale: int

    @property
    def kinds(self) -> list[str]:
        """The pictures that can be shown."""
        truth = self.truth is not None
        have = {"sample": "sample_0" in self.extra, "std": "std" in self.extra, "truth": truth, "error": truth}
        return [kind for kind in KINDS if have.get(kind, True)]

    def of(self, kind: str) -> tuple[Path, str]:
        """Return the store and the image in it that hold one kind of picture, or an interval's "lower" or "upper"."""
        if kind == "input":
            return self.raw, ""
        if kind == "truth" and self.truth:
            return self.truth, ""
        return self.restored, {"restored": "", "sample": "sample_0"}.get(kind, kind)


def find_sources(config: Config, row: Acquisition) -> Sources:
    """Look which images of an acquisition exist; the truth and everything beside the mean may be absent.

    A truth of another size than the restored image is none, nor is one that lies too far off (the metrics say so). Where nothing is said
    about the spread (a regression, a single sample), a sample is the same as the mean and is not shown.

    Raises
    ------
    UserError
        If there is no restored image, or a store cannot be read.
    """
    restored, target = paths.restored_store(config, row.acquisition), paths.target_store(config, row.acquisition)
    usable = bool(row.target) and target.is_dir() and open_image(target).shape == open_image(restored).shape
    certificate = read_certificate(open_image(target)) if usable else None
    usable = usable and (certificate is None or certificate.usable)
    found = {name for name in ("std", "lower", "upper", "sample_0") if (restored / name).is_dir()}
    return Sources(
        raw=paths.raw_store(config, row.acquisition),
        restored=restored,
        truth=target if usable else None,
        extra=frozenset(found if "std" in found else ()),
        scale=config.model.scale,
    )


def open_plane(store: Path, image: str, channel: int, shrinks: float = 1.0) -> xr.DataArray:
    """Open one plane (Y, X), lazily, from the coarsest pyramid level that shrinks it by no more than `shrinks`.

    An image that is stored as integers comes back as the real numbers it stands for.
    """
    levels = int(open_image(store, image=image).attrs["levels"])
    opened = open_image(store, level=min(int(math.log2(max(1.0, shrinks))), levels - 1), image=image)
    plane = opened.isel(t=0, c=channel, z=opened.sizes["z"] // 2)
    linear = plane.attrs["cvdm"].get("intensity_map")
    if linear is None:
        return plane
    return (plane * np.float32(linear["scale"]) + np.float32(linear["offset"])).assign_attrs(plane.attrs)


def read_field(sources: Sources, kind: str, channel: int, shape: tuple[int, int], shrinks: float) -> Plane:
    """Read the whole field of one kind, brought to `shape`, which is the restored image shrunk by `shrinks`."""
    grown = sources.scale if kind == "input" else 1
    return resize(np.asarray(open_plane(*sources.of(kind), channel, shrinks / grown), np.float32), shape)


def read_detail(sources: Sources, kind: str, channel: int, rows: slice, columns: slice) -> Plane:
    """Read a detail at full resolution; `rows` and `columns` are on the grid of the restored image, multiples of the scale."""
    plane = open_plane(*sources.of(kind), channel)
    if kind != "input":
        return np.asarray(plane[rows, columns], np.float32)
    (y, inside_y), (x, inside_x) = (
        input_window(part, sources.scale, size) for part, size in zip((rows, columns), plane.shape, strict=True)
    )
    return upsample(np.asarray(plane[y, x]), sources.scale)[inside_y, inside_x]


def read_error(sources: Sources, channel: int, to_truth: Affine, shape: tuple[int, int]) -> Plane:
    """Return the mean of |restored − truth| under each pixel of a picture of `shape`, reading both strip by strip.

    The error of averaged images would be smaller than the average of the error; that is why level 0 is read.
    """
    restored, truth = (open_plane(*sources.of(kind), channel) for kind in ("restored", "truth"))
    factor = 2 ** int(math.log2(max(1, min(restored.shape[0] // shape[0], restored.shape[1] // shape[1], STRIP))))
    strips = []
    for first in range(0, restored.shape[0], STRIP):
        part = slice(first, first + STRIP)
        error = np.abs(to_truth(np.asarray(restored[part], np.float32)) - np.asarray(truth[part], np.float32))
        if error.shape[0] >= factor:
            strips.append(shrink(error, factor))
    return resize(np.concatenate(strips), shape)


def which_plane(store: Path) -> str:
    """Say which of several time points and z planes is shown; empty where there is only one."""
    sizes = open_image(store).sizes
    parts = [f"time point 1 of {sizes['t']}"] * (sizes["t"] > 1) + [f"z plane {sizes['z'] // 2 + 1} of {sizes['z']}"] * (sizes["z"] > 1)
    return ", ".join(parts)
