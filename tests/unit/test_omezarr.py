"""Stores: whole shards with the right pixels, created once, checksums of what was written."""

from __future__ import annotations

import multiprocessing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_tree import digests, fill, info, pixels, settings

from cvdm_core.errors import UserError
from cvdm_core.files import checksum
from cvdm_core.images.layout import read_layout
from cvdm_core.images.omezarr import create_image, write_region
from cvdm_core.images.omezarr_metadata import display_windows, write_metadata
from cvdm_core.images.pyramid import pyramid
from cvdm_core.images.pyramid_writer import PyramidWriter, nested
from cvdm_core.images.tiles import Shard, shards

FORMATS = ("0.5", "0.4")
SHAPE = (2, 2, 2, 40, 35)


@pytest.mark.parametrize("compressor", ["zstd", "lz4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("version", FORMATS)
def test_zarr_reads_back_every_level_bit_for_bit(tmp_path: Path, version: str, dtype: str, compressor: str) -> None:
    array = pixels((1, 1, 2, 71, 37), dtype)
    fill(tmp_path / "a", array, settings(format=version, compressor=compressor))
    count = read_layout(tmp_path / "a").levels
    assert count == 4
    for level in range(count):
        stored = zarr.open_array(tmp_path / "a" / str(level), mode="r")
        assert stored.dtype == np.dtype(dtype)
        for z in range(2):
            np.testing.assert_array_equal(stored[0, 0, z], list(pyramid(array[0, 0, z], count))[level])


@pytest.mark.parametrize("version", FORMATS)
def test_the_sheets_five_axes_keep_their_places(tmp_path: Path, version: str) -> None:
    array = pixels(SHAPE)
    fill(tmp_path / "a", array, settings(format=version))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a" / "0", mode="r")[:], array)


@pytest.mark.parametrize("version", FORMATS)
@hypothesis_settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 150), columns=st.integers(1, 150), shard=st.sampled_from([16, 32, 64]), seed=st.integers(0, 9))
def test_shards_in_any_order_make_every_file_of_every_level_once(
    tmp_path_factory: pytest.TempPathFactory, version: str, rows: int, columns: int, shard: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store") / "a"
    array = pixels((1, 1, 1, rows, columns))
    create_image(folder, array.shape, "uint16", settings(format=version, shard=shard))
    writer, files = PyramidWriter(folder), []
    pieces = list(shards(array.shape, shard))
    for number in np.random.default_rng(seed).permutation(len(pieces)):
        files += writer.write(pieces[number], array[0, 0, 0, pieces[number].y, pieces[number].x])
    assert len(set(files)) == len(files)
    found = digests(folder)
    assert set(files) == {name for name in found if not name.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs"))}
    for level, expected in enumerate(pyramid(array[0, 0, 0], read_layout(folder).levels)):
        np.testing.assert_array_equal(zarr.open_array(folder / str(level), mode="r")[0, 0, 0], expected)


@given(rows=st.integers(1, 700), columns=st.integers(1, 700), planes=st.integers(1, 3))
def test_nested_order_keeps_one_shard_a_level_open(rows: int, columns: int, planes: int) -> None:
    shape = (planes, 1, 1, rows, columns)
    order = list(nested(shape, 32))
    assert sorted(piece.index for piece in order) == [piece.index for piece in shards(shape, 32)]
    for level in range(1, 5):
        owners = [(piece.t, piece.y.start // 32 >> level, piece.x.start // 32 >> level) for piece in order]
        changes = sum(one != other for one, other in pairwise(owners))
        assert changes == len(set(owners)) - 1  # whoever is left is complete


@pytest.mark.parametrize("version", FORMATS)
def test_receipts_get_the_checksums_of_what_was_written(tmp_path: Path, version: str) -> None:
    array = pixels((1, 1, 1, 60, 60))
    create_image(tmp_path / "a", array.shape, "uint16", settings(format=version))
    create_image(tmp_path / "a", array.shape, "uint16", settings(format=version), "std")
    shard = shards(array.shape, 32)[3]
    written = write_region(tmp_path / "a", shard, array[0, 0, 0, shard.y, shard.x], "std")
    assert written
    assert all(name.startswith("std/") for name in written)
    assert {name: digest for name, (_, digest) in written.items()} == {
        name: checksum((tmp_path / "a" / name).read_bytes()) for name in written
    }
    assert all((tmp_path / "a" / name).stat().st_size == size for name, (size, _) in written.items())


def test_a_pyramid_built_afterwards_has_the_same_bytes(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 101, 67), "float32")
    at_once, later = tmp_path / "at_once", tmp_path / "later"
    for folder in (at_once, later):
        create_image(folder, array.shape, "float32", settings())
    whole, above = PyramidWriter(at_once), PyramidWriter(later)
    for shard in shards(array.shape, 32):
        plane = array[0, 0, 0, shard.y, shard.x]
        whole.write(shard, plane)
        assert all(name.startswith("0/") for name in write_region(later, shard, plane))
        assert all(not name.startswith("0/") for name in above.add(shard, plane))
    assert digests(at_once) == digests(later)


def test_several_shards_at_once_have_the_same_bytes_as_one_by_one(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 101, 67))
    fill(tmp_path / "one", array, settings())
    create_image(tmp_path / "all", array.shape, "uint16", settings())
    PyramidWriter(tmp_path / "all").write(Shard(0, 0, 0, 0, slice(0, 101), slice(0, 67)), array[0, 0, 0])
    write_metadata(tmp_path / "all", "", info(windows=display_windows(tmp_path / "all")))
    assert digests(tmp_path / "one") == digests(tmp_path / "all")


@pytest.mark.parametrize(
    ("y", "x"),
    [((0, 31), (0, 32)), ((1, 32), (0, 32)), ((16, 48), (0, 32)), ((0, 32), (64, 66)), ((0, 32), (64, 96)), ((0, 0), (0, 32))],
)
def test_parts_of_shards_are_refused(tmp_path: Path, y: tuple[int, int], x: tuple[int, int]) -> None:
    create_image(tmp_path / "a", (1, 1, 1, 101, 67), "uint16", settings())
    region = Shard(0, 0, 0, 0, slice(*y), slice(*x))
    with pytest.raises(ValueError, match="whole shards"):
        write_region(tmp_path / "a", region, np.zeros(region.shape, np.uint16))


def test_other_shapes_types_and_places_are_refused(tmp_path: Path) -> None:
    create_image(tmp_path / "a", (1, 1, 1, 101, 67), "uint16", settings())
    region = shards((1, 1, 1, 101, 67), 32)[0]
    with pytest.raises(ValueError, match="cannot be filled"):
        write_region(tmp_path / "a", region, np.zeros((32, 31), np.uint16))
    with pytest.raises(ValueError, match="cannot be filled"):
        write_region(tmp_path / "a", region, np.zeros((32, 32), np.float32))
    with pytest.raises(ValueError, match="outside"):
        write_region(tmp_path / "a", Shard(0, 1, 0, 0, region.y, region.x), np.zeros((32, 32), np.uint16))


def test_what_was_not_written_is_nan_in_floats(tmp_path: Path) -> None:
    create_image(tmp_path / "a", (1, 1, 1, 101, 67), "float32", settings())
    assert np.isnan(zarr.open_array(tmp_path / "a" / "0", mode="r")[:]).all()


def test_stored_zeros_are_files(tmp_path: Path) -> None:
    create_image(tmp_path / "a", (1, 1, 1, 32, 32), "uint16", settings())
    assert set(write_region(tmp_path / "a", shards((1, 1, 1, 32, 32), 32)[0], np.zeros((32, 32), np.uint16))) <= set(
        digests(tmp_path / "a")
    )


def test_every_changed_byte_of_a_shard_is_noticed_by_a_reader(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 32, 32))
    create_image(tmp_path / "a", array.shape, "uint16", settings())
    write_region(tmp_path / "a", shards(array.shape, 32)[0], array[0, 0, 0])
    file = tmp_path / "a" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    whole = file.read_bytes()
    for position in range(0, len(whole), 97):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            zarr.open_array(tmp_path / "a" / "0", mode="r")[:]


def test_a_damaged_shard_can_be_written_again(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 32, 32))
    fill(tmp_path / "a", array, settings())
    before = digests(tmp_path / "a")
    (tmp_path / "a" / "0" / "c" / "0" / "0" / "0" / "0" / "0").write_bytes(b"damaged")
    write_region(tmp_path / "a", shards(array.shape, 32)[0], array[0, 0, 0])
    assert digests(tmp_path / "a") == before


def _create(folder: str, barrier: Any, name: str) -> None:
    barrier.wait()
    create_image(Path(folder), (1, 1, 1, 101, 67), "uint16", settings(), name)


@pytest.mark.parametrize("version", FORMATS)
def test_creating_twice_changes_nothing_and_another_kind_is_refused(tmp_path: Path, version: str) -> None:
    for name in ("", "std"):
        create_image(tmp_path / "a", (1, 1, 1, 101, 67), "uint16", settings(format=version), name)
        before = digests(tmp_path / "a")
        create_image(tmp_path / "a", (1, 1, 1, 101, 67), "uint16", settings(format=version), name)
        assert digests(tmp_path / "a") == before
        others: list[tuple[Any, str, dict[str, Any]]] = [
            ((1, 1, 1, 101, 68), "uint16", {}), ((1, 1, 1, 101, 67), "float32", {}), ((1, 1, 1, 101, 67), "uint16", {"shard": 64}),
            ((1, 1, 1, 101, 67), "uint16", {"compressor": "lz4"}),
            ((1, 1, 1, 101, 67), "uint16", {"format": "0.4" if version == "0.5" else "0.5"}),
        ]  # fmt: skip
        for shape, dtype, changes in others:
            with pytest.raises(UserError, match="another shape, type or layout"):
                create_image(tmp_path / "a", shape, dtype, settings(**{"format": version} | changes), name)
        assert digests(tmp_path / "a") == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_two_processes_may_create_the_same_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    create_image(tmp_path / "alone", (1, 1, 1, 101, 67), "uint16", settings())
    create_image(tmp_path / "alone", (1, 1, 1, 101, 67), "uint16", settings(), "std")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_create_both, args=(str(tmp_path / "both"), barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert digests(tmp_path / "both") == digests(tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "both"]


def _create_both(folder: str, barrier: Any) -> None:
    _create(folder, barrier, "")
    _create(folder, barrier, "std")


def test_types_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    for dtype in ("complex64", "bool", "int64"):
        with pytest.raises(UserError, match=dtype):
            create_image(tmp_path / "a", (1, 1, 1, 32, 32), dtype, settings())
    assert not list(tmp_path.iterdir())
