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
import yaml
from markupsafe import Markup

from cvdm_core import __version__, paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.quality.uncertainty import expected_coverage
from cvdm_core.records.receipts import read_json, sha256_file, stage
from cvdm_core.report import figures, tables
from cvdm_core.report.gallery import channel_pictures
from cvdm_core.report.page import render, write_page
from cvdm_core.report.planes import Sources, find_sources
from cvdm_core.sheet import Acquisition, read_sheet


def write_report(config: Config, acquisition: str) -> Path:
    """Write the page of one acquisition and return its path.

    Raises
    ------
    UserError
        If the acquisition is not in the sheet, or a store, a receipt or the metrics are missing or damaged.
    """
    page = paths.report_page(config, acquisition)
    with stage(paths.report_receipt(config, acquisition), "report", acquisition, config.results) as receipt:
        read = [paths.stitch_receipt(config, acquisition), paths.evaluate_receipt(config, acquisition)]
        write_page(page, render("acquisition.html.j2", **_content(config, _find(config, acquisition))))
        receipt.read = {str(path): sha256_file(path) for path in read}
        receipt.wrote = {str(page): sha256_file(page)}
        receipt.details = {"bytes": page.stat().st_size}
    return page


def _find(config: Config, acquisition: str) -> Acquisition:
    row = read_sheet(config.acquisitions).get(acquisition)
    if row is None:
        raise UserError(f"{config.acquisitions}: there is no acquisition {acquisition!r}; give a name that stands in the sheet.")
    return row


def _content(config: Config, row: Acquisition) -> dict[str, Any]:
    name = row.acquisition
    stitched = read_json(paths.stitch_receipt(config, name))
    evaluated = read_json(paths.evaluate_receipt(config, name))
    frame = tables.read_metrics(paths.restored_folder(config, name) / "metrics.tsv")
    sources = find_sources(config, row)
    uncertain = "std" in sources.extra
    estimate = f"the mean of {config.sampling.samples} posterior samples" if uncertain else "the model's single estimate"
    tone, sentence = tables.verdict(frame, estimate)
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
        "key_figures": tables.key_figures(frame, expected),
        "channels": channels,
        "tables": tables.tables(frame),
        "definitions": tables.definitions(frame),
        "image_names": [tables.IMAGES[image] for image in tables.IMAGES if image in set(frame["image"])],
        "model_plots": _model_plots(paths.model_folder(config)),
        "seams": _seams(stitched),
        "uncertain": uncertain,
        "expected_coverage": expected,
        "has_truth": sources.truth is not None,
        "facts": _facts(config, row, sources, stitched, evaluated),
        "index": quote(os.path.relpath(paths.index_page(config), paths.restored_folder(config, name)).replace(os.sep, "/")),
    }


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
        text = (
            "Pixels grouped by how uncertain the model says it is, against how wrong it was. On the dashed line it is as wrong as it says; "
            "above the line it is over-confident."
        )
        predicted, measured = (np.asarray(here[key], float) for key in ("calibration_std", "calibration_rmse"))
        found.append(("Calibration", text, figures.calibration(predicted, measured, "counts")))
    return [(title, text, drawing) for title, text, drawing in found if drawing is not None]


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
        text = "Scale-invariant PSNR on the validation crops during training."
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


def _facts(
    config: Config, row: Acquisition, sources: Sources, stitched: Mapping[str, Any], evaluated: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the settings and the provenance as (name, value), in reading order."""
    sizes = " × ".join(f"{size} {axis}" for size, axis in zip(row.shape, "TCZYX", strict=True))
    source = {"metadata": "from the file's metadata", "stated": "stated by a person in the sample sheet"}.get(row.pixel_size_source, "")
    pixel = row.pixel_size_um or math.nan
    sampling = config.sampling
    facts = [
        ("Input file", row.input),
        ("Truth file", row.target or "none"),
        ("Specimen, split", f"{row.specimen}, {row.split}"),
        ("Input size and type", f"{sizes}, {row.dtype}"),
        ("Pixel size of the input", f"{pixel:.4g} µm ({source})"),
        ("Pixel size of the restored image", f"{pixel / config.model.scale:.4g} µm (scale ×{config.model.scale})"),
        ("z step", f"{row.z_step_um:.4g} µm" if row.z_step_um else ""),
        ("Time step", f"{row.time_step_s:.4g} s" if row.time_step_s else ""),
        ("Objective", f"NA {row.na:g}" if row.na else ""),
        ("Model", f"{config.model.name} ({config.model.objective}, schedule {config.model.schedule.kind})"),
        ("Model weights, sha256", _weights(paths.model_folder(config) / "model.yaml")),
        ("Posterior samples", str(sampling.samples) if "std" in sources.extra else "none (one estimate)"),
        ("Denoising steps", f"{sampling.steps}, {sampling.method}"),
        ("Seed of the noise", str(sampling.seed)),
        ("Interval", f"{sampling.quantiles[0]:g} to {sampling.quantiles[1]:g} quantile of the samples" if "std" in sources.extra else ""),
        ("Halo, precision", f"{sampling.halo} pixels, {sampling.precision}"),
        ("Restored, measured", f"{stitched.get('started', '?')}, {evaluated.get('started', '?')}"),
        ("Machine", str(stitched.get("machine", {}).get("host", "?"))),
        ("Versions", tables.joined(f"{name} {version}" for name, version in stitched.get("versions", {"cvdm": __version__}).items())),
        ("Note", row.note),
    ]
    return [(name, value) for name, value in facts if value]


def _weights(path: Path) -> str:
    """Return the sha256 of the weights that the model folder names, or say why it is not known."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(content["weights_sha256"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return f"not known ({path.name} is missing or damaged)"
