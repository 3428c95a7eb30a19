"""What a store says about itself: places, units, windows, as our own reader and another library see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_tree import fill, info, pixels, settings

from cvdm_core.images.omezarr_metadata import display_windows, read_metadata, target_origin_um, write_ome_xml
from cvdm_core.images.validation import validate

FORMATS = ("0.5", "0.4")
SHAPE = (2, 2, 2, 40, 35)


@pytest.mark.parametrize("version", FORMATS)
def test_every_level_says_where_its_pixels_lie(tmp_path: Path, version: str) -> None:
    fill(tmp_path / "a", pixels(SHAPE), settings(format=version), z_step_um=0.3, time_step_s=2.5, pixel_size_um=(0.11, 0.13))
    multiscale, omero, extra = read_metadata(tmp_path / "a")
    assert [(axis["name"], axis.get("unit")) for axis in multiscale["axes"]] == [
        ("t", "second"), ("c", None), ("z", "micrometer"), ("y", "micrometer"), ("x", "micrometer"),
    ]  # fmt: skip
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [2.5, 1.0, 0.3, 0.11 * 2**level, 0.13 * 2**level]}
        shift = (2**level - 1) / 2
        assert translation == {"type": "translation", "translation": [0.0, 0.0, 0.0, shift * 0.11, shift * 0.13]}
    assert [channel["label"] for channel in omero["channels"]] == ["channel 0", "channel 1"]
    assert omero["channels"][0]["window"]["max"] == 65535
    assert (extra["chunk"], extra["shard"]) == (16, 32)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_finer_grid_covers_the_same_field(scale: int) -> None:
    """The outer edges of both grids are the same: half a pixel before the first centre."""
    pixel = 0.1 / scale
    origin = target_origin_um((pixel, pixel), scale)
    assert origin[0] - pixel / 2 == pytest.approx(-0.05)
    assert info(pixel_size_um=(pixel, pixel), origin_um=origin).translation(0)[3:] == list(origin)


@pytest.mark.parametrize("version", FORMATS)
def test_an_unknown_step_has_no_unit(tmp_path: Path, version: str) -> None:
    fill(tmp_path / "a", pixels((3, 1, 2, 40, 40)), settings(format=version))
    multiscale, _, _ = read_metadata(tmp_path / "a")
    assert [axis["name"] for axis in multiscale["axes"] if "unit" in axis] == ["y", "x"]
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][:3] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("version", FORMATS)
def test_another_library_reads_image_and_subimage(tmp_path: Path, version: str) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    array = pixels(SHAPE)
    folder = tmp_path / "a.ome.zarr"
    fill(folder, array, settings(format=version), z_step_um=0.3)
    fill(folder, array.astype(np.float32), settings(format=version), "std", z_step_um=0.3)
    write_ome_xml(folder, "<OME/>")
    validate(folder)
    for path in (folder, folder / "std"):
        location = parse_url(path)
        assert location is not None
        node, *_ = Reader(location)()
        assert len(node.data) == 3
        np.testing.assert_array_equal(node.data[0].compute(), array)
        assert node.metadata["channel_names"] == ["channel 0", "channel 1"]


def test_windows_show_the_bulk_of_the_pixels(tmp_path: Path) -> None:
    array = np.full((1, 2, 1, 64, 64), 500, np.uint16)
    array[0, 1] = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    fill(tmp_path / "a", array, settings())
    (flat_low, flat_high), (low, high) = display_windows(tmp_path / "a")
    assert (flat_low, flat_high) == (500.0, 501.0)
    assert 0 < low < 150
    assert 3950 < high < 4096
    nothing = np.full((1, 1, 1, 32, 32), np.nan, np.float32)
    fill(tmp_path / "b", nothing, settings())
    assert display_windows(tmp_path / "b") == ((0.0, 1.0),)


def test_a_few_bright_spots_on_nothing_are_not_all_white(tmp_path: Path) -> None:
    array = np.zeros((1, 1, 1, 256, 256), np.uint16)
    array[..., 128:130, 64:66] = 4000
    array[..., 40:44, 200:204] = 90
    fill(tmp_path / "a", array, settings(chunk=128, shard=128))
    ((low, high),) = display_windows(tmp_path / "a")
    assert (low, high) == (0.0, 4000.0)
