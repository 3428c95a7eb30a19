"""What comes after ingest knows of a mosaic: nothing is restored or measured where nothing was acquired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from evaluation_bench import FACTS, PIXEL_UM, SCALE, Bench
from restoration_world import NAME, make_world

from cvdm_core import paths
from cvdm_core.images import open_image
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.stitch import stitch


def describe(store: Path, said: dict[str, Any]) -> None:
    """Put a mosaic into the attribute of a store."""
    group = zarr.open_group(store, mode="r+")
    group.attrs["cvdm"] = {**group.attrs["cvdm"], "mosaic": said}  # type: ignore[dict-item]


def restored(root: Path, said: dict[str, Any] | None) -> Any:
    config = make_world(root, (40, 33))
    if said is not None:
        describe(paths.raw_store(config, NAME), said)
    for block in range(3):
        sample_block(config, NAME, block)
    stitch(config, NAME)
    return {image: open_image(paths.restored_store(config, NAME), image=image) for image in ("", "std", "sample_0")}


def test_nothing_is_restored_where_nothing_was_acquired(tmp_path: Path) -> None:
    said = {"covered": 0.6, "field_shape": [40, 20], "fields": [{"name": "0", "y": 0, "x": 0}]}
    plain, gappy = restored(tmp_path / "plain", None), restored(tmp_path / "gappy", said)
    for image, whole in plain.items():
        pixels = gappy[image].values
        assert not pixels[..., 40:].any() and whole.values[..., 40:].any()
        np.testing.assert_array_equal(pixels[..., :40], whole.values[..., :40])
    kept = gappy[""].attrs["cvdm"]["mosaic"]
    assert kept == {"covered": 0.6, "field_shape": [40, 20], "fields": [{"y": 0, "x": 0}]}
    assert "mosaic" not in plain[""].attrs["cvdm"]


def test_what_was_not_acquired_is_not_measured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, edge=48, evaluation={"richardson_lucy_iterations": 0})
    bench.restore()
    whole = bench.evaluate(target="").value("rse")
    bench.raw[..., 30:] = 0
    for image in (bench.mean, bench.sample, bench.std, bench.lower, bench.upper):
        image[..., 30 * SCALE :] = 0
    bench.restore()
    said = {"covered": 0.5, "field_shape": [48, 30], "fields": [{"y": 0, "x": 0}]}
    bench.store("raw", bench.raw, PIXEL_UM * SCALE, attributes=FACTS)
    blind = bench.evaluate(target="").value("rse")
    bench.store("raw", bench.raw, PIXEL_UM * SCALE, attributes={**FACTS, "mosaic": said})
    seeing = bench.evaluate(target="").value("rse")
    assert seeing == pytest.approx(whole, rel=0.1)
    assert blind > 2 * whole  # zeros bend the line that carries one image to the other
