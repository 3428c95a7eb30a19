"""Which pairs are trained on, and how pixels are read from them.

A pair is one acquisition of the sheet whose target was acquired too, both as ingested. Specimens, not images, are what the splits
divide: two fields of one specimen in train and val would make the validation a memory test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.certificate import read_certificate, valid_part
from cvdm_core.images.intensity import UPSAMPLE_REACH
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.sheet import Acquisition

MEMORY_BUDGET = 2 * 1024**3
"""Bytes of pixels that are held in memory, as stored; pairs beyond it are read from their stores crop by crop."""

Pixels = NDArray[np.generic]


@dataclass(frozen=True)
class Place:
    """Where a crop lies: a plane of a pair, and the first pixel on the grid of the input."""

    pair: int
    t: int
    c: int
    z: int
    y: int
    x: int


class Pair:
    """Input and target of one acquisition.

    Parameters
    ----------
    row : Acquisition
        Its row of the sheet.
    input, target : xarray.DataArray or ndarray of shape (T, C, Z, Y, X) and (T, C, Z, Y * scale, X * scale)
        Lazy or in memory.
    channels : sequence of str
        Channel names of the input, which serve both.
    scale : int
        Target pixels for each input pixel, along y and x.
    pixel_size_um : float
        Of the target [micrometres].

    Raises
    ------
    UserError
        If the shapes do not belong together.
    """

    def __init__(
        self, row: Acquisition, input: xr.DataArray, target: xr.DataArray, channels: Sequence[str], scale: int, pixel_size_um: float
    ) -> None:
        expected = (*input.shape[:3], input.shape[3] * scale, input.shape[4] * scale)
        if target.shape != expected:
            raise UserError(
                f"{row.acquisition}: the target has shape {target.shape} (T, C, Z, Y, X), and with model.scale {scale} its input asks for "
                f"{expected}; set model.scale, or mend the row of the sheet."
            )
        self.row = row
        self.shape: tuple[int, ...] = tuple(input.shape)
        self.channels = tuple(channels)
        self.scale = scale
        self.pixel_size_um = pixel_size_um
        self.nbytes = int(input.size * input.dtype.itemsize + target.size * target.dtype.itemsize)
        self._input: xr.DataArray | Pixels = input
        self._target: xr.DataArray | Pixels = target

    def hold_in_memory(self) -> None:
        """Read the whole pair, in its stored data type."""
        self._input = np.ascontiguousarray(self._input)
        self._target = np.ascontiguousarray(self._target)

    def read_input(self, place: Place, height: int, width: int) -> Pixels:
        """Return the input's pixels of a crop with the context that upsampling needs.

        Returns
        -------
        ndarray of shape (height + 2 * UPSAMPLE_REACH, width + 2 * UPSAMPLE_REACH)
            In the stored data type. Beyond the image the edge pixel is repeated, as `upsample` itself does.
        """
        y = np.arange(place.y - UPSAMPLE_REACH, place.y + height + UPSAMPLE_REACH)
        x = np.arange(place.x - UPSAMPLE_REACH, place.x + width + UPSAMPLE_REACH)
        first_y, first_x = max(int(y[0]), 0), max(int(x[0]), 0)
        window = _read(self._input[place.t, place.c, place.z, first_y : int(y[-1]) + 1, first_x : int(x[-1]) + 1])
        return window[np.ix_(np.clip(y - first_y, 0, window.shape[0] - 1), np.clip(x - first_x, 0, window.shape[1] - 1))]

    def read_target(self, place: Place, height: int, width: int) -> Pixels:
        """Return the target's pixels of a crop, (height * scale, width * scale), in the stored data type."""
        y, x, scale = place.y, place.x, self.scale
        return _read(self._target[place.t, place.c, place.z, y * scale : (y + height) * scale, x * scale : (x + width) * scale])


def _read(part: xr.DataArray | Pixels) -> Pixels:
    """Return pixels, read by this thread: dask's own threads do not live on in a loading process, which would wait for them for ever."""
    return part if isinstance(part, np.ndarray) else np.asarray(part.data.compute(scheduler="synchronous"))


def open_pairs(config: Config, rows: Iterable[Acquisition], split: str) -> list[Pair]:
    """Open the ingested pairs of one split, and hold as many as `MEMORY_BUDGET` allows in memory.

    Raises
    ------
    UserError
        If an acquisition is not ingested, its target lies too far off, or its shapes do not fit together.
    """
    pairs = [_open_pair(config, row) for row in rows if row.split == split and row.target]
    left = MEMORY_BUDGET
    for pair in pairs:
        left -= pair.nbytes
        if left >= 0:
            pair.hold_in_memory()
    return pairs


def _open_pair(config: Config, row: Acquisition) -> Pair:
    receipt = paths.ingest_receipt(config, row.acquisition)
    if not receipt.is_file():
        raise UserError(f"{row.acquisition}: it is not ingested yet ({receipt} is missing); run `cvdm ingest` on it first.")
    opened = [open_image(store(config, row.acquisition)) for store in (paths.raw_store, paths.target_store)]
    certificate = read_certificate(opened[1])
    if certificate is not None and not certificate.usable:
        raise UserError(certificate.sentence)
    opened = [valid_part(image, certificate, opened[0].shape[3]) for image in opened]
    channels = [str(name) for name in opened[0].coords["c"].values]
    pixel_size = (row.pixel_size_um or 1.0) / config.model.scale
    return Pair(row, opened[0], opened[1], channels, config.model.scale, pixel_size)


def check_splits(rows: Iterable[Acquisition]) -> None:
    """Refuse a sheet in which one specimen, or one file, stands in two splits.

    Raises
    ------
    UserError
        Naming the specimen or file and both splits.
    """
    seen: dict[str, Acquisition] = {}
    for row in rows:
        files = {f"the file {path}": str(Path(path).resolve()) for path in (row.input, row.target) if path}
        for what, key in {f"the specimen {row.specimen!r}": f"specimen {row.specimen.casefold()}", **files}.items():
            other = seen.setdefault(key, row)
            if other.split != row.split:
                raise UserError(
                    f"{what} stands in the splits {other.split!r} ({other.acquisition}) and {row.split!r} ({row.acquisition}); give all "
                    f"its acquisitions the same split, or the validation would be a test of memory."
                )


def check_contents(config: Config, rows: Iterable[Acquisition]) -> None:
    """Refuse train and val pairs made of files with the same content under different names.

    Raises
    ------
    UserError
        Naming both acquisitions.
    """
    seen: dict[str, Acquisition] = {}
    for row in rows:
        for digest in _digests(read_json(paths.ingest_receipt(config, row.acquisition))["read"]):
            other = seen.setdefault(digest, row)
            if other.split != row.split:
                raise UserError(
                    f"{row.acquisition} ({row.split}) was made of the same file content as {other.acquisition} ({other.split}); "
                    f"remove one of the two rows from the sheet."
                )


def provenance(config: Config, pairs: Sequence[Pair]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the receipts that were read with their sha256, and for the model folder what each acquisition is, with its files' sha256."""
    ingested = [paths.ingest_receipt(config, pair.row.acquisition) for pair in pairs]
    entries = [
        {
            "acquisition": pair.row.acquisition,
            "specimen": pair.row.specimen,
            "split": pair.row.split,
            "shape": list(pair.shape),
            "channels": list(pair.channels),
            "files": read_json(receipt)["read"],
            "alignment": read_json(receipt).get("details", {}).get("pair", {}).get("sentence", "not measured"),
        }
        for pair, receipt in zip(pairs, ingested, strict=True)
    ]
    return {str(receipt): sha256_file(receipt) for receipt in ingested}, entries


def _digests(read: object) -> list[str]:
    if isinstance(read, dict):
        return [digest for value in read.values() for digest in _digests(value)]
    return [read] if isinstance(read, str) else []
