"""One channel of an acquisition against its truth: two passes over its blocks, then numbers.

The first pass gathers moments, spectra and a thinned-out set of pixels; from them follow the affine fits and the bins of the second
pass, which gathers SSIM and calibration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvdm_core.quality.planes import Float32, Plane, Source, blocks, grid_step, inside, thin, with_halo
from cvdm_core.quality.reference import (
    MS_SSIM_SHORTEST,
    SSIM_REACH,
    STRUCTURE_HALO,
    Moments,
    Structure,
    TruthBlock,
    exact_quantiles,
    nrmse,
    psnr,
)
from cvdm_core.quality.resolution import BandPower
from cvdm_core.quality.table import Row, make_row
from cvdm_core.quality.uncertainty import RING_HALO, Calibration, bin_edges, finite_sample_factor, neighbours_variance, spearman

MADE = ("restored", "sample")  # by the model, in the truth's unit; the others are in units of the camera and are fitted first
RANK_PIXELS = 500_000  # pixels of a channel that are ranked
UNCERTAIN = ("std", "lower", "upper")
SHORTEST = {
    "ssim": (2 * SSIM_REACH + 1, "the planes are smaller than the window of 11 pixels"),
    "ms_ssim": (MS_SSIM_SHORTEST, f"five scales need a short side of at least {MS_SSIM_SHORTEST} pixels"),
}


@dataclass(frozen=True)
class TruthRange:
    """Extremes and 0.1/99.9 percentiles of the truth of one channel."""

    minimum: float
    low: float
    high: float
    maximum: float


class Comparison:
    """Gathers what is needed of one channel.

    Parameters
    ----------
    truth
        The truth.
    images
        What is compared with it, by name ("restored", "sample", "input", ...).
    planes
        The planes of this channel.
    shape
        (Y, X) of each plane.
    relative
        Whether every file has a gain of its own, so that what the model makes is in the truth's unit but for a factor.
    """

    def __init__(
        self, truth: Source, images: Mapping[str, Source], planes: list[Plane], shape: tuple[int, int], relative: bool = False
    ) -> None:
        """Begin with nothing gathered but the truth's range, for which the truth is read twice."""
        self.truth, self.images, self.planes, self.shape, self.relative = truth, images, planes, shape, relative
        self.range = TruthRange(*exact_quantiles(self._truth_blocks, (0, 0.001, 0.999, 1)))
        self.moments = {name: Moments() for name in images}
        self.power = {name: BandPower() for name in (*images, "truth")}

    def pieces(self) -> Iterator[tuple[Plane, tuple[slice, slice]]]:
        """Yield every block of every plane."""
        for plane in self.planes:
            for block in blocks(self.shape):
                yield plane, block

    def _truth_blocks(self) -> Iterator[Float32]:
        for plane, block in self.pieces():
            yield self.truth.read(plane, *block)

    def gather(self) -> None:
        """First pass: moments and spectra of every image."""
        for plane, block in self.pieces():
            truth = self.truth.read(plane, *block)
            self.power["truth"].add(truth)
            for name, source in self.images.items():
                image = source.read(plane, *block)
                self.moments[name].add(image, truth)
                self.power[name].add(image)

    def pixel_rows(self, channel: str, data_range: float, origin: str) -> list[Row]:
        """Return psnr, psnr_si, nrmse and hf_power_ratio; call `gather` first.

        `data_range` is the fixed range of psnr, and `origin` says where it is from.
        """
        rows = []
        counts = f"{data_range:.0f}" if data_range >= 100 else f"{data_range:.4g}"
        span = self.range.maximum - self.range.minimum
        percentiles = self.range.high - self.range.low
        for name, moments in self.moments.items():
            mse = moments.fitted_mse if name == "constant" else moments.mse
            rows.append(make_row(channel, name, "psnr", psnr(mse, data_range), note=f"range {counts} counts, {origin}"))
            rows.append(make_row(channel, name, "psnr_si", psnr(moments.fitted_mse, span)))
            rows.append(make_row(channel, name, "nrmse", nrmse(moments.fitted_mse, percentiles)))
            if name != "constant":
                rows.append(make_row(channel, name, "hf_power_ratio", self._power_ratio(name), "the truth has no power in this band"))
        return rows

    def _power_ratio(self, name: str) -> float:
        gain = self.moments[name].fit[0]
        if name in MADE:  # a sample has the gain of its file too; a fit of its own would take its texture for error
            gain = self.moments["restored"].fit[0] if self.relative else 1.0
        below = self.power["truth"].power
        return gain * gain * self.power[name].power / below if below > 0 else math.nan

    def structure_rows(self, channel: str, data_range: float) -> list[Row]:
        """Second pass: ssim and ms_ssim of every image after its affine fit; mean over planes."""
        gathered = {name: [Structure(self.shape, data_range) for _ in self.planes] for name in self.images}
        for number, plane in enumerate(self.planes):
            for block in blocks(self.shape):
                region = with_halo(block, STRUCTURE_HALO, self.shape)
                origin = region[0].start, region[1].start
                scales = next(iter(gathered.values()))[number].scales
                truth = TruthBlock(self.truth.read(plane, *region), *block, origin, self.shape, scales)
                for name, source in self.images.items():
                    slope, intercept = self.moments[name].fit
                    fitted = slope * source.read(plane, *region).astype(np.float64) + intercept
                    gathered[name][number].add(fitted, truth)
        rows = []
        for name, structures in gathered.items():
            values = {"ssim": [s.ssim for s in structures], "ms_ssim": [s.ms_ssim for s in structures]}
            for metric, (shortest, reason) in SHORTEST.items():
                rows.append(make_row(channel, name, metric, float(np.mean(values[metric])), reason if min(self.shape) < shortest else ""))
        return rows


@dataclass(frozen=True)
class CalibrationCurve:
    """Predicted standard deviation, RMSE and number of pixels, by bin: pixels are grouped by the variance of their neighbours."""

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    count: NDArray[np.int64]


def uncertainty_rows(
    channel: str, comparison: Comparison, truth: Source, quantities: Mapping[str, Source], samples: int, coverage_note: str
) -> tuple[list[Row], CalibrationCurve]:
    """Return coverage, spread_skill, spearman_std and spearman_input, and the calibration curve.

    Parameters
    ----------
    truth
        The truth in the unit of the restored image.
    quantities
        "std", "lower" and "upper".
    samples
        Number of posterior samples that they summarise, at least 2; std is divided by samples - 1.
    coverage_note
        What coverage should be.
    """
    sources = {"restored": comparison.images["restored"], "input": comparison.images["input"], "std": quantities["std"]}
    step = grid_step(len(comparison.planes) * comparison.shape[0] * comparison.shape[1], RANK_PIXELS)
    picked: dict[str, list[NDArray[np.floating]]] = {name: [] for name in ("error", "around", *sources)}
    for plane, block in comparison.pieces():
        where = thin(block, step)
        pixels = {name: source.read(plane, *block)[where].ravel() for name, source in sources.items()}
        error = pixels["restored"] - truth.read(plane, *block)[where].ravel()
        around = _around(comparison, quantities["std"], plane, block)[where].ravel()
        for name, values in {**pixels, "error": error, "around": around}.items():
            picked[name].append(values)
    ranked = {name: np.concatenate(pieces) for name, pieces in picked.items()}
    calibration = Calibration(bin_edges(ranked["around"]), finite_sample_factor(samples, ddof=1))
    for plane, block in comparison.pieces():
        stored = {name: quantities[name].read(plane, *block) for name in UNCERTAIN}
        around = _around(comparison, quantities["std"], plane, block)
        calibration.add(truth.read(plane, *block), comparison.images["restored"].read(plane, *block), **stored, around=around)
    constant = "the standard deviation, the input or the error is constant"
    rows = [
        make_row(channel, "restored", "coverage", calibration.coverage, note=coverage_note),
        make_row(channel, "restored", "spread_skill", calibration.spread_skill, "the restored image equals the truth"),
        make_row(channel, "restored", "spearman_std", spearman(ranked["std"], ranked["error"]), constant),
        make_row(channel, "restored", "spearman_input", spearman(ranked["input"], ranked["error"]), constant),
    ]
    return rows, CalibrationCurve(*calibration.curve, calibration.count)


def _around(comparison: Comparison, std: Source, plane: Plane, block: tuple[slice, slice]) -> NDArray[np.float64]:
    region = with_halo(block, RING_HALO, comparison.shape)
    return neighbours_variance(std.read(plane, *region))[inside(block, region)]
