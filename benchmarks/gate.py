"""How often images are called unlike the training data, that are and that are not: real widefield images, changed in known ways.

    python benchmarks/gate.py [--data ../shared/data/w2s]

The bounds are those of the inputs of w2s's training fields, one channel each; judged are the inputs of all other fields as they are, those
of the other channels, and inputs that were changed. An image counts as unlike where more than half of its windows are outside on one side.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, zoom

from cvdm_core.images.appearance import FEATURES, Bounds, appearance
from cvdm_core.quality.gate import MOST, compare_inputs
from cvdm_core.quality.planes import Plane, Stored
from cvdm_core.sheet import Acquisition
from cvdm_core.training.inputs import measure_inputs
from cvdm_core.training.pairs import Pair

Image = NDArray[np.float32]
CHANNELS = ("0", "1", "2")
CROP = 64


class Held:
    """An image in memory, read as one of a store is."""

    def __init__(self, pixels: Image) -> None:
        """Keep it."""
        self._pixels = pixels
        self.shape = pixels.shape

    def read(self, plane: Plane, y: slice, x: slice) -> Image:
        """Return a piece."""
        return self._pixels[y, x]

    def acquired(self, y: slice, x: slice, away: int) -> NDArray[np.bool_]:
        """Return that all was."""
        return np.ones((1, 1), bool)


def noisier(factor: float) -> Callable[[Image], Image]:
    """Return what raises the standard deviation of an image's noise by a factor."""

    def change(image: Image) -> Image:
        roughness = appearance(image)[FEATURES.index("roughness")]
        added = np.random.default_rng(0).normal(0, roughness * np.sqrt(factor**2 - 1), image.shape)
        return np.asarray(image + added, np.float32)

    return change


CHANGES: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "its central 256 x 256": lambda image: image[128:384, 128:384],
    "its central 128 x 128": lambda image: image[192:320, 192:320],
    "brightness x 0.5": lambda image: image * 0.5,
    "brightness x 1.5": lambda image: image * 1.5,
    "brightness x 2": lambda image: image * 2,
    "brightness x 4": lambda image: image * 4,
    "noise x 1.5": noisier(1.5),
    "noise x 2": noisier(2),
    "noise x 3": noisier(3),
    "blur, sigma 0.5 px": lambda image: gaussian_filter(image, 0.5),
    "blur, sigma 1 px": lambda image: gaussian_filter(image, 1),
    "sampled 1.25 x finer": lambda image: zoom(image, 1.25, order=1),
    "sampled 2 x finer": lambda image: zoom(image, 2, order=3),
    "binned 2 x 2": lambda image: image.reshape(256, 2, 256, 2).mean((1, 3)),
}


def unlike(image: Image, window: int, known: Bounds) -> float:
    """Return the share that decides."""
    rows, _ = compare_inputs("", cast(Stored, Held(image)), [Plane(0, 0, 0)], window, known)
    return rows[0].value


def main() -> None:
    """Print a table: by change and channel of the model, the share of images called unlike, and the median share of windows outside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CVDM_REAL_DATA", "../shared/data"), "w2s"))
    data = parser.parse_args().data
    with open(data / "manifest.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))

    def read(channel: str, training: bool, kind: str = "input") -> list[Image]:
        chosen = [line[kind] for line in lines if line["channel"] == channel and (line["split"] == "train") == training]
        return [np.asarray(tifffile.imread(data / name), np.float32) for name in chosen]

    table = Table("Input", *(f"model of channel {channel}" for channel in CHANNELS))
    cells: dict[str, list[str]] = {}
    for channel in CHANNELS:
        images = [image[None, None, None] for image in read(channel, training=True)]
        row = Acquisition(acquisition="w2s", specimen="s", split="train", input="w2s.tif")
        told = measure_inputs([Pair(row, image, image, [channel], 1, 0.1) for image in images], CROP, 0)  # type: ignore[arg-type]
        judged = {name: [change(image) for image in read(channel, training=False)] for name, change in CHANGES.items()}
        judged["mean of 400 frames"] = read(channel, training=False, kind="target")
        judged["another channel"] = [image for other in CHANNELS if other != channel for image in read(other, training=False)]
        for name, several in judged.items():
            shares = np.array([unlike(image, told["window"], told["channels"][channel]) for image in several])
            cells.setdefault(name, []).append(f"{np.sum(shares > MOST)} of {len(shares)} (median {np.median(shares):.2f})")
    for name, found in cells.items():
        table.add_row(name, *found)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
