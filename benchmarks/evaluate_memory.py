"""How much memory `cvdm evaluate` needs for a large image.

Writes a synthetic acquisition of EDGE x EDGE pixels shard by shard (smooth random structure, no model), evaluates it in a process of its
own, and prints the peak resident memory of that process, which must stay below 2 GB whatever the size:

    python benchmarks/evaluate_memory.py 16384 --folder /scratch

Needs about 8 bytes of disk for each pixel, several minutes of CPU, and half as much memory as it measures.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter, nested
from cvdm_core.records.receipts import write_json
from cvdm_core.sheet import Acquisition, write_sheet

SCALE, SAMPLES, NAME = 2, 8, "large"
FACTS = {"samples": SAMPLES, "quantiles": [0.05, 0.95], "std_ddof": 1}


def write_stores(config: Config, edge: int) -> None:
    """Write raw, target and restored stores with one texture repeated in every shard, under noise of its own."""
    shard = config.store.shard
    texture = gaussian_filter((np.random.default_rng(0).random((shard, shard)) > 0.99) * 20_000.0, 1.5, mode="wrap") + 200

    def image(store: Path, shape: tuple[int, ...], dtype: type, plane: np.ndarray, noise: float, seed: int, name: str = "") -> None:
        shape = (1, 1, 1, *shape)
        create_image(store, shape, dtype, config.store, name)
        writer = PyramidWriter(store, name)
        for part in nested(shape, shard):
            rng = np.random.default_rng((seed, part.index))
            pixels = plane[: part.shape[0], : part.shape[1]] * (1 + noise * rng.standard_normal(part.shape, np.float32))
            writer.write(part, np.maximum(pixels, 0).astype(dtype))
        pixel = 0.065 * edge / shape[3]
        write_metadata(store, name, ImageInfo(NAME, (pixel, pixel), ("actin",), ((0.0, 2000.0),), attributes=FACTS))

    fine, coarse = (edge, edge), (edge // SCALE, edge // SCALE)
    image(paths.raw_store(config, NAME), coarse, np.uint16, texture, 0.1, 1)
    image(paths.target_store(config, NAME), fine, np.uint16, texture, 0.05, 2)
    restored = paths.restored_store(config, NAME)
    image(restored, fine, np.float32, texture, 0.02, 3)
    for name, factor in {"std": 0.05, "lower": 0.93, "upper": 1.07, "sample_0": 1.0}.items():
        image(restored, fine, np.float32, texture * factor, 0.05 if name == "sample_0" else 0.0, 4, name)


def main() -> None:
    """Write, evaluate in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=int, nargs="?", default=16384, help="edge of the restored image [pixels]")
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        settings = {"results": str(folder / "results"), "models": str(folder / "models"), "acquisitions": str(folder / "acquisitions.tsv")}
        config = parse({**settings, "model": {"scale": SCALE}, "evaluation": {"richardson_lucy_iterations": 2}}, "benchmark")
        edge = options.edge // SCALE
        size = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": edge, "size_x": edge, "pixel_size_um": 0.065 * SCALE}
        names = {"acquisition": NAME, "specimen": "s", "split": "test", "input": "in.tif", "target": "out.tif"}
        row = Acquisition.model_validate({**names, **size, "na": 0.9, "emission_nm": (520.0,)})
        write_sheet(config.acquisitions, {NAME: row})
        write_stores(config, options.edge)
        for stage in ("ingest", "stitch"):
            write_json(getattr(paths, f"{stage}_receipt")(config, NAME), {"stage": stage})
        code = (
            "import sys; from cvdm_core.config import Config; from cvdm_core.quality.evaluate import evaluate; "
            "evaluate(Config.model_validate_json(sys.argv[1]), sys.argv[2])"
        )
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, config.model_dump_json(), NAME], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{options.edge} x {options.edge} pixels: peak memory {used.ru_maxrss / 1024:.0f} MB, ", end="")
        print(f"{used.ru_utime + used.ru_stime:.0f} CPU seconds, {time.perf_counter() - begin:.0f} seconds")


if __name__ == "__main__":
    main()
