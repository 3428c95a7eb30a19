"""The table of metrics: one row for each channel, image and metric, and the files it is kept in.

A metric that could not be computed has the value NaN (null in the files) and a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from cvdm_core.files import replacing

COLUMNS = ("acquisition", "model", "split", "channel", "image", "metric", "value", "unit", "reference", "reason")

DEFINITIONS: Mapping[str, tuple[str, str, str]] = {
    "psnr": ("dB", "truth", "10·log10(R²/MSE) of the image as it is; R is fixed, see `range` in evaluate.json"),
    "psnr_si": ("dB", "truth", "10·log10(R²/MSE) after the least-squares fit a·image + b to the truth; R = maximum - minimum of the truth"),
    "ssim": ("", "truth", "Wang et al. 2004, after the same fit; Gaussian window of sigma 1.5 and 11 pixels, range as in psnr"),
    "ms_ssim": ("", "truth", "Wang et al. 2003, five scales, after the same fit; whole planes, mean over planes"),
    "nrmse": ("", "truth", "RMSE after the same fit over the 0.1-99.9 percentile range of the truth (Weigert et al. 2018)"),
    "frc_resolution": (
        "µm",
        "truth",
        "where the Fourier ring correlation with the truth falls below 1/7; central crop of the plane at the middle time point and z",
    ),
    "hf_power_ratio": (
        "",
        "truth",
        "power between 0.15 and 0.35 cycles per pixel over the truth's, which includes the truth's noise; of input and reference rows, and "
        "with relative intensities of all, after the fit's factor",
    ),
    "rsp": ("", "input", "Pearson correlation of the re-blurred image with the input (Culley et al. 2018)"),
    "rse": ("counts", "input", "root mean square of the re-blurred, fitted image minus the input (Culley et al. 2018)"),
    "coverage": ("share", "truth", "share of pixels whose truth lies in the stored interval"),
    "spread_skill": ("", "truth", "root mean posterior variance over RMSE, corrected for the number of samples; below 1: over-confident"),
    "spearman_std": ("", "truth", "Spearman correlation of the standard deviation with |restored - truth|"),
    "spearman_input": ("", "truth", "the control: the same with the input's intensity in place of the standard deviation"),
    "unlike_training": (
        "share",
        "training data",
        "largest share of windows of the input whose brightness, contrast, roughness or softness lies above, or below, that of 99.5 % of "
        "the windows of the training inputs, and of further images like them; no row where the model does not tell",
    ),
    "trained_on": ("files", "training data", "files of this acquisition, by sha256, that the model was trained on; no row where none"),
    "chosen_by": (
        "files",
        "training data",
        "files of this acquisition, by sha256, of the validation data, by which the weights were chosen; no row where none",
    ),
}


@dataclass(frozen=True)
class Row:
    """One number. `reference` is what was compared with: "truth", "input" or "training data"; `reason` says why a value is NaN."""

    channel: str
    image: str
    metric: str
    value: float
    unit: str
    reference: str
    reason: str


def make_row(channel: str, image: str, metric: str, value: float, reason: str = "", note: str = "") -> Row:
    """Return a row of a known metric.

    Parameters
    ----------
    value
        NaN where the metric could not be computed.
    reason
        Why it is NaN; dropped where it is not.
    note
        Added to the unit, such as the range of a PSNR.
    """
    unit, reference, _ = DEFINITIONS[metric]
    why = (reason or "the image holds values that are not finite") if math.isnan(value) else ""
    return Row(channel, image, metric, value, f"{unit} ({note})" if note else unit, reference, why)


def to_frame(rows: Iterable[Row], acquisition: str, model: str, split: str) -> pd.DataFrame:
    """Return the rows as a table with `COLUMNS`; `value` is float64."""
    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS[3:]))
    frame.insert(0, "acquisition", acquisition)
    frame.insert(1, "model", model)
    frame.insert(2, "split", split)
    return frame.astype({"value": "float64"})


def write_results(folder: Path, frame: pd.DataFrame, curves: xr.Dataset) -> list[Path]:
    """Write metrics.parquet, metrics.tsv and curves.nc by rename, and return their paths."""
    return [
        _write(folder / "metrics.parquet", lambda path: frame.to_parquet(path, index=False)),
        _write(folder / "metrics.tsv", lambda path: frame.to_csv(path, sep="\t", index=False, lineterminator="\n")),
        _write(folder / "curves.nc", lambda path: curves.to_netcdf(path, engine="h5netcdf")),
    ]


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    with replacing(path) as partial:
        write(partial)
    return path
