"""Small planes of a stack or a series share files, and nobody who reads them sees a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_tree import config_of, digests, fill, pixels, row_of, settings, write_ome_tiff

from cvdm_core import paths
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.errors import UserError
from cvdm_core.images.layout import MOST_OPEN, Layout, read_layout
from cvdm_core.images.omezarr import create_image, write_region
from cvdm_core.images.pyramid import pyramid
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.stored import StoredLevel
from cvdm_core.images.tiles import shards
from cvdm_core.images.validation import validate

Shape = tuple[int, int, int, int, int]


def layout_of(shape: Shape, shard: int = 1024, chunk: int = 256, **changes: Any) -> Layout:
    return Layout(**{"format": "0.5", "shape": shape, "dtype": np.dtype("uint16"), "chunk": chunk, "shard": shard, "compressor": "zstd",
                     "grouped": True} | changes)  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1, 1, 512, 512), [(1, 1), (1, 1)]),  # a single plane
        ((2000, 1, 1, 512, 512), [(4, 1), (16, 1)]),
        ((1, 3, 50, 512, 512), [(1, 4), (1, 16)]),
        ((1, 3, 5, 512, 512), [(1, 4), (1, 8)]),
        ((9, 2, 5, 512, 512), [(1, 4), (2, 8)]),  # where all of z is in one file, time points follow
        ((9, MOST_OPEN + 1, 5, 512, 512), [(1, 4), (1, 8)]),  # not of many channels: one file of each would be open
        ((1, 1, 50, 600, 300), [(1, 2), (1, 8), (1, 16)]),  # counted in whole chunks
        ((1, 1, 50, 1600, 1600), [(1, 1), (1, 1), (1, 4), (1, 16)]),
        ((1, 1, 50, 20, 2000), [(1, 1), (1, 4), (1, 8), (1, 16)]),  # a plane of two files has them for itself
    ],
)
def test_as_many_planes_share_a_file_as_fill_a_shard(shape: Shape, expected: list[tuple[int, int]]) -> None:
    layout = layout_of(shape)
    assert [layout.planes(level) for level in range(layout.levels)] == expected
    for other in (layout_of(shape, grouped=False), layout_of(shape, format="0.4")):
        assert {other.planes(level) for level in range(other.levels)} == {(1, 1)}


SIZES = st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 7), st.integers(1, 70), st.integers(1, 70))


@hypothesis_settings(max_examples=25, deadline=None)
@given(shape=SIZES, shard=st.sampled_from([16, 32, 64]), version=st.sampled_from(["0.5", "0.4"]), seed=st.integers(0, 9))
def test_every_reader_sees_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, shape: Shape, shard: int, version: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store") / "a"
    array = pixels(shape, seed=seed)
    create_image(folder, shape, "uint16", settings(format=version, shard=shard), grouped=True)
    writer, written = PyramidWriter(folder), {}
    pieces = list(shards(shape, shard))
    for number in np.random.default_rng(seed).permutation(len(pieces)):
        piece = pieces[number]
        more = writer.write(piece, array[piece.t, piece.c, piece.z, piece.y, piece.x])
        assert not written.keys() & more.keys()
        written |= more
    assert written.keys() == {name for name in digests(folder) if not name.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs"))}
    layout = read_layout(folder)
    for level in range(layout.levels):
        assert len([name for name in written if name.startswith(f"{level}/")]) == np.prod(layout.files(level))
        stored = zarr.open_array(folder / str(level), mode="r")[:]
        own, (rows, columns) = StoredLevel(folder, level=level), layout.level_shape(level)[3:]
        for t, c, z in np.ndindex(*shape[:3]):
            expected = list(pyramid(array[t, c, z], layout.levels))[level]
            np.testing.assert_array_equal(stored[t, c, z], expected)
            np.testing.assert_array_equal(
                own.read(t, c, z, slice(rows // 3, rows), slice(columns // 3, columns)), expected[rows // 3 :, columns // 3 :]
            )


@pytest.mark.parametrize("shape", [(1, 3, 40, 30, 30), (40, MOST_OPEN, 1, 30, 30), (40, MOST_OPEN + 1, 3, 30, 30)])
def test_in_the_order_of_a_file_few_files_are_open(tmp_path: Path, shape: Shape) -> None:
    create_image(tmp_path / "a", shape, "uint16", settings(shard=64), grouped=True)
    writer = PyramidWriter(tmp_path / "a")
    most = 0
    for piece in shards(shape, 64):
        writer.write(piece, np.zeros(piece.shape, np.uint16))
        most = max(most, len(writer._open))
    levels = read_layout(tmp_path / "a").levels
    assert 0 < most <= levels * (shape[1] if 1 < shape[1] <= MOST_OPEN and shape[0] > 1 else 1)


def test_faults_in_shared_files_are_found(tmp_path: Path) -> None:
    array = pixels((1, 1, 6, 30, 30))
    store = fill(tmp_path / "a", array, settings(shard=64), grouped=True)
    validate(store)
    first, last = (store / read_layout(store).file_name(0, (0, 0, z, 0, 0)) for z in (0, 1))
    whole = last.read_bytes()
    last.unlink()
    with pytest.raises(UserError, match=r"0/c/0/0/1/0/0 is missing"):
        validate(store)
    last.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"0/c/0/0/1/0/0 is cut off or damaged"):
        validate(store)
    last.write_bytes(first.read_bytes())  # four planes where two belong; the last file may hold more than the image shows
    validate(store)
    first.write_bytes(whole)  # two planes where four belong
    with pytest.raises(UserError, match=r"0/c/0/0/0/0/0 lacks the chunk in row 0 and column 0 of its plane 2"):
        validate(store)
    with pytest.raises(UserError, match=r"0/c/0/0/0/0/0: it is damaged \(a chunk is missing\)"):
        StoredLevel(store).read(0, 0, 2, slice(0, 30), slice(0, 30))
    content = bytearray(whole)
    content[20] ^= 1
    last.write_bytes(content)
    with pytest.raises(UserError, match=r"0/c/0/0/1/0/0: it is damaged \(a checksum does not match\)"):
        StoredLevel(store).read(0, 0, 4, slice(0, 30), slice(0, 30))


def test_nobody_else_may_write_into_shared_files(tmp_path: Path) -> None:
    shape = (1, 1, 6, 30, 30)
    create_image(tmp_path / "a", shape, "uint16", settings(shard=64), grouped=True)
    with pytest.raises(ValueError, match="only PyramidWriter writes such an image"):
        write_region(tmp_path / "a", shards(shape, 64)[0], np.zeros((30, 30), np.uint16))
    with pytest.raises(UserError, match="an image of another shape, type or layout is there already"):
        create_image(tmp_path / "a", shape, "uint16", settings(shard=64))


def test_ingest_lets_the_planes_of_a_stack_share_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = pixels((1, 2, 9, 60, 60))
    config = config_of(tmp_path, row_of("cells", write_ome_tiff(tmp_path / "a.ome.tif", array)), chunk=32, shard=128)
    ingest(config, "cells")
    store = paths.raw_store(config, "cells")
    np.testing.assert_array_equal(zarr.open_array(store / "0", mode="r")[:], array)
    assert len([path for path in (store / "0" / "c").rglob("*") if path.is_file()]) == 2 * 3
    assert len([path for path in (store / "1" / "c").rglob("*") if path.is_file()]) == 2
