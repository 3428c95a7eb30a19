"""Images as files and arrays: TIFF, OME-Zarr, tiles, intensities, optics. Knows nothing of the model.

`open_image` is imported when it is first asked for, because the Snakefile imports `cvdm_core.images.tiles` and must stay light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvdm_core.images.reading import open_image

__all__ = ["open_image"]


def __getattr__(name: str) -> object:
    if name == "open_image":
        from cvdm_core.images.reading import open_image

        return open_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
