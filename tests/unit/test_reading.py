"""Reading back: the right pixels at the right places, lazily."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from store_tree import fill, info, pixels, settings

from cvdm_core.errors import DamagedInputError, UserError
from cvdm_core.images import open_image
from cvdm_core.images.layout import read_layout
from cvdm_core.images.omezarr import create_image, write_region
from cvdm_core.images.omezarr_metadata import target_origin_um, write_metadata
from cvdm_core.images.pyramid import pyramid
from cvdm_core.images.tiles import shards

SHAPE = (2, 3, 2, 40, 35)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_an_image_comes_back_with_its_coordinates(tmp_path: Path, version: str) -> None:
    array = pixels(SHAPE)
    fill(tmp_path / "a", array, settings(format=version), z_step_um=0.3, time_step_s=2.5, attributes={"source": "cells.tif"})
    image = open_image(tmp_path / "a")
    assert image.dims == ("t", "c", "z", "y", "x")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image.values, array)
    np.testing.assert_allclose(image.t, [0, 2.5])
    np.testing.assert_allclose(image.z, [0, 0.3])
    np.testing.assert_allclose(image.x, np.arange(35) * 0.1)
    assert [str(name) for name in image.c.values] == ["channel 0", "channel 1", "channel 2"]
    assert [image[axis].attrs.get("units") for axis in "tczyx"] == ["second", None, "micrometer", "micrometer", "micrometer"]
    assert image.attrs["pixel_size_um"] == (0.1, 0.1)
    assert (image.attrs["z_step_um"], image.attrs["time_step_s"]) == (0.3, 2.5)
    assert image.attrs["cvdm"]["source"] == "cells.tif"
    assert len(image.attrs["windows"]) == 3
    np.testing.assert_array_equal(image.sel(c="channel 1").isel(t=1, z=0).values, array[1, 1, 0])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_level_shows_the_same_places_coarser(tmp_path: Path, version: str) -> None:
    array = pixels((1, 1, 1, 101, 67))
    fill(tmp_path / "a", array, settings(format=version))
    finest = open_image(tmp_path / "a")
    for level, plane in enumerate(pyramid(array[0, 0, 0], finest.attrs["levels"])):
        image = open_image(tmp_path / "a", level)
        np.testing.assert_array_equal(image.values[0, 0, 0], plane)
        assert image.attrs["pixel_size_um"] == (0.1 * 2**level,) * 2
        edge = 2**level
        np.testing.assert_allclose(image.y, finest.y.values[: len(plane) * edge].reshape(-1, edge).mean(1))


def test_a_finer_image_lies_over_its_input(tmp_path: Path) -> None:
    fill(tmp_path / "input", pixels((1, 1, 1, 40, 40)), settings())
    origin = target_origin_um((0.05, 0.05), 2)
    fill(tmp_path / "target", pixels((1, 1, 1, 80, 80)), settings(), pixel_size_um=(0.05, 0.05), origin_um=origin)
    coarse, fine = open_image(tmp_path / "input"), open_image(tmp_path / "target")
    assert fine.attrs["pixel_size_um"] == (0.05, 0.05)
    np.testing.assert_allclose(fine.x.values.reshape(-1, 2).mean(1), coarse.x)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_dask_chunk_is_a_shard_and_nothing_is_read_before_it_is_asked_for(tmp_path: Path, version: str) -> None:
    fill(tmp_path / "a", pixels((1, 1, 1, 101, 67)), settings(format=version))
    image = open_image(tmp_path / "a")
    assert isinstance(image.data, da.Array)
    assert image.chunks == ((1,), (1,), (1,), (32, 32, 32, 5), (32, 32, 3))
    assert open_image(tmp_path / "a", 2).chunks == ((1,), (1,), (1,), (25,), (16,))
    shard = shards((1, 1, 1, 101, 67), 32)[0]
    write_region(tmp_path / "a", shard, np.full((32, 32), 7, np.uint16))
    assert (image[0, 0, 0, :32, :32].values == 7).all()


def test_an_integer_image_keeps_its_numbers_and_tells_the_map(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 32, 32))
    intensity_map = {"scale": 0.25, "offset": -3.0}
    fill(tmp_path / "a", array, settings(), attributes={"intensity_map": intensity_map})
    image = open_image(tmp_path / "a")
    np.testing.assert_array_equal(image.values, array)
    assert image.attrs["cvdm"]["intensity_map"] == intensity_map


def test_unknown_steps_count_from_zero_without_a_unit(tmp_path: Path) -> None:
    fill(tmp_path / "a", pixels((3, 1, 2, 40, 40)), settings())
    image = open_image(tmp_path / "a")
    np.testing.assert_array_equal(image.t, [0, 1, 2])
    assert "units" not in image.t.attrs
    assert "units" not in image.z.attrs
    assert not {"z_step_um", "time_step_s"} & set(image.attrs)


def test_images_inside_a_store_have_names(tmp_path: Path) -> None:
    mean, std = pixels((1, 1, 1, 40, 40), "float32", 1), pixels((1, 1, 1, 40, 40), "float32", 2)
    fill(tmp_path / "a", mean, settings())
    fill(tmp_path / "a", std, settings(), "std")
    np.testing.assert_array_equal(open_image(tmp_path / "a").values, mean)
    np.testing.assert_array_equal(open_image(tmp_path / "a", image="std").values, std)


def test_what_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    fill(tmp_path / "a", pixels((1, 1, 1, 40, 40)), settings())
    create_image(tmp_path / "half", (1, 1, 1, 40, 40), "uint16", settings())
    (tmp_path / "file").write_text("x")
    for path, level, image, words in [
        ("a", 9, "", "levels 0 to 2"), ("a", -1, "", "no level -1"), ("a", 0, "std", "no finished OME-Zarr image"),
        ("none", 0, "", "no such OME-Zarr store"), ("file", 0, "", "no such OME-Zarr store"), ("half", 0, "", "no finished OME-Zarr image"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            open_image(tmp_path / path, level, image)
        assert str(tmp_path / path) in str(caught.value)


def test_channel_names_and_windows_must_fit_the_channels(tmp_path: Path) -> None:
    create_image(tmp_path / "a", (1, 2, 1, 32, 32), "uint16", settings())
    with pytest.raises(ValueError, match="2 channels, but 1 names"):
        write_metadata(tmp_path / "a", "", info(1))


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_any_part_can_be_asked_for(tmp_path: Path, version: str) -> None:
    array = pixels(SHAPE)
    image = open_image(fill(tmp_path / "a", array, settings(format=version), grouped=True))
    for index in (
        np.s_[1, 2, 0, 5:38, 30:], np.s_[:, 1, :, 39, 3], np.s_[0, 0, 0, ::3, 1::7], np.s_[0, 0, 0, ::-1, 30:2:-2],
        np.s_[1:1], np.s_[..., 20:20, :], np.s_[0, [2, 0], 0], np.s_[0, 0, 0, [33, 4, 4]], np.s_[-1, -1, -1, -3:, -1],
    ):  # fmt: skip
        np.testing.assert_array_equal(image[index].values, array[index])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_missing_file_is_no_zeros_and_a_damaged_one_is_named(tmp_path: Path, version: str) -> None:
    image = open_image(fill(tmp_path / "a", pixels((1, 1, 1, 80, 80)), settings(format=version)))
    name = read_layout(tmp_path / "a").file_name(0, (0, 0, 0, 1, 1))
    file = tmp_path / "a" / name
    whole = file.read_bytes()
    harms = [b"", whole[:60]] if version == "0.4" else [b"", whole[:60], whole[:40] + bytes([whole[40] ^ 4]) + whole[41:]]
    for content in harms:
        file.write_bytes(content)
        with pytest.raises(DamagedInputError, match=f"{name}: it is damaged"):
            image.compute()
    file.unlink()
    with pytest.raises(DamagedInputError, match=f"{name}: this part of the image is missing"):
        image.compute()
    assert image[0, 0, 0, :16, :16].values.any(), "what lies in other files can be read"


def test_importing_the_room_is_free() -> None:
    """The Snakefile imports `cvdm_core.images.tiles` in every cluster job."""
    code = "import sys, cvdm_core.images.tiles; print(sorted({'zarr', 'xarray', 'dask', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
