"""The page of one acquisition: one HTML file that needs no network, for the person who took the image."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr
from markupsafe import Markup
from pydantic import ValidationError

from cvdm_core import paths
from cvdm_core.config import Config, SamplingSettings
from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.quality.uncertainty import expected_coverage
from cvdm_core.records.receipts import read_json, sha256_file, stage
from cvdm_core.report import figures, tables
from cvdm_core.report.card import write_card
from cvdm_core.report.certificate import certificate_table
from cvdm_core.report.gallery import channel_pictures
from cvdm_core.report.inputs import input_tables, unlike
from cvdm_core.report.metrics import IMAGES, finest_detail
from cvdm_core.report.mosaic import mosaic_view
from cvdm_core.report.page import render
from cvdm_core.report.planes import find_sources
from cvdm_core.report.provenance import facts, methods
from cvdm_core.routing import routed
from cvdm_core.sheet import Acquisition, find_acquisition
from cvdm_core.workload import megapixels

ENOUGH_STEPS = 20  # denoising steps; below, the spread of even an exact network is much too small


def write_report(config: Config, acquisition: str) -> Path:
    """Write the page of one acquisition and return its path.

    Raises
    ------
    UserError
        If the acquisition is not in the sheet, or a store, a receipt or the metrics are missing or damaged.
    """
    row = find_acquisition(config.acquisitions, acquisition)
    config = routed(config, row)
    page = paths.report_page(config, acquisition)
    with stage(paths.report_receipt(config, acquisition), "report", acquisition, config.results) as receipt:
        row = find_acquisition(config.acquisitions, acquisition)
        read = [paths.stitch_receipt(config, acquisition), paths.evaluate_receipt(config, acquisition)]
        write_file(page, render("acquisition.html.j2", **_content(config, row)))
        receipt.read = {str(path): sha256_file(path) for path in read}
        receipt.wrote = {str(path): sha256_file(path) for path in (page, write_card(config, row))}
        receipt.usage["megapixels"] = megapixels(config, row, "report")
        receipt.details = {"bytes": page.stat().st_size}
    return page


def _content(config: Config, row: Acquisition) -> dict[str, Any]:
    name = row.acquisition
    stitched = read_json(paths.stitch_receipt(config, name))
    evaluated = read_json(paths.evaluate_receipt(config, name))
    config = _as_restored(config, stitched, paths.stitch_receipt(config, name))
    frame = tables.read_metrics(paths.restored_folder(config, name) / "metrics.tsv")
    sources = find_sources(config, row)
    uncertain = "std" in sources.extra
    estimate = f"the mean of {config.sampling.samples} posterior samples" if uncertain else "the model's single estimate"
    finest = finest_detail(row.pixel_size_um, config.model.scale)
    tone, sentence = tables.verdict(frame, estimate, finest)
    expected = expected_coverage(config.sampling.quantiles, config.sampling.samples) if uncertain else math.nan
    curves = _curves(paths.restored_folder(config, name) / "curves.nc")
    channels = []
    for number in range(row.size_c):
        label = row.channels[number] if number < len(row.channels) else f"channel {number + 1}"
        pictures = channel_pictures(sources, number, label, config.sampling.quantiles)
        channels.append({"pictures": pictures, "plots": _plots(curves, number), "emission": _at(row.emission_nm, number)})
    return {
        "row": row,
        "model": config.model.name,
        "tone": tone,
        "verdict": sentence,
        "seen": tables.seen(frame),
        "unlike": unlike(evaluated),
        "inputs": input_tables(evaluated),
        "key_figures": tables.key_figures(frame, finest),
        "channels": channels,
        "tables": tables.tables(frame, expected, finest),
        "definitions": tables.definitions(frame),
        "image_names": [IMAGES[image] for image in IMAGES if image in set(frame["image"])],
        "model_plots": _read_model_plots(paths.model_folder(config)),
        "seams": _seams(stitched),
        "uncertain": uncertain,
        "outdone": tables.outdone(frame),
        "narrow": _narrow(config.sampling.steps) if uncertain else "",
        "expected_coverage": expected,
        "has_truth": sources.truth is not None,
        "certificate": certificate_table(paths.target_store(config, name)) if row.target else None,
        "mosaic": mosaic_view(paths.raw_store(config, name)),
        "facts": facts(config, row, sources, stitched, evaluated),
        "methods": methods(config, row, sources, stitched),
        "index": quote(os.path.relpath(paths.index_page(config), paths.restored_folder(config, name)).replace(os.sep, "/")),
    }


def _as_restored(config: Config, stitched: Mapping[str, Any], receipt: Path) -> Config:
    """Return the configuration with the sampling settings that the image was made with, as its receipt tells."""
    used = stitched.get("settings", {}).get("sampling")
    try:
        return config if used is None else config.model_copy(update={"sampling": SamplingSettings.model_validate(used)})
    except ValidationError:
        raise UserError(f"{receipt}: its settings are those of another version of cvdm; restore the acquisition again.") from None


def _narrow(steps: int) -> str:
    """Return what a reader of the error bar must know of so few denoising steps; even an exact network would show it."""
    if steps >= ENOUGH_STEPS:
        return ""
    return (
        f"With {steps} denoising step{'s' if steps > 1 else ''} the samples differ too little where there is structure. 20 to 50 steps "
        "(sampling.steps) give a truer error bar (spread / error 0.78 to 0.86 on real images, docs/w2s.md), for "
        f"{20 / steps:.2g} to {50 / steps:.2g} times the time."
    )


def _at(values: tuple[float, ...], number: int) -> float | None:
    return values[number] if number < len(values) else None


def _curves(path: Path) -> xr.Dataset | None:
    """Read the curves of the evaluation; None where it wrote none."""
    if not path.is_file():
        return None
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            return opened.load()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the curves cannot be read ({error}); delete the file and run the workflow again.") from None


def _plots(curves: xr.Dataset | None, channel: int) -> list[tuple[str, str, Markup]]:
    """Return (title, explanation, drawing) of what was measured as curves in one channel."""
    if curves is None:
        return []
    here = curves.isel(channel=channel)
    found: list[tuple[str, str, Markup | None]] = []
    if "frc" in here:
        frequency = np.asarray(here["frequency"], float)
        rows = [figures.Curve(str(image), frequency, np.asarray(here["frc"].sel(image=image), float)) for image in here["image"].values]
        known = [curve for curve in rows if np.isfinite(curve.y).any() and curve.kind in figures.STYLE]
        text = (
            "How much detail of each size is shared with the truth. The curve that stays high further to the right resolves finer detail."
        )
        found.append(("Resolution (Fourier ring correlation)", text, figures.frc(known)))
    if "calibration_std" in here:
        predicted, measured = (np.asarray(here[key], float) for key in ("calibration_std", "calibration_rmse"))
        text = (
            f"Each point is {100 / predicted.size:.3g} % of the pixels, sorted by the standard deviation around them. Across: the standard "
            "deviation; up: the error found. Above the line the error bar is too small, below it too large."
        )
        found.append(("Calibration", text, figures.calibration(predicted, measured, "counts")))
    return [(title, text, drawing) for title, text, drawing in found if drawing is not None]


def _read_model_plots(folder: Path) -> list[tuple[str, str, Markup]]:
    try:
        return _model_plots(folder)
    except (OSError, TypeError, ValueError, csv.Error):
        raise UserError(f"{folder}: schedule.csv or curves.csv is damaged; restore the model folder, or run `cvdm train` again.") from None


def _model_plots(folder: Path) -> list[tuple[str, str, Markup]]:
    """Return (title, explanation, drawing) of the learned schedule and of the training; what is missing is left out."""
    found: list[tuple[str, str, Markup | None]] = []
    if schedule := _read_columns(folder / "schedule.csv"):
        columns = [np.asarray(schedule.get(key, []), float) for key in ("t", "gamma_mean", "gamma_low", "gamma_high")]
        text = "How fast the model's forward process drowns the image in noise; learned together with the network, for each pixel."
        if len({len(column) for column in columns}) == 1:
            found.append(("Learned schedule γ(t)", text, figures.schedule(columns[0], columns[1], columns[2], columns[3])))
    if curves := _read_columns(folder / "curves.csv"):
        text = "Loss on the training crops and, where there is a validation split, on crops that were not trained on."
        found.append(("Training", text, figures.training(_series(curves, ("train/loss", "val/loss")), "loss", logarithmic=True)))
        quality = {name.removeprefix("val/psnr_"): points for name, points in _series(curves, ("val/psnr",)).items()}
        text = "PSNR on the validation crops during training: of the input, of one sample, and of the mean of some samples."
        found.append(("Validation", text, figures.training(quality, "PSNR [dB]", logarithmic=False)))
    return [(title, text, drawing) for title, text, drawing in found if drawing is not None]


def _read_columns(path: Path) -> dict[str, list[str]]:
    """Read a small CSV by columns; nothing where it is missing."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="", errors="replace") as stream:
        rows = list(csv.DictReader(stream))
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}


def _series(curves: Mapping[str, list[str]], beginnings: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the long table (step, name, value) as one series a name, for the names that begin so."""
    series: dict[str, list[tuple[float, float]]] = {}
    for step, name, value in zip(curves.get("step", []), curves.get("name", []), curves.get("value", []), strict=True):
        if name.startswith(beginnings):
            series.setdefault(name, []).append((float(step), float(value)))
    return {name: (np.array([step for step, _ in points]), np.array([value for _, value in points])) for name, points in series.items()}


def _seams(stitched: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what `stitch` measured across the borders of its pieces: one entry for each image that it looked at."""
    measured = stitched.get("details", {}).get("seams", {})
    by_image = {"mean": measured} if "ratio" in measured else measured
    return [{"image": image, **values} for image, values in by_image.items() if isinstance(values, Mapping)]
