"""What a restoration gained on the acquisitions with truth, per channel: the tables of README.md and docs/w2s.md.

    python benchmarks/gains.py --config config/config.yaml
    python benchmarks/gains.py --config config/examples/w2s.yaml --control config/examples/w2s_regression.yaml

Reads the metrics that `cvdm evaluate` wrote; nothing is computed anew. Scale-invariant PSNR [dB] (affine fit to the truth, range = the
truth's max - min), mean over the acquisitions of the split `test`. Printed as Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from cvdm_core import paths
from cvdm_core.config import Config, load
from cvdm_core.sheet import read_sheet


def read_metrics(config: Config, split: str) -> pd.DataFrame:
    """Return one row for each acquisition and channel, one column for each (image, metric)."""
    names = [row.acquisition for row in read_sheet(config.acquisitions).values() if row.split == split]
    files = [paths.restored_folder(config, name) / "metrics.parquet" for name in names]
    frame = pd.concat([pd.read_parquet(file) for file in files if file.is_file()])
    return frame.pivot_table(index=["acquisition", "channel"], columns=["image", "metric"], values="value")


def summary(metrics: pd.DataFrame, control: pd.DataFrame | None) -> pd.DataFrame:
    """Return the means per channel and over all images."""
    columns = {
        "input": metrics["input", "psnr_si"],
        "one sample": metrics["sample", "psnr_si"],
        "mean": metrics["restored", "psnr_si"],
    }
    if ("richardson_lucy", "psnr_si") in metrics:
        columns["Richardson-Lucy"] = metrics["richardson_lucy", "psnr_si"]
    if control is not None:
        columns["regression"] = control["restored", "psnr_si"]
    for image, title in (("sample", "power, one sample"), ("restored", "power, mean")):
        columns[title] = metrics[image, "hf_power_ratio"]
    columns["spread / error"] = metrics["restored", "spread_skill"]
    columns["coverage"] = metrics["restored", "coverage"]
    table = pd.DataFrame(columns)
    means = table.groupby("channel").mean()
    means.loc["all"] = table.mean()
    means.insert(0, "images", [*table.groupby("channel").size(), len(table)])
    means["gain, one sample"] = means["one sample"] - means["input"]
    means["gain, mean"] = means["mean"] - means["input"]
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--control", type=Path, help="configuration laid over the first one, whose results are the control")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    control = read_metrics(load([given.config, given.control]), given.split) if given.control else None
    table = summary(read_metrics(load([given.config]), given.split), control)
    print("| channel |", " | ".join(table.columns), "|")
    print("| --- |", " | ".join("---:" for _ in table.columns), "|")
    for channel, row in table.iterrows():
        print(f"| {channel} | {row['images']:.0f} |", " | ".join(f"{value:.2f}" for value in row.iloc[1:]), "|")


if __name__ == "__main__":
    main()
