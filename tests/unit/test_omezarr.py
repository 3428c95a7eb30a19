"""Stores: whole shards, an exact pyramid, metadata that other programs read, and nothing published that is not complete."""

from __future__ import annotations

import json
import multiprocessing
import shutil
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
from cvdm_core.images.omezarr import create_image, read_layout, shard_files, write_pyramid, write_region
from cvdm_core.images.omezarr_metadata import display_windows, read_metadata, target_origin_um, write_metadata, write_ome_xml
from cvdm_core.images.publishing import publish, validate
from cvdm_core.images.pyramid import levels, pyramid
from cvdm_core.images.tiles import Shard, shards

FORMATS = ("0.5", "0.4")
SHAPE = (2, 2, 2, 40, 35)


def pyramid_oracle(plane: np.ndarray, level: int) -> np.ndarray:
    """The mean of 2^k x 2^k pixels in one go, in whole numbers where the pixels are whole."""
    edge = 2**level
    rows, columns = plane.shape[0] // edge, plane.shape[1] // edge
    cut = plane[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    if plane.dtype.kind == "f":
        return cut.astype(np.float64).mean((1, 3))
    sums = cut.astype(np.int64).sum((1, 3))
    return (2 * sums + edge**2) // (2 * edge**2)


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


@given(
    rows=st.integers(1, 200),
    columns=st.integers(1, 200),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32"]),
    count=st.integers(1, 6),
)
def test_the_pyramid_is_the_mean_of_whole_squares_rounded_half_up(rows: int, columns: int, dtype: str, count: int) -> None:
    plane = pixels((rows, columns), dtype, rows * 1000 + columns)
    for level, mean in enumerate(pyramid(plane, count)):
        oracle = pyramid_oracle(plane, level)
        assert mean.dtype == plane.dtype
        assert mean.shape == (rows >> level, columns >> level) == oracle.shape
        if dtype == "float32":
            np.testing.assert_allclose(mean, oracle, rtol=1e-6, atol=1e-4)
        else:
            np.testing.assert_array_equal(mean, oracle)


def test_the_pyramid_keeps_the_mean_of_counts() -> None:
    """Truncation would lose 0.4 counts a level."""
    plane = np.random.default_rng(0).poisson(5, (1024, 1024)).astype(np.uint16)
    *_, coarse = pyramid(plane, 5)
    assert abs(coarse.mean() - plane.mean()) < 0.05


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(4, 9), st.integers(0, 3))
def test_levels_end_when_the_plane_fits_a_chunk(rows: int, columns: int, chunk_bits: int, shard_bits: int) -> None:
    chunk, shard = 2**chunk_bits, 2 ** (chunk_bits + shard_bits)
    count = levels((rows, columns), chunk, shard)
    assert min(rows, columns) >> (count - 1) > 0
    assert shard >> (count - 1) > 0
    fits = max(rows, columns) >> (count - 1) <= chunk
    assert fits or min(rows, columns) >> count == 0 or shard >> count == 0
    assert count == 1 or max(rows, columns) >> (count - 2) > chunk


@pytest.mark.parametrize("version", FORMATS)
@hypothesis_settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 150), columns=st.integers(1, 150), shard=st.sampled_from([16, 32, 64]))
def test_every_file_belongs_to_one_shard(
    tmp_path_factory: pytest.TempPathFactory, version: str, rows: int, columns: int, shard: int
) -> None:
    folder = tmp_path_factory.mktemp("store") / "a"
    store = settings(format=version, shard=shard)
    array = pixels((1, 1, 1, rows, columns))
    create_image(folder, array.shape, "uint16", store)
    files: list[str] = []
    for piece in shards(array.shape, shard):
        written = write_region(folder, piece, array[0, 0, 0, piece.y, piece.x])
        named = [name for level in range(read_layout(folder).levels) for name in shard_files(folder, "", piece, level)]
        assert sorted(written) == sorted(named)
        files += named
    assert len(set(files)) == len(files)
    found = digests(folder)
    assert set(files) == {name for name in found if not name.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs"))}
    for level, expected in enumerate(pyramid(array[0, 0, 0], read_layout(folder).levels)):
        np.testing.assert_array_equal(zarr.open_array(folder / str(level), mode="r")[0, 0, 0], expected)


@pytest.mark.parametrize("version", FORMATS)
def test_receipts_get_the_checksums_of_what_was_written(tmp_path: Path, version: str) -> None:
    array = pixels((1, 1, 1, 60, 60))
    create_image(tmp_path / "a", array.shape, "uint16", settings(format=version))
    create_image(tmp_path / "a", array.shape, "uint16", settings(format=version), "std")
    shard = shards(array.shape, 32)[3]
    written = write_region(tmp_path / "a", shard, array[0, 0, 0, shard.y, shard.x], "std")
    found = digests(tmp_path / "a")
    assert written
    assert all(name.startswith("std/") for name in written)
    assert {name: digest for name, (_, digest) in written.items()} == {name: found[name] for name in written}
    assert all((tmp_path / "a" / name).stat().st_size == size for name, (size, _) in written.items())


def test_a_pyramid_built_afterwards_has_the_same_bytes(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 101, 67), "float32")
    at_once, later = tmp_path / "at_once", tmp_path / "later"
    for folder in (at_once, later):
        create_image(folder, array.shape, "float32", settings())
    for shard in shards(array.shape, 32):
        write_region(at_once, shard, array[0, 0, 0, shard.y, shard.x])
        first = write_region(later, shard, array[0, 0, 0, shard.y, shard.x], levels=0)
        assert all(name.startswith("0/") for name in first)
        assert all(not name.startswith("0/") for name in write_pyramid(later, shard))
    assert digests(at_once) == digests(later)


def test_several_shards_at_once_have_the_same_bytes_as_one_by_one(tmp_path: Path) -> None:
    array = pixels((1, 1, 1, 101, 67))
    fill(tmp_path / "one", array, settings())
    create_image(tmp_path / "all", array.shape, "uint16", settings())
    write_region(tmp_path / "all", Shard(0, 0, 0, 0, slice(0, 101), slice(0, 67)), array[0, 0, 0])
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


def _published(tmp_path: Path, version: str) -> tuple[Path, Path]:
    partial, final = tmp_path / "a.ome.zarr.partial", tmp_path / "a.ome.zarr"
    fill(partial, pixels((1, 1, 1, 70, 40)), settings(format=version))
    fill(partial, pixels((1, 1, 1, 70, 40), "float32"), settings(format=version), "std")
    write_ome_xml(partial, "<OME/>")
    return partial, final


@pytest.mark.parametrize("version", FORMATS)
def test_publishing_replaces_the_old_store(tmp_path: Path, version: str) -> None:
    partial, final = _published(tmp_path, version)
    (partial / "0" / "left.123.partial").write_bytes(b"from a killed writer")
    shutil.copytree(partial, final)
    (final / "old").write_text("old")
    publish(partial, final)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert not (final / "old").exists()
    assert not list(final.rglob("*.partial"))
    validate(final)


def _shard(store: Path, level: int = 1) -> Path:
    return sorted(path for path in (store / str(level)).rglob("*") if path.is_file() and path.name.isdecimal())[-1]


def _edit(store: Path, image: str, change: Any) -> None:
    path = store / image / ("zarr.json" if (store / "zarr.json").exists() else ".zattrs")
    content = json.loads(path.read_text())
    inner = content.get("attributes", content)
    change(inner.get("ome", inner)["multiscales"][0])
    path.write_text(json.dumps(content))


def _scale(level: int, axis: int, factor: float) -> Any:
    def change(multiscale: dict[str, Any]) -> None:
        multiscale["datasets"][level]["coordinateTransformations"][0]["scale"][axis] *= factor

    return change


def _scale_all(axis: int, factor: float) -> Any:
    def change(multiscale: dict[str, Any]) -> None:
        for dataset in multiscale["datasets"]:
            dataset["coordinateTransformations"][0]["scale"][axis] *= factor

    return change


def _translate(multiscale: dict[str, Any]) -> None:
    multiscale["datasets"][2]["coordinateTransformations"][1]["translation"][3] = 0.0


def _unit(multiscale: dict[str, Any]) -> None:
    multiscale["axes"][4]["unit"] = "um"


def _forget_level(multiscale: dict[str, Any]) -> None:
    multiscale["datasets"].pop()


def _array_json(store: Path, key: dict[str, str], value: Any) -> None:
    path = store / "1" / ("zarr.json" if (store / "zarr.json").exists() else ".zarray")
    content = json.loads(path.read_text())
    content[key[path.name]] = value(content[key[path.name]])
    path.write_text(json.dumps(content))


SHAPE_KEY = {"zarr.json": "shape", ".zarray": "shape"}
TYPE_KEY = {"zarr.json": "data_type", ".zarray": "dtype"}

FAULTS: dict[str, Any] = {
    "missing shard": lambda store: _shard(store).unlink(),
    "missing shard of a subimage": lambda store: _shard(store / "std").unlink(),
    "empty shard": lambda store: _shard(store, 2).write_bytes(b""),
    "surplus file": lambda store: (store / "1" / "notes.txt").write_text("x"),
    "surplus shard": lambda store: shutil.copy(_shard(store), _shard(store).with_name("77")),
    "no metadata of a level": lambda store: next(
        path for path in (store / "2").iterdir() if path.name in ("zarr.json", ".zarray")
    ).unlink(),
    "unit um": lambda store: _edit(store, "", _unit),
    "scale of a level": lambda store: _edit(store, "", _scale(2, 4, 1.5)),
    "scale of a level in z": lambda store: _edit(store, "std", _scale(2, 2, 2)),
    "negative scale": lambda store: _edit(store, "", _scale_all(2, -1.0)),
    "zero scale": lambda store: _edit(store, "", _scale_all(0, 0.0)),
    "translation": lambda store: _edit(store, "std", _translate),
    "a level not described": lambda store: _edit(store, "", _forget_level),
    "shape of a level": lambda store: _array_json(store, SHAPE_KEY, lambda shape: [*shape[:4], shape[4] + 1]),
    "type of a level": lambda store: _array_json(store, TYPE_KEY, lambda name: name.replace("uint16", "int16").replace("<u2", "<i2")),
    "metadata not written": lambda store: _edit(store, "", lambda multiscale: multiscale.clear()),
}


@pytest.mark.parametrize("version", FORMATS)
def test_a_faulty_store_is_not_published(tmp_path: Path, version: str) -> None:
    good, final = _published(tmp_path, version)
    final.mkdir()
    for name, plant in FAULTS.items():
        partial = tmp_path / "faulty.partial"
        shutil.copytree(good, partial)
        plant(partial)
        with pytest.raises(UserError) as caught:
            publish(partial, final)
        assert str(partial) in str(caught.value), name
        assert not list(final.iterdir()), name
        shutil.rmtree(partial)
    publish(good, final)


def test_a_store_without_ome_metadata_is_not_published(tmp_path: Path) -> None:
    create_image(tmp_path / "a.partial", (1, 1, 1, 32, 32), "uint16", settings())
    write_region(tmp_path / "a.partial", shards((1, 1, 1, 32, 32), 32)[0], np.zeros((32, 32), np.uint16))
    with pytest.raises(UserError, match="no valid OME-Zarr"):
        publish(tmp_path / "a.partial", tmp_path / "a")
    with pytest.raises(UserError, match="not an image that cvdm has written"):
        publish(tmp_path / "nothing.partial", tmp_path / "a")
