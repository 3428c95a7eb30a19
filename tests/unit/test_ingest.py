"""Ingest: the pixels of the TIFF, bit for bit, with what is known about them; or one sentence and nothing changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from store_tree import config_of, digests, pixels, row_of, write_ome_tiff

from cvdm_core import paths
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.acquisitions.measure import measure
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.tiff import TiffPlanes
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.records.verify import verify
from cvdm_core.sheet import Acquisition, write_sheet


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((1, 1, 1, 100, 70), "uint16", {}),
        ((2, 3, 4, 33, 65), "uint16", {}),
        ((1, 2, 1, 101, 67), "uint8", {"compression": "zlib"}),
        ((3, 1, 1, 64, 64), "float32", {}),
        ((1, 1, 3, 95, 96), "int16", {}),
        ((1, 1, 1, 150, 130), "uint16", {"tile": (64, 64), "compression": "lzw"}),
        ((1, 2, 1, 31, 17), "uint16", {"bigtiff": True, "byteorder": ">"}),
    ],
)
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_tiff_comes_back_bit_for_bit_with_its_metadata(
    tmp_path: Path, version: str, shape: tuple[int, ...], dtype: str, options: dict[str, Any]
) -> None:
    array = pixels(shape, dtype)
    tiff = write_ome_tiff(tmp_path / "cells.ome.tif", array, 0.13, **options)
    config = config_of(tmp_path, row_of("cells", tiff), format=version)
    ingest(config, "cells")
    image = open_image(paths.raw_store(config, "cells"))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.values, array)
    assert image.attrs["pixel_size_um"] == (0.13, 0.13)
    assert image.attrs.get("z_step_um") == (0.3 if shape[2] > 1 else None)
    assert image.attrs.get("time_step_s") == (2.5 if shape[0] > 1 else None)
    assert [str(name) for name in image.c.values] == [f"channel {number}" for number in range(shape[1])]
    assert image.attrs["cvdm"] | {
        "acquisition": "cells", "role": "input", "source": "cells.ome.tif", "pixel_size_source": "metadata",
    } == image.attrs["cvdm"]  # fmt: skip
    xml = (paths.raw_store(config, "cells") / "OME" / "METADATA.ome.xml").read_text(encoding="utf-8")
    assert xml == tifffile.TiffFile(tiff).ome_metadata
    assert verify([tmp_path / "results"]) == []


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_target_has_the_finer_pixel_size_and_lies_over_its_input(tmp_path: Path, scale: int) -> None:
    small, large = pixels((1, 1, 1, 50, 41)), pixels((1, 1, 1, 50 * scale, 41 * scale), seed=1)
    tiff, target = write_ome_tiff(tmp_path / "a.tif", small, 0.12), write_ome_tiff(tmp_path / "b.tif", large, 0.12 / scale)
    config = config_of(tmp_path, row_of("cells", tiff, target))
    ingest(config, "cells")
    raw, truth = open_image(paths.raw_store(config, "cells")), open_image(paths.target_store(config, "cells"))
    np.testing.assert_array_equal(truth.values, large)
    assert truth.attrs["pixel_size_um"] == pytest.approx((0.12 / scale,) * 2)
    np.testing.assert_allclose(truth.y.values.reshape(-1, scale).mean(1), raw.y, atol=1e-12)
    assert truth.attrs["cvdm"]["role"] == "target"
    receipt = read_json(paths.ingest_receipt(config, "cells"))
    assert receipt["read"] == {str(tiff): sha256_file(tiff), str(target): sha256_file(target)}
    assert set(receipt["wrote"]) == {str(paths.raw_store(config, "cells")), str(paths.target_store(config, "cells"))}


def test_imagej_stacks_are_read_too(tmp_path: Path) -> None:
    array = pixels((2, 3, 2, 40, 50))
    tifffile.imwrite(
        tmp_path / "a.tif", array.transpose(0, 2, 1, 3, 4), imagej=True, resolution=(10, 10),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 0.5, "finterval": 3.0},
    )  # fmt: skip
    config = config_of(tmp_path, row_of("cells", tmp_path / "a.tif"))
    ingest(config, "cells")
    image = open_image(paths.raw_store(config, "cells"))
    np.testing.assert_array_equal(image.values, array)
    assert image.attrs["pixel_size_um"] == pytest.approx((0.1, 0.1))
    assert image.attrs["cvdm"]["source_metadata"]["dialect"] == "ImageJ"
    assert image.attrs["cvdm"]["source_metadata"]["said"]["finterval"] == 3.0


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "float32"), ("bool", "uint8")])
def test_what_a_store_cannot_hold_becomes_the_next_larger_type(tmp_path: Path, dtype: str, stored: str) -> None:
    array = (pixels((1, 1, 1, 40, 50))[0, 0, 0] % 2000).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", resolution=(1e5, 1e5), resolutionunit="CENTIMETER")
    config = config_of(tmp_path, row_of("cells", tmp_path / "a.tif").model_copy(update={"dtype": stored}))
    ingest(config, "cells")
    image = open_image(paths.raw_store(config, "cells"))
    assert image.dtype == np.dtype(stored)
    np.testing.assert_array_equal(image.values[0, 0, 0], array)


def test_pixels_that_count_as_square_are_ingested_with_the_size_that_was_registered(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 40, 50))
    sizes = {"PhysicalSizeX": 0.103, "PhysicalSizeY": 0.1031, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata={"axes": "TCZYX", **sizes})
    stated = Acquisition(acquisition="cells", specimen="cells", split="predict", input=str(tmp_path / "a.ome.tif"))
    row, _ = measure(stated, lambda row: None, lambda column: column, tmp_path / "acquisitions.tsv")
    config = config_of(tmp_path, row)
    ingest(config, "cells")
    assert open_image(paths.raw_store(config, "cells")).attrs["pixel_size_um"] == (0.103, 0.103)


def test_pages_without_a_name_are_what_the_sheet_says(tmp_path: Path) -> None:
    array = pixels((1, 1, 5, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", array[0, 0], photometric="minisblack", metadata=None)
    row = row_of("cells", tmp_path / "a.tif").model_copy(
        update={"size_t": 1, "size_z": 5, "pixel_size_um": 0.2, "pixel_size_source": "stated"}
    )
    config = config_of(tmp_path, row.model_copy(update={"z_step_source": "stated", "assumed": "pages are z planes"}))
    ingest(config, "cells")
    image = open_image(paths.raw_store(config, "cells"))
    np.testing.assert_array_equal(image.values, array)
    assert (image.attrs["cvdm"]["z_step_source"], image.attrs["cvdm"]["assumed"]) == ("stated", "pages are z planes")


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """An ingested acquisition with a target, and its configuration."""
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 2, 1, 40, 40)), 0.12)
    target = write_ome_tiff(tmp_path / "b.tif", pixels((1, 2, 1, 80, 80)), 0.06)
    config = config_of(tmp_path, row_of("cells", tiff, target))
    ingest(config, "cells")
    return tmp_path, config, digests(tmp_path / "results" / "cells" / "raw.ome.zarr")


def test_ingesting_again_gives_the_same_bytes(world: Any) -> None:
    folder, config, before = world
    ingest(config, "cells")
    assert digests(folder / "results" / "cells" / "raw.ome.zarr") == before
    assert sorted(path.name for path in (folder / "results" / "cells").iterdir()) == ["ingest.json", "raw.ome.zarr", "target.ome.zarr"]


def test_a_target_that_left_the_sheet_leaves_the_results(world: Any) -> None:
    folder, config, _ = world
    write_sheet(config.acquisitions, {"cells": row_of("cells", folder / "a.tif")})
    ingest(config, "cells")
    assert not paths.target_store(config, "cells").exists()
    assert verify([folder / "results"]) == []


def _truncate(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part))


CHANGES: dict[str, tuple[Any, str]] = {
    "other shape": (lambda folder: write_ome_tiff(folder / "a.tif", pixels((1, 2, 1, 40, 41)), 0.12), "changed since registration"),
    "other type": (lambda folder: write_ome_tiff(folder / "a.tif", pixels((1, 2, 1, 40, 40), "uint8"), 0.12), "data type is uint8"),
    "other pixel size": (lambda folder: write_ome_tiff(folder / "a.tif", pixels((1, 2, 1, 40, 40)), 0.13), "pixel size is 0.13"),
    "target of another size": (lambda folder: write_ome_tiff(folder / "b.tif", pixels((1, 2, 1, 80, 81)), 0.06), "no whole multiple"),
    "target smaller than the input": (
        lambda folder: write_ome_tiff(folder / "b.tif", pixels((1, 2, 1, 20, 20)), 0.06),
        "no whole multiple",
    ),
    "target with other channels": (lambda folder: write_ome_tiff(folder / "b.tif", pixels((1, 1, 1, 80, 80)), 0.06), "no whole multiple"),
    "missing": (lambda folder: (folder / "a.tif").unlink(), "a.tif"),
    "missing target": (lambda folder: (folder / "b.tif").unlink(), "b.tif"),
    "empty": (lambda folder: (folder / "a.tif").write_bytes(b""), "a.tif"),
    "text": (lambda folder: (folder / "a.tif").write_text("not a TIFF"), "a.tif"),
    "cut in half": (lambda folder: _truncate(folder / "a.tif", 0.5), "a.tif"),
    "cut near the end": (lambda folder: _truncate(folder / "b.tif", 0.98), "b.tif"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_or_damaged_tiff_changes_no_store(world: Any, change: str) -> None:
    folder, config, before = world
    alter, words = CHANGES[change]
    alter(folder)
    receipt = paths.ingest_receipt(config, "cells").read_bytes()
    with pytest.raises(UserError, match=words) as caught:
        ingest(config, "cells")
    assert "\n" not in str(caught.value)
    assert digests(folder / "results" / "cells" / "raw.ome.zarr") == before
    assert paths.ingest_receipt(config, "cells").read_bytes() == receipt
    assert sorted(path.name for path in (folder / "results" / "cells").iterdir()) == ["ingest.json", "raw.ome.zarr", "target.ome.zarr"]
    note = read_json(folder / "results" / ".failures" / "ingest.cells.json")
    damaged = change in ("missing", "missing target", "empty", "cut in half", "cut near the end")
    assert note["class"] == ("damaged input" if damaged else "configuration")


@pytest.mark.parametrize(
    ("name", "value", "options"), [("a.tif", np.nan, {}), ("b.tif", np.inf, {}), ("b.tif", -np.inf, {"compression": "zlib"})]
)
def test_pixels_that_are_no_numbers_are_counted_and_named_and_change_no_store(
    tmp_path: Path, name: str, value: float, options: dict[str, Any]
) -> None:
    """One of them in a target would make all weights of a model NaN, one in an input a whole restoration."""
    images = {"a.tif": pixels((1, 2, 1, 40, 40), "float32"), "b.tif": pixels((1, 2, 1, 80, 80), "float32")}
    tiff, target = (write_ome_tiff(tmp_path / file, array) for file, array in images.items())
    config = config_of(tmp_path, row_of("cells", tiff, target))
    ingest(config, "cells")
    before = digests(tmp_path / "results")
    images[name][0, 1, 0, [35, 7, 39], [2, 38, 39]] = value
    write_ome_tiff(tmp_path / name, images[name], **options)
    with pytest.raises(UserError) as caught:
        ingest(config, "cells")
    named = f"{tmp_path / name}: pixels are NaN or infinite: 3 in the plane t 0, c 1, z 0, one of them at y 7, x 38 (counted from 0);"
    assert str(caught.value).startswith(named)
    assert read_json(tmp_path / "results" / ".failures" / "ingest.cells.json")["class"] == "damaged input"
    assert {file: digest for file, digest in digests(tmp_path / "results").items() if ".failures" not in file} == before
    assert sorted(path.name for path in (tmp_path / "results" / "cells").iterdir()) == ["ingest.json", "raw.ome.zarr", "target.ome.zarr"]


def test_a_tiff_that_breaks_off_inside_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 1, 1, 70, 70)))
    config = config_of(tmp_path, row_of("cells", tiff))
    read = TiffPlanes.read

    def fail_late(self: TiffPlanes, t: int, c: int, z: int, y: slice, x: slice) -> Any:
        if y.start == 32:
            raise UserError("a.tif: cut off")
        return read(self, t, c, z, y, x)

    monkeypatch.setattr(TiffPlanes, "read", fail_late)
    with pytest.raises(UserError, match="cut off"):
        ingest(config, "cells")
    assert not list((tmp_path / "results" / "cells").iterdir())


def test_a_tiff_that_changes_meanwhile_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 1, 1, 70, 70)))
    config = config_of(tmp_path, row_of("cells", tiff))
    read = TiffPlanes.read

    def touch(self: TiffPlanes, t: int, c: int, z: int, y: slice, x: slice) -> Any:
        os.utime(tiff)
        return read(self, t, c, z, y, x)

    monkeypatch.setattr(TiffPlanes, "read", touch)
    with pytest.raises(UserError, match="changed while it was read"):
        ingest(config, "cells")
    assert not paths.raw_store(config, "cells").exists()


def test_unknown_and_unmeasured_rows_are_named(tmp_path: Path) -> None:
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 1, 1, 40, 40)))
    config = config_of(tmp_path, row_of("cells", tiff).model_copy(update={"pixel_size_um": None}))
    with pytest.raises(UserError, match="'others'"):
        ingest(config, "others")
    with pytest.raises(UserError, match="no measured shape"):
        ingest(config, "cells")


def test_memory_follows_the_shard_and_not_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read is larger than a shard, and each shard is read once."""
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 1, 2, 300, 200)))
    config = config_of(tmp_path, row_of("cells", tiff))
    read, seen = TiffPlanes.read, []

    def watch(self: TiffPlanes, t: int, c: int, z: int, y: slice, x: slice) -> Any:
        seen.append((t, c, z, y.start, x.start))
        assert y.stop - y.start <= 32
        assert x.stop - x.start <= 32
        return read(self, t, c, z, y, x)

    monkeypatch.setattr(TiffPlanes, "read", watch)
    ingest(config, "cells")
    inner = [place for place in seen if place[3] % 32 == 0 and place[4] % 32 == 0]
    assert len(set(inner)) == len(inner) == 2 * 10 * 7


def test_what_a_killed_run_with_other_settings_left_is_no_obstacle(world: Any) -> None:
    folder, config, before = world
    acquisition = folder / "results" / "cells"
    shutil.copytree(acquisition / "target.ome.zarr", acquisition / "raw.ome.zarr.partial")
    shutil.copytree(acquisition / "target.ome.zarr" / "0", acquisition / ".raw.ome.zarr.partial.0123")
    ingest(config, "cells")
    assert digests(acquisition / "raw.ome.zarr") == before
    assert sorted(path.name for path in acquisition.iterdir()) == ["ingest.json", "raw.ome.zarr", "target.ome.zarr"]


def test_the_order_in_which_a_file_is_read_leaves_no_trace_in_the_pixels(tmp_path: Path) -> None:
    """Compressed strips are read row by row, everything else along a curve."""
    array = pixels((1, 1, 1, 150, 230))
    stores = []
    for name, options in (("strips", {"compression": "zlib", "rowsperstrip": 7}), ("plain", {}), ("tiles", {"tile": (16, 16)})):
        tiff = write_ome_tiff(tmp_path / f"{name}.tif", array, **options)
        config = config_of(tmp_path / name, row_of("cells", tiff))
        ingest(config, "cells")
        found = digests(paths.raw_store(config, "cells"))
        stores.append({file: digest for file, digest in found.items() if "/c/" in file})
    assert stores[0] == stores[1] == stores[2]
    assert len(stores[0]) > 40
