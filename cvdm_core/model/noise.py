"""Noise as a function of place: the same value at a pixel whatever the tile, batch, order, retry, process or node.

A plane of noise is cut into absolute blocks of 64x64 pixels. Each block is a stretch of Philox 4x64 (Salmon et al. 2011), a counter-based
generator: what the plane is (seed, acquisition, channel, t, z, sample, step) is hashed to the key, where the block lies is the counter.
Only raw 64-bit words are taken from numpy, whose stream is frozen, and turned to normal numbers here, so that a new numpy changes nothing.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
_WORDS = BLOCK * BLOCK // 2  # one 64-bit word makes two normal numbers
_DIRECTIONS = 2**16  # equally spaced, they have every moment of a uniform angle up to order 65,535
_ANGLES = (np.arange(_DIRECTIONS) + 0.5) * (2.0 * np.pi / _DIRECTIONS)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)


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
        plane = _Plane(json.dumps([*self._name, int(t), int(z), int(sample), int(step)]))
        columns = range(x.start // BLOCK, -(-x.stop // BLOCK))
        left = x.start - columns.start * BLOCK
        window = np.empty((y.stop - y.start, x.stop - x.start), dtype=np.float32)
        for row in range(y.start // BLOCK, -(-y.stop // BLOCK)):
            band = plane.band(row, columns)
            top, bottom = max(y.start, row * BLOCK), min(y.stop, (row + 1) * BLOCK)
            window[top - y.start : bottom - y.start] = band[top - row * BLOCK : bottom - row * BLOCK, left : left + window.shape[1]]
        return window


class _Plane:
    """The generator of one plane, which `name` identifies."""

    def __init__(self, name: str) -> None:
        key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u8").astype(np.uint64)
        self._generator = np.random.Philox(key=key)
        self._state = self._generator.state

    def band(self, row: int, columns: range) -> NDArray[np.float32]:
        """Return a row of blocks side by side, (64, 64 * len(columns))."""
        words = np.empty((len(columns), _WORDS), dtype=np.uint64)
        for place, column in enumerate(columns):
            # The lowest word of the counter counts within the block, so blocks never overlap; position 4 means an empty buffer.
            self._state["state"]["counter"][:] = (0, row, column, 0)
            self._state["buffer_pos"] = 4
            self._generator.state = self._state
            words[place] = self._generator.random_raw(_WORDS)
        return _box_muller(words).reshape(len(columns), BLOCK, BLOCK).transpose(1, 0, 2).reshape(BLOCK, -1)


def _box_muller(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Return two independent standard normal numbers for each word (Box & Muller 1958): (n, m) to (n, 2 m).

    The upper 48 bits make the radius, the lower 16 the direction. float64 up to the last rounding keeps the last bits of a machine's
    logarithm from showing in the float32 result.
    """
    uniform = (words >> np.uint64(16)).astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-48
    radius = np.sqrt(-2.0 * np.log(uniform))
    direction = (words & np.uint64(_DIRECTIONS - 1)).astype(np.intp)
    normal = np.empty((words.shape[0], 2 * words.shape[1]), dtype=np.float32)
    normal[:, 0::2] = radius * _COS[direction]
    normal[:, 1::2] = radius * _SIN[direction]
    return normal
