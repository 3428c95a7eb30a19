"""What there is to see of an acquisition, and the pixels of one tile of it.

The stages may replace a store at any moment. So nothing is kept open: every answer is made from what lies there now, and a tile
carries the version of the image that it was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.layout import Layout, read_layout
from cvdm_core.images.omezarr_metadata import read_metadata
from cvdm_core.report.page import clean
from cvdm_core.report.pictures import MISSING, SEQUENTIAL, colours
from cvdm_core.sheet import Acquisition

SHOWN_FIRST = ("input", "restored", "std", "truth")
SOURCES = {"metadata": "from the file's metadata", "stated": "stated by a person in the sample sheet"}
LINEAR = {"scale": 1.0, "offset": 0.0}


class NotThere(Exception):
    """There is no such image, level or tile, or its file is missing."""


class Replaced(Exception):
    """The store was replaced while it was read, or is being replaced: ask again."""


class Damaged(Exception):
    """The pixels cannot be decoded, or their checksum is wrong."""


@dataclass(frozen=True)
class Picture:
    """One image to look at; `image` is its name in the store, "" the one at the store's root."""

    key: str
    store: Path
    image: str

    @property
    def version(self) -> str:
        """Another text as soon as another image lies there.

        Raises
        ------
        Replaced
            If there is none at the moment.
        """
        for name in ("zarr.json", ".zattrs"):
            path = self.store / self.image / name
            if path.is_file():
                status = path.stat()
                return f"{status.st_ino:x}-{status.st_mtime_ns:x}"
        raise Replaced


@dataclass(frozen=True)
class Scene:
    """An acquisition as it is looked at; `unrouted` is why no model restores it, if so."""

    config: Config
    row: Acquisition
    unrouted: str = ""

    def stores(self) -> dict[str, Path]:
        """Return the stores that exist now, by the name under which they are served."""
        return {store.name: store for store in self._roots().values() if store.is_dir()}

    def _roots(self) -> dict[str, Path]:
        of = {"input": paths.raw_store, "restored": paths.restored_store, "truth": paths.target_store}
        return {key: store(self.config, self.row.acquisition) for key, store in of.items()}

    def pictures(self) -> dict[str, Picture]:
        """Return what can be shown now, in the order of the panels: input, restored, std, truth, then what else was restored."""
        roots = self._roots()
        restored = roots["restored"]
        found = [Picture(key, store, "") for key, store in roots.items() if store.is_dir()]
        levels = (*restored.glob("*/0/zarr.json"), *restored.glob("*/0/.zarray"))
        found += [Picture(path.parent.parent.name, restored, path.parent.parent.name) for path in sorted(levels)]
        found.sort(key=lambda picture: SHOWN_FIRST.index(picture.key) if picture.key in SHOWN_FIRST else len(SHOWN_FIRST))
        return {picture.key: picture for picture in found}

    def notes(self) -> list[str]:
        """Return a sentence for what is missing."""
        if self.unrouted:
            return [clean(self.unrouted)]
        if paths.restored_store(self.config, self.row.acquisition).is_dir():
            return []
        return [f"Not restored by the model {self.config.model.name!r} yet; the page will show it as soon as it is."]

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to know, JSON-able. Lengths in micrometres, times in seconds."""
        pictures = [_describe(picture) for picture in self.pictures().values()]
        return {
            "acquisition": self.row.acquisition,
            "model": self.config.model.name,
            "notes": self.notes(),
            # The store's, as the scale bars are: the sheet may have been changed since.
            "pixel_size": next(
                (found["pixel_size"] for found in pictures if found["key"] == "input" and "levels" in found), "not known now"
            ),
            "missing_colour": list(MISSING),
            "sequential": colours(SEQUENTIAL, 256).tolist(),
            "pictures": pictures,
        }


def _describe(picture: Picture) -> dict[str, Any]:
    known: dict[str, Any] = {"key": picture.key, "store": picture.store.name, "image": picture.image}
    try:
        version = picture.version
        layout = read_layout(picture.store, picture.image)
        multiscale, omero, own = read_metadata(picture.store, picture.image)
        units = {axis["name"]: axis.get("unit") for axis in multiscale["axes"]}
        if not units["y"] == units["x"] == "micrometer":
            raise UserError(f"{picture.store / picture.image}: the pixel size has no unit, so no scale bar could be right.")
        steps = [{step["type"]: step[step["type"]] for step in level["coordinateTransformations"]} for level in multiscale["datasets"]]
        linear = own.get("intensity_map", LINEAR)
        channels = omero["channels"]
        return known | {
            "version": version,
            "dtype": _sent_dtype(layout, linear).name,
            "format": layout.format,
            "size": dict(zip("tcz", layout.shape[:3], strict=True)),
            "channels": [clean(channel["label"]) for channel in channels],
            "windows": [[channel["window"][end] * linear["scale"] + linear["offset"] for end in ("start", "end")] for channel in channels],
            "pixel_size": f"{steps[0]['scale'][4]:.4g} µm, {SOURCES.get(own.get('pixel_size_source', ''), 'of unknown source')}",
            "z_step_um": steps[0]["scale"][2] if units["z"] else None,
            "time_step_s": steps[0]["scale"][0] if units["t"] else None,
            "levels": [
                {
                    "shape": list(layout.level_shape(level)[3:]),
                    "pixel_um": step["scale"][3:],
                    "origin_um": step.get("translation", [0.0] * 5)[3:],
                    "tile": layout.chunk,
                }
                for level, step in enumerate(steps)
            ],
        }
    except UserError as error:
        return known | {"problem": clean(error)}
    except (Replaced, OSError):
        return known | {"problem": "It is being written anew; it will be shown again in a moment."}
    except (KeyError, TypeError, IndexError, ValueError):
        return known | {"problem": clean(f"{picture.store / picture.image}: the metadata are damaged; run `cvdm verify`.")}


def _sent_dtype(layout: Layout, linear: dict[str, float]) -> np.dtype[Any]:
    return layout.dtype if linear == LINEAR else np.dtype(np.float32)


def read_tile(picture: Picture, level: int, t: int, c: int, z: int, row: int, column: int) -> tuple[NDArray[Any], str]:
    """Read one tile of `store.chunk` x `store.chunk` pixels; `row` and `column` count tiles.

    The edge is the same at every level, though coarse levels have smaller chunks: the page would ask for thousands of them.

    Returns
    -------
    pixels : (Y, X)
        Little-endian, in the stored data type; float32 where integers stand for real numbers. Smaller at the image's far edges.
    version : str
        `picture.version` of what was read.

    Raises
    ------
    NotThere, Replaced, Damaged
    """
    version = picture.version
    try:
        pixels = _read_pixels(picture, level, (t, c, z), row, column)
    except (UserError, OSError, KeyError, ValueError, RuntimeError) as error:
        if picture.version != version:
            raise Replaced from error
        raise Damaged(f"{picture.store.name}/{picture.image}: a tile of level {level} cannot be read; run `cvdm verify`.") from error
    if picture.version != version:
        raise Replaced
    return pixels, version


def _read_pixels(picture: Picture, level: int, plane: tuple[int, int, int], row: int, column: int) -> NDArray[Any]:
    layout = read_layout(picture.store, picture.image)
    if not 0 <= level < layout.levels:
        raise NotThere
    shape = layout.level_shape(level)
    top, left = row * layout.chunk, column * layout.chunk
    if not all(0 <= position < size for position, size in zip((*plane, top, left), shape, strict=True)):
        raise NotThere
    rows, columns = slice(top, min(top + layout.chunk, shape[3])), slice(left, min(left + layout.chunk, shape[4]))
    _check_files(picture, layout, level, plane, rows, columns)
    array = zarr.open_array(picture.store / picture.image / str(level), mode="r")
    pixels = np.asarray(array[(*plane, rows, columns)])
    linear = read_metadata(picture.store, picture.image)[2].get("intensity_map", LINEAR)
    if linear != LINEAR:
        pixels = pixels * np.float32(linear["scale"]) + np.float32(linear["offset"])
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))


def _check_files(picture: Picture, layout: Layout, level: int, plane: tuple[int, int, int], rows: slice, columns: slice) -> None:
    """Look whether the files of a region are there: a reader takes a missing one for zeros, which must not look like a dark image."""
    edge = layout.file_edge
    held, _ = layout.place(level, plane)
    numbers = (range(part.start // edge, -(-part.stop // edge)) for part in (rows, columns))
    for index in product(*numbers):
        file = layout.file_name(level, (*held, *index))
        if not (picture.store / picture.image / file).is_file():
            raise NotThere(f"{picture.store.name}/{picture.image}: the file {file} is missing; run `cvdm verify`.")
