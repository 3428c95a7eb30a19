"""A restored acquisition whose quality is known: what evaluation is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from cvdm_core import paths
from cvdm_core.config import parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiles import Shards
from cvdm_core.quality.evaluate import evaluate
from cvdm_core.records.receipts import write_json
from cvdm_core.sheet import Acquisition, write_sheet

SCALE, PIXEL_UM, CHANNELS, SAMPLES = 2, 0.065, ("actin", "tubulin"), 8


FACTS = {"samples": SAMPLES, "quantiles": [0.05, 0.95], "std_ddof": 1}  # what stitching records


def write_store(folder, array, pixel_um, store, image="", attributes=None):
    create_image(folder, array.shape, array.dtype, store, image)
    writer = PyramidWriter(folder, image)
    for shard in Shards(array.shape, store.shard):
        writer.write(shard, np.ascontiguousarray(array[shard.t, shard.c, shard.z, shard.y, shard.x]))
    windows = tuple((0.0, 1000.0) for _ in range(array.shape[1]))
    info = ImageInfo("test", (pixel_um, pixel_um), CHANNELS[: array.shape[1]], windows, attributes=attributes or {})
    write_metadata(folder, image, info)


class Bench:
    """One acquisition with two channels, restored by a perfect sampler whose posterior is known."""

    def __init__(self, folder, edge=96, seed=0, times=2, depth=1, **settings):
        self.folder = folder
        rng = np.random.default_rng(seed)
        shape = (times, 2, depth, edge * SCALE, (edge + 8) * SCALE)
        structure = gaussian_filter((rng.random(shape) > 0.99) * 20000.0, (0, 0, 0, 1, 1)) + 200
        width = 2 + 0.05 * structure * rng.uniform(0.2, 3, shape)
        self.truth = np.round(structure + width * rng.normal(size=shape)).clip(0).astype(np.uint16)
        samples = (structure + width * rng.normal(size=(SAMPLES, *shape))).astype(np.float32)
        self.sample, self.mean, self.std = samples[0], samples.mean(0), samples.std(0, ddof=1)
        self.lower, self.upper = np.quantile(samples, (0.05, 0.95), axis=0).astype(np.float32)
        blurred = gaussian_filter(structure, (0, 0, 0, 2.2, 2.2)).reshape(*shape[:3], edge, SCALE, edge + 8, SCALE).mean((4, 6))
        self.raw = rng.poisson(0.5 * blurred + 100).astype(np.uint16)
        sections = {"store": {"chunk": 128, "shard": 256}, "model": {"scale": SCALE}}
        places = {name: str(folder / name) for name in ("results", "models")}
        self.config = parse({**places, "acquisitions": str(folder / "acquisitions.tsv"), **sections, **settings}, "test")
        sizes = {"size_t": times, "size_c": 2, "size_z": depth, "size_y": edge, "size_x": edge + 8, "pixel_size_um": PIXEL_UM * SCALE}
        self.row = Acquisition(acquisition="cells", specimen="s", split="test", input="in.tif", target="out.tif", **sizes)
        self.store("raw", self.raw, PIXEL_UM * SCALE)
        self.store("target", self.truth, PIXEL_UM)
        for name in ("ingest", "stitch"):
            write_json(getattr(paths, f"{name}_receipt")(self.config, "cells"), {"stage": name})

    def store(self, name, array, pixel_um, **options):
        write_store(getattr(paths, f"{name}_store")(self.config, "cells"), array, pixel_um, self.config.store, **options)

    def restore(self, images=("mean", "std", "lower", "upper", "sample_0")):
        for name in images:
            array = getattr(self, name.removesuffix("_0")).astype(np.float32)
            self.store("restored", array, PIXEL_UM, image="" if name == "mean" else name, attributes=FACTS)

    def evaluate(self, **row):
        write_sheet(self.config.acquisitions, {"cells": self.row.model_copy(update=row)})
        evaluate(self.config, "cells")
        self.table = pd.read_parquet(paths.restored_folder(self.config, "cells") / "metrics.parquet")
        return self

    def value(self, metric, image="restored", channel="actin"):
        return float(self.line(metric, image, channel)["value"])

    def line(self, metric, image="restored", channel="actin"):
        table = self.table
        found = table[(table["metric"] == metric) & (table["image"] == image) & (table["channel"] == channel)]
        assert len(found) == 1, f"{len(found)} rows of {metric} {image} {channel}"
        return found.iloc[0]
