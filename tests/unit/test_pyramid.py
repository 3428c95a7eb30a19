"""The pyramid: exact means, and the number of levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_tree import pixels

from cvdm_core.images.pyramid import BAND_BYTES, levels, pyramid


def pyramid_oracle(plane: np.ndarray, level: int) -> np.ndarray:
    """The mean of 2^k x 2^k pixels in one go, in whole numbers where the pixels are whole."""
    edge = 2**level
    rows, columns = plane.shape[0] // edge, plane.shape[1] // edge
    cut = plane[: rows * edge, : columns * edge].reshape(rows, edge, columns, edge)
    if plane.dtype.kind == "f":
        return cut.astype(np.float64).mean((1, 3))
    sums = cut.astype(np.int64).sum((1, 3))
    return (2 * sums + edge**2) // (2 * edge**2)


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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_a_plane_of_many_bands_that_lies_apart_in_memory_gives_the_same_numbers(dtype: str) -> None:
    """For floats the order of the additions is part of the claim: rows first, in float64."""
    wide = pixels((1031, 2 * 1501), dtype, 7)
    plane = wide[:, ::2]
    assert plane.shape[1] * 4 * plane.shape[0] > 8 * BAND_BYTES
    one, two = list(pyramid(plane, 3))[1:]
    if dtype == "float32":
        rows = plane[:1030:2, :1500].astype(np.float64) + plane[1:1030:2, :1500]
        sums = (rows[:, ::2] + rows[:, 1::2]) * 0.25
        np.testing.assert_array_equal(one, sums.astype(np.float32))
    else:
        np.testing.assert_array_equal(one, pyramid_oracle(plane, 1))
        np.testing.assert_array_equal(two, pyramid_oracle(plane, 2))


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
