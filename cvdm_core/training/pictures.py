"""The picture of a validation: what goes in, one sample, the mean of several, and the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvdm_core.training.validation import Samples

BAR_STEPS = (1.0, 2.0, 5.0)
TILE_INCHES = 2.4
GAP = 0.03
"""Between images, as a fraction of their edge."""
TITLE = 0.3
"""Room above the images, likewise."""


def draw_validation(path: Path, samples: Samples, title: str) -> None:
    """Write a PNG with a row for each crop and the columns input, sample, mean, target, all in the truth's display range.

    Parameters
    ----------
    path : Path
    samples : Samples
    title : str
    """
    columns = {"input (upsampled)": samples.condition, "one sample": samples.sample, "mean": samples.mean, "target": samples.target}
    rows, edge = len(samples.target), samples.target.shape[-1]
    step = edge * (1 + GAP)
    width, height = len(columns) * step, rows * step + TITLE * edge
    figure = Figure(figsize=(TILE_INCHES * width / edge, TILE_INCHES * height / edge), dpi=100)
    FigureCanvasAgg(figure)
    # One pair of axes for all images: sixteen of them would take a second to draw, in the middle of the training.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(0.05 * edge, 0.11 * edge, title, fontsize=9)
    for row in range(rows):
        low, high = np.percentile(samples.target[row], [0.5, 99.8])
        top = TITLE * edge + row * step
        for column, (name, images) in enumerate(columns.items()):
            left = column * step
            place = (left, left + edge, top + edge, top)
            axes.imshow(images[row], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest", extent=place)
            if row == 0:
                axes.text(left + edge / 2, top - 0.03 * edge, name, fontsize=9, ha="center")
        axes.text(0.03 * edge, top + 0.03 * edge, samples.labels[row], color="white", fontsize=7, va="top", parse_math=False)
        length_um = bar_length(edge * samples.pixel_sizes_um[row])
        length = length_um / samples.pixel_sizes_um[row]
        axes.add_patch(Rectangle((0.95 * edge - length, top + 0.93 * edge), length, 0.02 * edge, color="white"))
        axes.text(0.95 * edge - length / 2, top + 0.91 * edge, f"{length_um:g} µm", color="white", fontsize=7, ha="center", va="bottom")
    axes.set(xlim=(0, width), ylim=(height, 0))
    figure.savefig(path, metadata={"Software": None})


def bar_length(field_um: float) -> float:
    """Return the length of a scale bar: the largest of 1, 2 or 5 times a power of ten that fits a third of the field [micrometres]."""
    ten = 10.0 ** np.floor(np.log10(field_um / 3))
    return float(ten * max(step for step in BAR_STEPS if step * ten <= field_um / 3 * (1 + 1e-9)))
