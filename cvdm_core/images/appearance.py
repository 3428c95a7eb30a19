"""What an input looks like, in four numbers a window: what tells an image of another exposure, blur or sampling from those of a training.

They are as much as a person can be told about a difference, and see nothing of the shapes in the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEATURES = ("brightness", "contrast", "roughness", "softness")
SMALLEST = 6
"""Edge of a window of which all four can be told [pixels]."""
Bounds = dict[str, tuple[float, float]]
"""What lies between the two looks as in the training, by feature."""


def appearance(window: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the features of a window, in the order of `FEATURES`.

    Parameters
    ----------
    window : ndarray of shape (Y, X)
        Stored counts; at least `SMALLEST` pixels along each side.

    Returns
    -------
    ndarray of shape (4,)
        Brightness: mean [counts]. Contrast: standard deviation [counts]. Roughness: standard deviation of the noise as Immerkær (1996,
        doi:10.1006/cviu.1996.0060) estimates it, which fine structure raises too [counts]. Softness: twice the roughness of the means of
        2 x 2 pixels over that of the pixels; 1 for white noise, above where neighbours are alike, as after blur or resampling; 1
        too where nothing is rough.
    """
    pixels = np.asarray(window, np.float64)
    y, x = (size // 2 for size in pixels.shape)
    fine, coarse = _roughness(pixels), _roughness(pixels[: 2 * y, : 2 * x].reshape(y, 2, x, 2).mean((1, 3)))
    return np.array([pixels.mean(), pixels.std(), fine, 2 * coarse / fine if fine > 0 else 1.0])


def _roughness(pixels: NDArray[np.float64]) -> float:
    rows = pixels[:-2] - 2 * pixels[1:-1] + pixels[2:]
    both = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(both).mean())
