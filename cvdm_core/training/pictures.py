"""The picture of a validation: what goes in, one sample, the mean of several, and the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvdm_core.training.validation import Samples

BAR_STEPS = (1.0, 2.0, 5.0)


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
    figure = Figure(figsize=(2.4 * len(columns), 2.4 * rows + 0.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for row in range(rows):
        low, high = np.percentile(samples.target[row], [0.5, 99.8])
        for column, (name, images) in enumerate(columns.items()):
            panel = axes[row, column]
            panel.imshow(images[row], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            if row == 0:
                panel.set_title(name, fontsize=9)
        axes[row, 0].set_ylabel(samples.labels[row], fontsize=8)
        length_um = bar_length(edge * samples.pixel_sizes_um[row])
        width = length_um / samples.pixel_sizes_um[row]
        axes[row, 0].add_patch(Rectangle((edge * 0.95 - width, edge * 0.93), width, edge * 0.02, color="white"))
        axes[row, 0].text(edge * 0.95 - width / 2, edge * 0.91, f"{length_um:g} µm", color="white", fontsize=7, ha="center", va="bottom")
    figure.savefig(path, metadata={"Software": None})


def bar_length(field_um: float) -> float:
    """Return the length of a scale bar: the largest of 1, 2 or 5 times a power of ten that fits a third of the field [micrometres]."""
    ten = 10.0 ** np.floor(np.log10(field_um / 3))
    return float(ten * max(step for step in BAR_STEPS if step * ten <= field_um / 3 * (1 + 1e-9)))
