"""Reading stored pixels back by hand: the same as zarr-python reads, and strict about what is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from store_tree import fill, pixels, settings

from cvdm_core.errors import UserError
from cvdm_core.images.layout import read_layout
from cvdm_core.images.stored import StoredLevel

FORMATS = ("0.5", "0.4")


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize(("dtype", "compressor"), [("uint16", "zstd"), ("float32", "lz4"), ("uint8", "zstd"), ("int32", "zstd")])
def test_every_region_of_every_level_is_what_zarr_reads(tmp_path: Path, version: str, dtype: str, compressor: str) -> None:
    fill(tmp_path / "a", pixels((1, 2, 2, 101, 67), dtype), settings(format=version, compressor=compressor))
    random = np.random.default_rng(0)
    for level in range(read_layout(tmp_path / "a").levels):
        stored, array = StoredLevel(tmp_path / "a", "", level), zarr.open_array(tmp_path / "a" / str(level), mode="r")
        assert stored.shape == array.shape
        for _ in range(12):
            y, x = (slice(*np.sort(random.choice(size + 1, 2, replace=False)).tolist()) for size in array.shape[3:])
            found = stored.read(0, 1, 1, y, x)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array[0, 1, 1, y, x])


@pytest.mark.parametrize("version", FORMATS)
def test_a_missing_or_cut_off_file_is_named_and_not_filled(tmp_path: Path, version: str) -> None:
    fill(tmp_path / "a", pixels((1, 1, 1, 101, 67)), settings(format=version))
    level = StoredLevel(tmp_path / "a")
    name = read_layout(tmp_path / "a").file_name(0, (0, 0, 0, 1, 0))
    file = tmp_path / "a" / name
    whole = file.read_bytes()
    for content in (b"", whole[:10], whole[:-5]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: it is damaged"):
            level.read(0, 0, 0, slice(0, 101), slice(0, 67))
    file.unlink()
    with pytest.raises(UserError, match=f"{name}: this part of the image is missing"):
        level.read(0, 0, 0, slice(0, 101), slice(0, 67))


def test_every_changed_byte_that_is_read_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path / "a", pixels((1, 1, 1, 32, 32)), settings())
    file = tmp_path / "a" / read_layout(tmp_path / "a").file_name(0, (0, 0, 0, 0, 0))
    whole = file.read_bytes()
    for position in range(0, len(whole), 7):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(UserError, match="is damaged"):
            StoredLevel(tmp_path / "a").read(0, 0, 0, slice(0, 32), slice(0, 32))
