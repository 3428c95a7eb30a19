"""A results tree as the other stages leave it, with pictures that look like microscopy: what the pages are tested on and looked at with.

`python tests/unit/report_tree.py FOLDER` writes one of every kind, so that a person can look at the pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, target_origin_um, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiles import shards
from cvdm_core.quality.table import COLUMNS
from cvdm_core.sheet import Acquisition, read_sheet, write_sheet

SCALE = 2
PIXEL_UM = 0.13
Stack = NDArray[np.float32]


def make_config(root: Path, **model: object) -> Config:
    """Return a configuration whose folders lie below `root`."""
    return parse(
        {
            "acquisitions": str(root / "acquisitions.tsv"),
            "results": str(root / "results"),
            "models": str(root / "models"),
            "store": {"chunk": 128, "shard": 256},
            "model": {"scale": SCALE, **model},
        },
        "a test",
    )


def specimen(shape: tuple[int, int], seed: int) -> Stack:
    """Return filaments (odd seeds) or puncta (even seeds), in counts of the truth's camera."""
    random = np.random.default_rng(seed)
    canvas = np.zeros(shape, np.float32)
    if seed % 2:
        for _ in range(shape[0] * shape[1] // 9000 + 3):
            steps = 3 * max(shape)
            angle = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.012, steps))
            start = random.uniform(0, 1, 2) * shape
            path = (start[:, None] + np.cumsum([np.sin(angle), np.cos(angle)], 1) * 0.5).astype(int)
            inside = (path >= 0).all(0) & (path < np.array(shape)[:, None]).all(0)
            np.add.at(canvas, tuple(path[:, inside]), random.uniform(0.4, 1))
    else:
        spots = (random.uniform(0, 1, (2, shape[0] * shape[1] // 1500 + 5)) * np.array(shape)[:, None]).astype(int)
        np.add.at(canvas, tuple(spots), random.uniform(2, 14, spots.shape[1]).astype(np.float32))
    return np.asarray(gaussian_filter(canvas, 1.4) * 1500 + 120, np.float32)


FACTS = {"weights_sha256": "4f" * 32, "samples": 8, "quantiles": [0.05, 0.95], "std_ddof": 1}


def write_store(store: Path, stack: NDArray[np.generic], config: Config, channels: Sequence[str], pixel_um: float, image: str = "") -> None:
    """Write a stack (T, C, Z, Y, X) as the stages do."""
    shape = (stack.shape[0], stack.shape[1], stack.shape[2], stack.shape[3], stack.shape[4])
    create_image(store, shape, stack.dtype, config.store, image)
    writer = PyramidWriter(store, image)
    for part in shards(shape, config.store.shard):
        writer.write(part, np.ascontiguousarray(stack[part.t, part.c, part.z, part.y, part.x]))
    pixel = (pixel_um, pixel_um)
    origin = target_origin_um(pixel, SCALE) if pixel_um != PIXEL_UM else (0.0, 0.0)
    windows = ((0.0, 1.0),) * len(channels)
    write_metadata(store, image, ImageInfo(store.name, pixel, tuple(channels), windows, origin_um=origin, attributes=FACTS))


def add_acquisition(
    config: Config,
    name: str,
    size: tuple[int, int] = (128, 160),
    channels: tuple[str, ...] = ("actin",),
    truth: bool = True,
    uncertain: bool = True,
    finished: bool = True,
    depth: int = 1,
    seed: int = 1,
    **sheet: object,
) -> Acquisition:
    """Write the stores, metrics and receipts of one acquisition and add it to the sheet."""
    random = np.random.default_rng(seed)
    fine = (size[0] * SCALE, size[1] * SCALE)
    target = np.stack([np.stack([specimen(fine, seed + number)] * depth) for number in range(len(channels))])[None]
    wide = gaussian_filter(target, (0, 0, 0, 3, 3)).reshape(1, len(channels), depth, size[0], SCALE, size[1], SCALE).mean((4, 6))
    raw = np.clip(random.poisson(wide / 14) * 2.2 + 100 + random.normal(0, 3, wide.shape), 0, 65535).astype(np.uint16)
    mean = gaussian_filter(target, (0, 0, 0, 1.1, 1.1)) + gaussian_filter(random.normal(0, 90, target.shape), (0, 0, 0, 2, 2))
    std = 8 + 0.12 * gaussian_filter(np.abs(target - mean), (0, 0, 0, 3, 3)) * 5
    drawn = mean + std * random.normal(0, 1, target.shape)

    row = {
        "acquisition": name, "specimen": f"cell{seed}", "split": "test",
        "input": f"/data/night 1/{name}.tif", "target": "t.tif" if truth else "",
        "na": 1.2, "emission_nm": tuple(525.0 + 80 * number for number in range(len(channels))),
        "size_t": 1, "size_c": len(channels), "size_z": depth, "size_y": size[0], "size_x": size[1], "dtype": "uint16",
        "pixel_size_um": PIXEL_UM, "pixel_size_source": "metadata", "channels": channels, **sheet,
    }  # fmt: skip
    acquisition = Acquisition.model_validate(row)
    known = read_sheet(config.acquisitions) if Path(config.acquisitions).exists() else {}
    write_sheet(config.acquisitions, {**known, name: acquisition})
    if not finished:
        return acquisition
    write_store(paths.raw_store(config, name), raw, config, channels, PIXEL_UM)
    if truth:
        write_store(paths.target_store(config, name), np.clip(target, 0, 65535).astype(np.uint16), config, channels, PIXEL_UM / SCALE)
    images = {"": mean}
    if uncertain:
        images |= {"std": std, "lower": mean - 1.3 * std, "upper": mean + 1.3 * std, "sample_0": drawn}
    for image, stack in images.items():
        write_store(paths.restored_store(config, name), np.asarray(stack, np.float32), config, channels, PIXEL_UM / SCALE, image)
    write_measurements(config, name, channels, truth, uncertain)
    return acquisition


def write_measurements(config: Config, name: str, channels: Sequence[str], truth: bool, uncertain: bool) -> None:
    """Write metrics, curves and receipts with plausible numbers."""
    folder = paths.restored_folder(config, name)
    rows = []
    for number, channel in enumerate(channels):
        values = {
            ("psnr_si", "dB"): {"input": 24.31, "restored": 31.07, "sample": 29.4, "richardson_lucy": 28.11, "constant": 18.2},
            ("ssim", ""): {"input": 0.512, "restored": 0.871, "sample": 0.83, "richardson_lucy": 0.744, "constant": 0.31},
            ("nrmse", ""): {"input": 0.0812, "restored": 0.0391, "sample": 0.046, "richardson_lucy": 0.0544, "constant": 0.2},
            ("ms_ssim", ""): {"input": None, "restored": None},
            ("frc_resolution", "µm"): {"input": 0.412, "restored": 0.271 + 0.01 * number, "sample": 0.28, "richardson_lucy": 0.33},
            ("hf_power_ratio", ""): {"input": 1.9, "restored": 0.71, "sample": 0.97},
            ("coverage", ""): {"restored": 0.66 if uncertain else None},
            ("spread_skill", ""): {"restored": 0.93 if uncertain else None},
            ("spearman_std", ""): {"restored": 0.58 if uncertain else None},
            ("spearman_input", ""): {"restored": 0.3 + 0.4 * number if uncertain else None},
            ("rsp", ""): {"restored": 0.9871},
            ("rse", "counts"): {"restored": 8.21},
        }  # fmt: skip
        for (metric, unit), images in values.items():
            for image, value in images.items():
                without = metric not in ("rsp", "rse") and not truth
                reason = "no truth was acquired" if without else "the shorter side has fewer than 176 pixels" if metric == "ms_ssim" else ""
                reason = reason or ("the model gives no uncertainty" if value is None else "")
                rows.append([name, "cvdm", "test", channel, image, metric, None if reason else value, unit, "truth", reason])
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "metrics.tsv", sep="\t", index=False)
    if truth:
        frequency = np.linspace(0.05, 7.5, 60)
        frc = np.stack([1 / (1 + (frequency / cut) ** 6) for cut in (2.0, 3.3, 2.8)])
        bins = np.linspace(20, 300, 20)
        xr.Dataset(
            {
                "frc": (("channel", "image", "frequency"), np.stack([frc] * len(channels))),
                "calibration_std": (("channel", "bin"), np.stack([bins] * len(channels))),
                "calibration_rmse": (("channel", "bin"), np.stack([bins * 1.08 + 6] * len(channels))),
            },
            {"channel": list(channels), "image": ["input", "restored", "richardson_lucy"], "frequency": frequency},
        ).to_netcdf(folder / "curves.nc", engine="h5netcdf")
    base = {
        "subject": name,
        "started": "2026-11-23T02:11:09+00:00",
        "seconds": 71.3,
        "machine": {"host": "node7"},
        "versions": {"cvdm": "0.1.0", "torch": "2.13.0"},
    }
    seams = {
        "mean": {"ratio": 1.004, "p": 0.61, "segments": 96, "reason": None},
        "std": {"ratio": None, "p": None, "segments": 0, "reason": "flat"},
    }
    (folder / "stitch.json").write_text(
        json.dumps({**base, "stage": "stitch", "settings": {"sampling": {"samples": 8, "steps": 5}}, "details": {"seams": seams}})
    )
    (folder / "evaluate.json").write_text(json.dumps({**base, "stage": "evaluate", "details": {}}))
    paths.ingest_receipt(config, name).write_text(json.dumps({**base, "stage": "ingest"}))


def write_model(config: Config) -> None:
    """Write the curves and the description of a trained model."""
    folder = paths.model_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    t = np.linspace(0, 1, 101)
    gamma = np.exp(-7 * t**2)
    pd.DataFrame({"t": t, "gamma_mean": gamma, "gamma_low": gamma**1.4, "gamma_high": gamma**0.7}).to_csv(
        folder / "schedule.csv", index=False
    )
    steps = np.arange(0, 4000, 50)
    random = np.random.default_rng(0)
    curves = [(step, "train/loss", 0.4 * np.exp(-step / 900) + 0.1 + random.normal(0, 0.006)) for step in steps]
    curves += [(step, "val/loss", 0.4 * np.exp(-step / 900) + 0.112) for step in steps[::5]]
    curves += [(step, "val/psnr_mean", 30.0 - 5 * np.exp(-step / 900)) for step in steps[::5]]
    pd.DataFrame(curves, columns=["step", "name", "value"]).to_csv(folder / "curves.csv", index=False)
    (folder / "train.json").write_text(json.dumps({"stage": "train", "seconds": 912.0}))


def write_failure(config: Config, stage: str, subject: str, message: str, kind: str = "damaged input") -> None:
    """Write the note of a failed stage."""
    folder = Path(config.results) / ".failures"
    folder.mkdir(parents=True, exist_ok=True)
    note = {"stage": stage, "subject": subject, "class": kind, "message": message, "started": "2026-11-23T01:02:03+00:00"}
    (folder / f"{stage}.{subject}.json").write_text(json.dumps(note))


def main(root: Path) -> None:
    """Write one of every kind, and the pages."""
    from cvdm_core.report.acquisition import write_report
    from cvdm_core.report.index import write_index

    config = make_config(root)
    write_model(config)
    add_acquisition(config, "two_colours_1024", (512, 512), ("microtubules", "vesicles"), note="HeLa, fixed")
    add_acquisition(config, "no_truth", (256, 320), truth=False, seed=3, split="predict")
    add_acquisition(config, "small_stack", (100, 75), ("membrane",), depth=5, seed=5, z_step_um=0.3)
    add_acquisition(config, "training_1", finished=False, seed=7, split="train")
    add_acquisition(config, "broken", finished=False, seed=9)
    add_acquisition(config, "waiting", finished=False, seed=11)
    for name in ("two_colours_1024", "no_truth", "small_stack"):
        print(write_report(config, name), paths.report_page(config, name).stat().st_size)
    write_failure(
        config, "ingest", "broken", "/data/night 1/broken.tif: the file ends before plane 3 of 5; copy it again from the microscope."
    )
    refused = "acquisition\tfile\tproblem\nbad name\t/data/x $(y).tif\tthe pixel size is missing; add stated_pixel_size_um.\n"
    (root / "acquisitions.refused.tsv").write_text(refused)
    print(write_index(config))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
