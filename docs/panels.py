"""Draw the detail panels of one acquisition: the pictures of README.md and docs/w2s.md.

python docs/panels.py --config config/config.yaml --acquisition cell10_dual docs/images/demo_panels.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cvdm_core.config import load
from cvdm_core.images.reading import open_image
from cvdm_core.report.pictures import match, richest_window, scale_bar, structure, window
from cvdm_core.report.planes import find_sources, read_detail
from cvdm_core.sheet import read_sheet

TITLES = {
    "input": "input",
    "restored": "restored (mean of 8)",
    "sample": "one posterior sample",
    "truth": "truth",
    "error": "absolute error",
    "std": "standard deviation",
}


def main() -> None:
    """Read the panels through the report and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--acquisition", required=True)
    parser.add_argument("--channel", type=int, default=0)
    parser.add_argument("--edge", type=int, default=192, help="of the detail [pixels of the restored image]")
    given = parser.parse_args()
    config = load([given.config])
    sources = find_sources(config, read_sheet(config.acquisitions)[given.acquisition])
    restored = open_image(sources.restored)
    height, width = restored.shape[3:]
    field = read_detail(sources, "restored", given.channel, slice(0, height), slice(0, width))
    y, x = (start // 8 * 8 for start in richest_window(structure(field), (given.edge, given.edge)))
    rows, columns = slice(y, y + given.edge), slice(x, x + given.edge)
    planes = {name: read_detail(sources, name, given.channel, rows, columns) for name in ("input", "restored", "sample", "truth", "std")}
    for name in ("input", "restored", "sample"):
        line = match(planes[name], planes["truth"])
        planes[name] = line(planes[name])
    planes["error"] = np.abs(planes["restored"] - planes["truth"])
    grey, warm = window(planes["truth"]), (0.0, window(planes["error"], planes["std"])[1])
    bar = scale_bar(given.edge * float(restored.attrs["pixel_size_um"][1]))
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.6), layout="constrained")
    for axis, name in zip(axes.flat, TITLES, strict=True):
        low, high = warm if name in ("error", "std") else grey
        axis.imshow(planes[name], cmap="inferno" if name in ("error", "std") else "gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(TITLES[name], fontsize=10)
        axis.set_axis_off()
        end, base = 0.95 * given.edge, 0.94 * given.edge
        axis.plot([end - bar.percent / 100 * given.edge, end], [base, base], color="white", linewidth=3, solid_capstyle="butt")
        axis.text(end, base - 4, bar.label, color="white", ha="right", va="bottom", fontsize=9)
    figure.savefig(given.output, dpi=110)


if __name__ == "__main__":
    main()
