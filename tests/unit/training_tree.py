"""A tiny set of ingested pairs to train on: spots, seen sharp (target) and blurred on a coarser grid with noise (input)."""

from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import Config, parse
from cvdm_core.sheet import Acquisition, read_sheet, write_sheet

SETTINGS = {
    "store": {"chunk": 32, "shard": 64},
    "model": {
        "name": "tiny",
        "scale": 2,
        "denoiser": {"base_channels": 8, "multipliers": [1, 2]},
        "schedule": {"base_channels": 4},
    },
    "training": {
        "steps": 24,
        "batch": 4,
        "crop": 32,
        "warmup_steps": 4,
        "validate_every": 8,
        "save_every": 5,
        "precision": "float32",
    },
    "sampling": {"steps": 2, "samples": 2, "keep_samples": 1},
}


def tiny_config(folder, **sections):
    """Settings for a tiny training below `folder`, with keys of sections laid over them: training={"steps": 3}."""
    base = {key: {**values, **sections.get(key, {})} for key, values in SETTINGS.items()}
    places = {
        "acquisitions": str(Path(folder, "sheet.tsv")),
        "results": str(Path(folder, "results")),
        "models": str(Path(folder, "models")),
    }
    return parse({**base, **places}, "the test")


def spots(rng, channels, size):
    image = np.zeros((channels, size, size))
    for channel in range(channels):
        y, x = rng.integers(0, size, (2, size * size // 60))
        np.add.at(image[channel], (y, x), rng.uniform(20, 60, len(y)))
    return gaussian_filter(image, (0, 0.8, 0.8))


def pair(rng, channels, size, scale, gain=40.0, offset=100.0):
    """Return (input, target), uint16, (C, Y, X): other gains and offsets, as two exposures have."""
    truth = spots(rng, channels, size * scale)
    coarse = gaussian_filter(truth, (0, 1.0 * scale, 1.0 * scale)).reshape(channels, size, scale, size, scale).mean(axis=(2, 4))
    noisy = rng.poisson(coarse * 20) / 20 * gain + offset
    return noisy.round().astype(np.uint16), (truth * 100 + 20).round().astype(np.uint16)


def row_of(name, folder, split, specimen, image, target=True):
    return Acquisition(
        acquisition=name,
        specimen=specimen,
        split=split,
        input=str(folder / f"{name}.ome.tif"),
        target=str(folder / f"{name}_target.ome.tif") if target else "",
        stated_pixel_size_um=0.1,
        size_t=1,
        size_c=image.shape[0],
        size_z=1,
        size_y=image.shape[1],
        size_x=image.shape[2],
        dtype="uint16",
        pixel_size_um=0.1,
        pixel_size_source="stated",
        channels=tuple(f"dye{number}" for number in range(image.shape[0])),
    )


def make_tree(folder, splits=("train", "train", "val"), channels=2, size=48, scale=2, ingested=True) -> Config:
    """Write TIFFs and a sheet below `folder`, ingest them, and return the configuration."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows = {}
    for number, split in enumerate(splits):
        name = f"a{number}"
        images = pair(rng, channels, size, scale)
        for suffix, image in zip(("", "_target"), images, strict=True):
            tifffile.imwrite(folder / f"{name}{suffix}.ome.tif", image[None, :, None], metadata={"axes": "TCZYX"})
        rows[name] = row_of(name, folder, split, f"specimen{number}", images[0])
    config = tiny_config(folder, model={"scale": scale})
    write_sheet(config.acquisitions, rows)
    if ingested:
        for name in rows:
            ingest(config, name)
    return config


def change_rows(config, **changes):
    """Change fields of rows of the sheet: change_rows(config, a1={"split": "val"})."""
    rows = read_sheet(config.acquisitions)
    write_sheet(config.acquisitions, {name: row.model_copy(update=changes.get(name, {})) for name, row in rows.items()})
