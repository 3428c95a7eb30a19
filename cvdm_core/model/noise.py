"""Noise as a function of place: the same value at a pixel whatever the tile, batch, order, retry, process or node.

A plane of noise is cut into absolute blocks of 64x64 pixels. Each block is a stretch of Philox 4x64 (Salmon et al. 2011), a counter-based
generator: what the plane is (seed, acquisition, channel, t, z, sample, step) is hashed to the key, where the block lies is the counter. Only
raw 64-bit words are taken from numpy, whose stream is frozen, and turned to normal numbers here, so that a new numpy changes nothing.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
_WORDS = BLOCK * BLOCK // 2  # one 64-bit word makes two normal numbers


class NoiseField:
    """Standard normal noise for one channel of one acquisition.

    Parameters
    ----------
    seed : int
        `sampling.seed`.
    acquisition, channel : str
        Names; other names, other noise.
    """

    def __init__(self, seed: int, acquisition: str, channel: str) -> None:
        self._name = [int(seed), str(acquisition), str(channel)]

    def normal(self, sample: int, step: int, t: int, z: int, y: slice, x: slice) -> NDArray[np.float32]:
        """Return the noise of a window, float32 of shape (y.stop - y.start, x.stop - x.start).

        Parameters
        ----------
        sample, step, t, z : int
            Posterior sample, denoising step (0 is the start), time point and plane.
        y, x : slice
            Absolute pixels on the target grid, start >= 0, no stride.
        """
        text = json.dumps([*self._name, int(t), int(z), int(sample), int(step)])
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
        window = np.empty((y.stop - y.start, x.stop - x.start), dtype=np.float32)
        for row in range(y.start // BLOCK, -(-y.stop // BLOCK)):
            columns = range(x.start // BLOCK, -(-x.stop // BLOCK))
            band = np.concatenate([_words(key, row, column) for column in columns])
            band_pixels = _box_muller(band).reshape(len(columns), BLOCK, BLOCK).transpose(1, 0, 2).reshape(BLOCK, -1)
            top, bottom = max(y.start, row * BLOCK), min(y.stop, (row + 1) * BLOCK)
            left = x.start - columns.start * BLOCK
            window[top - y.start : bottom - y.start] = band_pixels[top - row * BLOCK : bottom - row * BLOCK, left : left + window.shape[1]]
        return window


def _words(key: NDArray[np.uint64], row: int, column: int) -> NDArray[np.uint64]:
    """Return the raw words of one block. The lowest word of the counter counts within the block, so blocks never overlap."""
    generator = np.random.Philox(key=key, counter=np.array([0, row, column, 0], dtype=np.uint64))
    return np.asarray(generator.random_raw(_WORDS), dtype=np.uint64)


def _box_muller(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return two independent standard normal numbers for each word (Box & Muller 1958), in float64 up to the last rounding.

    float64 keeps the last bits of the machine's log, sin and cos from showing in the float32 result.
    """
    radius = np.sqrt(-2.0 * np.log(((words >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32))
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
    normal = np.empty(2 * len(words), dtype=np.float32)
    normal[0::2] = radius * np.cos(angle)
    normal[1::2] = radius * np.sin(angle)
    return normal
