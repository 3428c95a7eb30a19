"""TIFF files come in with their pixels and axes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_dialects import DIALECTS, read_all, write

from cvdm_core.errors import UserError
from cvdm_core.images import tiff
from cvdm_core.images.tiff import TiffPlanes, open_planes, read_header

ZOO = Path(os.environ.get("CVDM_REAL_DATA", "../shared/data")) / "tiff_zoo"
REUSE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_comes_in_with_its_pixels(tmp_path: Path, dialect: str) -> None:
    expected = write(tmp_path / "a.tif", dialect)
    with open_planes(tmp_path / "a.tif") as planes:
        planes.check_complete()
        assert planes.header.shape == expected.shape
        assert planes.header.dtype == expected.dtype and planes.header.dtype.isnative
        np.testing.assert_array_equal(read_all(planes), expected)


@pytest.mark.parametrize("dialect", ["tiles", "tiles, lzw", "strips, zstd", "strips", "imagej", "rgb", "big-endian"])
@REUSE
@given(data=st.data())
def test_any_region_equals_that_part_of_the_whole(tmp_path: Path, dialect: str, data: st.DataObject) -> None:
    expected = write(tmp_path / "a.tif", dialect)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in expected.shape[3:]]
    t, c, z = (data.draw(st.integers(0, size - 1)) for size in expected.shape[:3])
    y, x = (slice(*bound) for bound in bounds)
    with open_planes(tmp_path / "a.tif") as planes:
        np.testing.assert_array_equal(planes.read(t, c, z, y, x), expected[t, c, z, y, x])


def test_a_region_reads_only_the_tiles_that_it_touches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", "tiles, lzw")
    with open_planes(tmp_path / "a.tif") as planes:
        reads: list[int] = []
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda *args: reads.append(args[1]) or pread(*args))
        planes.read(0, 0, 0, slice(20, 40), slice(0, 16))
        assert len(reads) == 2
        planes.read(0, 0, 0, slice(20, 40), slice(0, 17))
        assert len(reads) == 4  # two more tiles; the first two were kept
        for number in range(2):
            planes.read(0, 0, 0, slice(0, 16), slice(0, 16))
            assert len(reads) == 5 + number  # a tile that a region takes whole is not kept: no other region needs it


def test_of_uncompressed_rows_only_the_wanted_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "BAND_BYTES", 16 * 1000 * 2 - 1)
    tifffile.imwrite(tmp_path / "a.tif", np.arange(40 * 1000, dtype=np.uint16).reshape(40, 1000))
    with open_planes(tmp_path / "a.tif") as planes:
        reads: list[int] = []
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda *args: reads.append(args[1]) or pread(*args))
        planes.read(0, 0, 0, slice(8, 24), slice(100, 164))
        assert sum(reads) == 16 * 64 * 2
        planes.read(0, 0, 0, slice(8, 24), slice(0, 1000))
        assert reads[16:] == [16 * 1000 * 2]  # whole rows in one piece


def test_uncompressed_rows_of_a_narrow_plane_are_read_once_for_all_regions_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.arange(40 * 1000, dtype=np.uint16).reshape(40, 1000)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with open_planes(tmp_path / "a.tif") as planes:
        reads: list[int] = []
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda *args: reads.append(args[1]) or pread(*args))
        for y, x in product((slice(0, 16), slice(16, 40)), (slice(0, 400), slice(400, 800), slice(800, 1000))):
            np.testing.assert_array_equal(planes.read(0, 0, 0, y, x), pixels[y, x])
        assert reads == [16 * 1000 * 2, 24 * 1000 * 2]


@pytest.mark.parametrize(("dialect", "by_rows"), [("tiles", False), ("tiles, lzw", False), ("strips", False), ("strips, zstd", True)])
def test_only_compressed_strips_want_to_be_read_row_by_row(tmp_path: Path, dialect: str, by_rows: bool) -> None:
    write(tmp_path / "a.tif", dialect)
    with open_planes(tmp_path / "a.tif") as planes:
        assert planes.header.by_rows == by_rows


def test_the_header_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tif", "tiles, lzw")

    def refuse(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(TiffPlanes, "read", refuse)
    monkeypatch.setattr(os, "pread", refuse)
    assert read_header(tmp_path / "a.tif").shape == (1, 1, 1, 70, 90)


def test_pages_that_nothing_describes_are_what_the_caller_says(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", "pages")
    assert read_header(tmp_path / "a.tif").shape == (5, 1, 1, 20, 30)
    assert read_header(tmp_path / "a.tif", pages="z").shape == (1, 1, 5, 20, 30)
    assert read_header(tmp_path / "a.tif").undeclared
    write(tmp_path / "b.tif", "imagej")
    assert read_header(tmp_path / "b.tif", pages="z").shape == (2, 3, 4, 20, 30)
    assert not read_header(tmp_path / "b.tif").undeclared


@pytest.mark.real_data
def test_the_zoo_comes_in_with_its_pixels_and_its_damaged_files_with_a_sentence() -> None:
    if not (ZOO / "expected.json").exists():
        pytest.skip(f"there is no {ZOO}; set CVDM_REAL_DATA")
    wrong, incomplete, looped = [], [], []
    for name, expected in json.loads((ZOO / "expected.json").read_text()).items():
        try:
            with open_planes(ZOO / name) as planes:
                planes.check_complete()
                found = read_all(planes)
                positions = [name for name in planes.header.images if re.match("(row|column) ", name)]
            if positions:
                found = _grid(ZOO / name, positions, expected["series"][0])
        except UserError as error:
            if "planes are missing" in str(error):
                incomplete.append(name)
            elif "leads back" in str(error):
                looped.append(name)
            elif expected["status"] == "ok":
                wrong.append(str(error))
            continue
        if expected["status"] != "ok" or _hash(found, expected["series"][0]) != expected["first_series_sha256_c_order_le"]:
            wrong.append(f"{name}: other pixels")
    assert not wrong
    # tifffile takes what it has read of them for all.
    assert looped == [f"corrupt/multipage_{kind}_frame_loop.tiff" for kind in ("multiple", "single")]
    # Both have a position that was left after one of four channels: it is refused, where tifffile fills in zeros.
    folder = "microscope/ndtiff/no_magellan_explore_multi_channel"
    assert incomplete == [f"{folder}/Downsampled_x{factor}/explore_channels_NDTiffStack.tif" for factor in (2, 4)]


def _grid(path: Path, positions: list[str], series: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Put the positions of a Micro-Manager grid where tifffile has them, which fills places never visited with zeros."""
    whole = np.zeros(series["shape"], series["dtype"])
    for number, name in enumerate(positions):
        with open_planes(path, series=number) as planes:
            image = read_all(planes)[0, :, 0]
        whole[tuple(map(int, re.findall(r"\d+", name)))] = np.moveaxis(image, 0, -1) if series["axes"].endswith("S") else image
    return whole


def _hash(image: np.ndarray[Any, Any], series: dict[str, Any]) -> str:
    """Bring (T, C, Z, Y, X) to the axes of the file and hash as expected.json does."""
    if "J" in series["axes"]:
        return hashlib.sha256(image.tobytes()).hexdigest()[:16]
    wanted = ["TCZYX".index({"S": "C", "I": "T", "Q": "T"}.get(axis, axis)) for axis in series["axes"]]
    moved = image.transpose([*sorted(set(range(5)) - set(wanted)), *wanted]).reshape(series["shape"])
    return hashlib.sha256(np.ascontiguousarray(moved, moved.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]
