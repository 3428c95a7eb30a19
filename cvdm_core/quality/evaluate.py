"""Measure one restored acquisition: against the truth where there is one, against the input always.

Everything is read through `open_image`, block by block. The reference rows (the upsampled input, Richardson-Lucy, an image without
content) stand beside the restored image, because a number alone says little.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.certificate import read_certificate, valid_part
from cvdm_core.quality.baseline import deconvolve
from cvdm_core.quality.comparison import UNCERTAIN, CalibrationCurve, Comparison, uncertainty_rows
from cvdm_core.quality.fidelity import BLUR_CROP, blur_reach, fit_blur, reblur, rse, rsp
from cvdm_core.quality.gate import compare_inputs
from cvdm_core.quality.planes import (
    BLOCK,
    Nothing,
    Plane,
    Rescaled,
    Source,
    Stored,
    Upsampled,
    acquired_square,
    blocks,
    inside,
    middle_plane,
    with_halo,
)
from cvdm_core.quality.reference import Moments
from cvdm_core.quality.resolution import BAND, FRC_CROP, FRC_SHORTEST, FRC_THRESHOLD, RingCorrelation, central_square, ring_correlation
from cvdm_core.quality.table import DEFINITIONS, Row, make_row, to_frame, write_results
from cvdm_core.quality.trained import TrainedOn, read_trained, seen_rows
from cvdm_core.quality.uncertainty import expected_coverage
from cvdm_core.records.receipts import read_json, sha256_file, stage
from cvdm_core.routing import routed
from cvdm_core.sheet import Acquisition, find_acquisition
from cvdm_core.workload import megapixels

NO_TRUTH = "no target was acquired"
CONSTANT_TRUTH = "the 0.1 and 99.9 percentiles of the truth are equal, so there is nothing to compare with"
WITH_TRUTH = ("psnr", "psnr_si", "nrmse", "ssim", "ms_ssim", "hf_power_ratio", "frc_resolution")


@dataclass
class Measured:
    """What was measured of one channel."""

    rows: list[Row] = field(default_factory=list)
    rings: dict[str, RingCorrelation] = field(default_factory=dict)
    calibration: CalibrationCurve | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stores:
    """The opened images of one acquisition. `beside` are those that lie beside the mean: "std", "lower", "upper", "sample"."""

    raw: Stored
    restored: Stored
    beside: dict[str, Stored]
    truth: Stored | None
    why_no_truth: str

    def planes(self, channel: int) -> list[Plane]:
        """Return the planes of a channel."""
        sizes = self.restored.array.sizes
        return [Plane(t, channel, z) for t in range(sizes["t"]) for z in range(sizes["z"])]

    @property
    def pixel_size_um(self) -> tuple[float, float]:
        """(y, x) of the restored image."""
        y, x = self.restored.array.attrs["pixel_size_um"]
        return y, x


def evaluate(config: Config, acquisition: str) -> None:
    """Measure a restored acquisition; write metrics.parquet, metrics.tsv, curves.nc and the receipt evaluate.json.

    Raises
    ------
    UserError
        If the acquisition is not in the sheet, or it was not ingested and restored.
    """
    row = find_acquisition(config.acquisitions, acquisition)
    config = routed(config, row)
    folder = paths.restored_folder(config, acquisition)
    with stage(paths.evaluate_receipt(config, acquisition), "evaluate", acquisition, config.results) as receipt:
        for source in (paths.ingest_receipt(config, acquisition), paths.stitch_receipt(config, acquisition)):
            if not source.is_file():
                raise UserError(f"{source}: this receipt is missing, so its stage has not finished; run the workflow again.")
            receipt.read[str(source)] = sha256_file(source)
        receipt.settings = {"evaluation": config.evaluation.model_dump(mode="json"), "sampling": config.sampling.model_dump(mode="json")}
        stores = _open(config, row)
        names = [str(name) for name in stores.restored.array.coords["c"].values]
        trained = read_trained(paths.model_folder(config) / "model.yaml")
        with tempfile.TemporaryDirectory(prefix=".evaluate-", dir=folder) as scratch:
            measured = [_measure(config, row, stores, number, name, trained, Path(scratch)) for number, name in enumerate(names)]
        seen = seen_rows(trained, row, read_json(paths.ingest_receipt(config, acquisition)).get("read", {}), names)
        frame = to_frame([*(line for part in measured for line in part.rows), *seen], acquisition, config.model.name, row.split)
        curves = _curves(names, measured, stores)
        receipt.wrote = {str(path): sha256_file(path) for path in write_results(folder, frame, curves)}
        receipt.usage["megapixels"] = megapixels(config, row, "evaluate")
        receipt.details = {
            "definitions": {name: definition for name, (_, _, definition) in DEFINITIONS.items()},
            "channels": [{"channel": name, **part.details} for name, part in zip(names, measured, strict=True)],
            "summary": {
                f"{line.channel} {line.image} {line.metric}": line.value if math.isfinite(line.value) else None
                for part in measured
                for line in part.rows
            },
        }


def _open(config: Config, row: Acquisition) -> Stores:
    name, store = row.acquisition, paths.restored_store(config, row.acquisition)
    restored = Stored(store)
    beside = {kind: Stored(store, kind) for kind in UNCERTAIN if (store / kind).is_dir()}
    if (store / "sample_0").is_dir():
        beside["sample"] = Stored(store, "sample_0")
    raw = Stored(paths.raw_store(config, name))
    if restored.shape != tuple(size * config.model.scale for size in raw.shape):
        raise UserError(
            f"{store}: {restored.shape} pixels are not {config.model.scale} times the input's {raw.shape}; restore {name} again."
        )
    truth = Stored(paths.target_store(config, name)) if row.target else None
    if truth is not None and truth.array.shape != restored.array.shape:
        why = f"the truth has the shape {truth.array.shape} and the restored image {restored.array.shape}"
        return Stores(raw, restored, beside, None, why)
    certificate = read_certificate(truth.array) if truth else None
    if certificate is not None and not certificate.usable:
        return Stores(raw, restored, beside, None, certificate.sentence)
    rows = raw.shape[0]
    for stored in (raw, restored, *beside.values(), *([truth] if truth else [])):
        stored.array = valid_part(stored.array, certificate, rows)
    return Stores(raw, restored, beside, truth, "" if truth else NO_TRUTH)


def _measure(config: Config, row: Acquisition, stores: Stores, number: int, channel: str, trained: TrainedOn, scratch: Path) -> Measured:
    planes = stores.planes(number)
    samples = {"sample": stores.beside["sample"]} if "sample" in stores.beside else {}
    images: dict[str, Source] = {"input": Upsampled(stores.raw, config.model.scale), "restored": stores.restored, **samples}
    measured = Measured()
    if stores.truth is None:
        measured.rows += [make_row(channel, image, metric, math.nan, stores.why_no_truth) for metric in WITH_TRUTH for image in images]
    else:
        if iterations := config.evaluation.richardson_lucy_iterations:
            sharpened = deconvolve(
                stores.raw, images["input"], row, number, planes, iterations, stores.restored.shape, stores.pixel_size_um, scratch
            )
            if isinstance(sharpened, str):
                measured.rows += [make_row(channel, "richardson_lucy", metric, math.nan, sharpened) for metric in WITH_TRUTH]
            elif sharpened is not None:
                images["richardson_lucy"] = sharpened
        _against_truth(config, stores, stores.truth, channel, planes, images, trained, measured)
    if known := trained.inputs.get(channel, trained.inputs.get("*")):
        rows, measured.details["inputs"] = compare_inputs(channel, stores.raw, planes, trained.window, known)
        measured.rows += rows
    for image in ("restored", *samples):
        measured.rows += _against_input(channel, image, images[image], stores.raw, planes, config.model.scale, measured.details)
    return measured


def _against_truth(
    config: Config,
    stores: Stores,
    truth: Source,
    channel: str,
    planes: list[Plane],
    images: dict[str, Source],
    trained: TrainedOn,
    measured: Measured,
) -> None:
    comparison = Comparison(truth, {**images, "constant": Nothing()}, planes, stores.restored.shape, trained.relative)
    span = comparison.range.high - comparison.range.low
    if not span > 0:
        measured.rows += [make_row(channel, image, metric, math.nan, CONSTANT_TRUTH) for metric in WITH_TRUTH for image in images]
        return
    comparison.gather()
    known = trained.ranges.get(channel, trained.ranges.get("*"))
    data_range, origin = (known, "0.1-99.9 % of the training truth") if known else (span, "0.1-99.9 % of this truth")
    measured.rows += comparison.pixel_rows(channel, data_range, origin)
    measured.rows += comparison.structure_rows(channel, data_range)
    measured.rows += _ring_rows(stores, truth, channel, planes, images, measured)
    if all(name in stores.beside for name in UNCERTAIN):
        facts = stores.beside["std"].array.attrs["cvdm"]
        quantiles, samples = facts["quantiles"], facts["samples"]
        nominal, expected = quantiles[1] - quantiles[0], expected_coverage(quantiles, samples)
        note = f"nominal {nominal:.2f}, {expected:.2f} expected of {samples} samples"
        slope, intercept = comparison.moments["restored"].fit
        fitted = trained.relative and slope > 0
        judged = Rescaled(truth, -intercept / slope, 1 / slope) if fitted else truth
        note += "; after an affine fit, because intensities are relative" if fitted else ""
        rows, measured.calibration = uncertainty_rows(channel, comparison, judged, stores.beside, samples, note)
        measured.rows += rows
        measured.details["coverage"] = {"nominal": nominal, "expected": expected, "samples": samples}
    measured.details["range"] = {"psnr": data_range, "from": origin, "truth": vars(comparison.range)}
    measured.details["fit"] = {name: list(moments.fit) for name, moments in comparison.moments.items() if math.isfinite(moments.mse)}


def _ring_rows(
    stores: Stores, truth: Source, channel: str, planes: list[Plane], images: dict[str, Source], measured: Measured
) -> list[Row]:
    rows = []
    y, x = central_square(stores.restored.shape)
    middle = middle_plane(planes)
    pixel = stores.pixel_size_um
    for name, source in images.items():
        value, reason = math.nan, "the curve never crosses 1/7"
        if y.stop - y.start < FRC_SHORTEST:
            reason = f"a short side below {FRC_SHORTEST} pixels has too few rings"
        elif not math.isclose(*pixel, rel_tol=0.01):
            reason = "the pixels are not square"
        else:
            try:
                measured.rings[name] = ring_correlation(source.read(middle, y, x), truth.read(middle, y, x), pixel[0])
                value = measured.rings[name].resolution_um
            except ValueError as error:
                reason = str(error)
        rows.append(make_row(channel, name, "frc_resolution", value, reason))
    return rows


def _against_input(
    channel: str, image: str, source: Source, raw: Stored, planes: list[Plane], scale: int, details: dict[str, Any]
) -> list[Row]:
    def grown(region: tuple[slice, slice]) -> tuple[slice, slice]:
        y, x = (slice(part.start * scale, part.stop * scale) for part in region)
        return y, x

    middle, crop = middle_plane(planes), acquired_square(raw, BLUR_CROP // scale)
    sigma = fit_blur(source.read(middle, *grown(crop)), raw.read(middle, *crop), scale)
    details.setdefault("reblur_sigma_px", {})[image] = sigma
    moments = Moments()
    for plane in planes:
        for block in blocks(raw.shape, BLOCK // scale):
            reach = -(-blur_reach(sigma) // scale)
            region = with_halo(block, reach, raw.shape)
            blurred = reblur(source.read(plane, *grown(region)), sigma, scale)[inside(block, region)]
            there = raw.acquired(*region, reach)[inside(block, region)]
            moments.add(blurred[there], raw.read(plane, *block)[there])
    flat = "the input or the restored image is constant" if math.isfinite(moments.mse) else ""
    return [make_row(channel, image, "rsp", rsp(moments), flat), make_row(channel, image, "rse", rse(moments))]


def _curves(names: list[str], measured: list[Measured], stores: Stores) -> xr.Dataset:
    curves = xr.Dataset(coords={"channel": np.array(names, dtype=object)})
    kinds = list(dict.fromkeys(kind for part in measured for kind in part.rings))
    if kinds:
        frequency = next(iter(next(part.rings for part in measured if part.rings).values())).frequency
        missing = np.full(len(frequency), np.nan)
        values = [[part.rings[kind].correlation if kind in part.rings else missing for kind in kinds] for part in measured]
        curves = curves.assign_coords(image=np.array(kinds, dtype=object), frequency=("frequency", frequency, {"units": "1/micrometer"}))
        text = {"long_name": "Fourier ring correlation with the truth", "threshold": FRC_THRESHOLD, "crop_px": FRC_CROP}
        curves["frc"] = (("channel", "image", "frequency"), np.array(values), text)
    bins = next((len(part.calibration.count) for part in measured if part.calibration), 0)
    if bins:
        for key, name in (("predicted", "calibration_std"), ("measured", "calibration_rmse"), ("count", "calibration_count")):
            table = np.full((len(measured), bins), np.nan)
            for line, part in zip(table, measured, strict=True):
                line[:] = getattr(part.calibration, key) if part.calibration else np.nan
            curves[name] = (("channel", "bin"), table, {"bins": "pixels grouped by the mean variance of the pixels around them"})
    y, _ = stores.pixel_size_um
    curves.attrs["high_frequency_band"] = [edge / y for edge in BAND]
    curves.attrs["high_frequency_band_units"] = "1/micrometer"
    return curves
