"""The metrics and images by their names for people, and numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

IMAGES = {
    "input": ("input", "the acquired input, interpolated (cubic) to the grid of the restored image"),
    "restored": ("restored", "mean of the posterior samples"),
    "sample": ("one sample", "one posterior sample"),
    "richardson_lucy": ("Richardson–Lucy", "classical deconvolution of the input with the theoretical PSF: a reference row"),
    "constant": ("constant", "an image without any content: what a metric gives for nothing"),
}


@dataclass(frozen=True)
class Metric:
    """What a metric is, for people. `better` says which way is up; `digits` are the decimals shown."""

    label: str
    better: Literal["higher", "lower", "one", "none"]
    digits: int
    definition: str


METRICS = {
    "psnr_si": Metric(
        "Scale-invariant PSNR", "higher", 2, "Peak signal-to-noise ratio after the least-squares fit a·image + b to the truth."
    ),
    "psnr": Metric("PSNR", "higher", 2, "10·log₁₀(range² / mean squared error); the range is fixed, not guessed from each image."),
    "ssim": Metric("SSIM", "higher", 3, "Structural similarity (Wang et al. 2004), Gaussian window of σ 1.5 pixels; 1 is identical."),
    "ms_ssim": Metric("MS-SSIM", "higher", 3, "Structural similarity over five scales (Wang et al. 2003); 1 is identical."),
    "nrmse": Metric(
        "NRMSE", "lower", 4, "Root mean squared error after affine fit, over the truth's 0.1–99.9 percentile range (Weigert et al. 2018)."
    ),
    "frc_resolution": Metric(
        "FRC resolution", "lower", 3, "Finest detail shared with the truth: where the Fourier ring correlation falls below 1/7."
    ),
    "hf_power_ratio": Metric(
        "High-frequency power",
        "one",
        3,
        "Power at high spatial frequencies over that of the truth: below 1 is too smooth, above 1 too rough.",
    ),
    "rsp": Metric(
        "RSP",
        "higher",
        4,
        "Agreement with the input: correlation after the result is blurred to the input's resolution (Culley et al. 2018).",
    ),
    "rse": Metric("RSE", "lower", 3, "Disagreement with the input: what is left after the result is blurred to the input's resolution."),
    "coverage": Metric(
        "Coverage", "none", 3, "Share of pixels whose truth lies in the stored interval; ideally the interval's nominal share."
    ),
    "spread_skill": Metric(
        "Spread / error",
        "one",
        3,
        "Predicted standard deviation over the error found (spread-skill): 1 is calibrated, below 1 over-confident.",
    ),
    "spearman_std": Metric("Rank correlation, std", "higher", 3, "Spearman correlation of the standard deviation with the absolute error."),
    "spearman_input": Metric(
        "Rank correlation, input brightness (control)",
        "none",
        3,
        "The same with the input's intensity in place of the standard deviation.",
    ),
    "unlike_training": Metric(
        "Unlike the training inputs", "lower", 2, "Largest share of the input that one of four features finds outside the training inputs."
    ),
    "trained_on": Metric("Files trained on", "none", 0, "Files of this acquisition that the model was trained on."),
    "chosen_by": Metric("Files chosen by", "none", 0, "Files of this acquisition by which the model's weights were chosen."),
}


def number(value: float, digits: int) -> str:
    """Return a number for people, with a true minus sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.3g}"
    return text.replace("-", "−")


def signed(value: float, digits: int) -> str:
    """Return a difference for people, with its sign."""
    return ("+" if value >= 0 else "") + number(value, digits)


AT_LIMIT = "(limit of the pixels)"


def finest_detail(pixel_um: float | None, scale: int) -> float:
    """Return two pixels of the restored image [µm], the finest detail that it can hold; NaN if the input's pixel size is unknown."""
    return 2 * (pixel_um or math.nan) / scale


def at_limit(resolution_um: float, finest: float) -> bool:
    """Whether a resolution is that of the pixels, within 2 %: a finer one could not have been found."""
    return resolution_um <= 1.02 * finest


def nanometres(resolution_um: float, finest: float) -> str:
    """Return a resolution for people, in nanometres without the unit."""
    return f"≤ {number(1000 * finest, 0)}" if at_limit(resolution_um, finest) else number(1000 * resolution_um, 0)
