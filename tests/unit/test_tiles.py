"""Shards, blocks and tiles: every pixel exactly once, whatever the sizes."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvdm_core.errors import UserError
from cvdm_core.images.tiles import block_shards, n_blocks, padded, shards, tiles, with_halo

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 70), st.integers(1, 70))
strides = st.sampled_from([1, 2, 4, 8])


@given(shapes, st.integers(1, 40), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_blocks_hold_every_pixel_exactly_once_in_the_order_of_the_shards(shape, shard, per_job):
    seen = np.zeros(shape, int)
    numbers = []
    for block in range(n_blocks(shape, shard, per_job)):
        held = block_shards(shape, shard, per_job, block)
        assert 1 <= len(held) <= per_job
        for one in held:
            assert one.shape == (one.y.stop - one.y.start, one.x.stop - one.x.start)
            assert one.y.start % shard == one.x.start % shard == 0
            seen[one.t, one.c, one.z, one.y, one.x] += 1
            numbers.append(one.index)
    assert (seen == 1).all()
    assert numbers == list(range(len(shards(shape, shard))))
    places = [(one.t, one.c, one.z, one.y.start, one.x.start) for one in shards(shape, shard)]
    assert places == sorted(places)


@given(st.integers(1, 60), st.integers(1, 60), strides, st.integers(1, 130), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_tiles_hold_every_pixel_of_a_region_exactly_once_with_their_whole_margin(rows, columns, stride, tile, margin):
    shape = (rows * stride, columns * stride)
    seen = np.zeros(shape, int)
    for one in tiles(shape, tile, margin, stride):
        seen[one.inner] += 1
        assert np.shares_memory(seen[one.inner], seen[one.outer][one.crop])
        assert seen[one.outer][one.crop].shape == seen[one.inner].shape
        for inner, outer, size in zip(one.inner, one.outer, shape, strict=True):
            assert inner.stop - inner.start <= max(tile, stride)
            assert outer.start % stride == outer.stop % stride == inner.start % stride == 0
            assert outer.start <= max(0, inner.start - margin)
            assert outer.stop >= min(size, inner.stop + margin)
    assert (seen == 1).all()
    assert len({tuple(part.stop - part.start for part in one.outer) for one in tiles(shape, tile, margin, stride)}) == 1


def test_regions_of_neighbouring_shards_are_shown_in_tiles_of_one_shape():
    shapes = {tuple(part.stop - part.start for part in one.outer) for edge in (1024, 1088, 1152) for one in tiles((edge, edge), 576, 73, 8)}
    assert shapes == {(656, 656)}


def test_a_region_that_fits_is_one_tile_without_margin():
    (only,) = tiles((1152, 1152), 1152, 64, 8)
    assert only.inner == only.outer == (slice(0, 1152), slice(0, 1152))


@given(st.integers(0, 500), st.integers(1, 300), st.integers(0, 100), st.integers(0, 200), strides)
@settings(max_examples=150, deadline=None)
def test_a_halo_is_aligned_complete_and_never_leaves_the_padded_image(start, length, beyond, halo, stride):
    size = start + length + beyond
    region = with_halo(slice(start, start + length), halo, size, stride)
    assert region.start % stride == region.stop % stride == 0
    assert 0 <= region.start <= max(0, start - halo)
    assert min(size, start + length + halo) <= region.stop <= padded(size, stride) < size + stride
    assert start - region.start < halo + stride
    assert region.stop - (start + length) < halo + stride


def test_counting_the_blocks_of_a_huge_image_is_arithmetic_not_a_walk():
    shape = (1000, 4, 200, 65_536, 65_536)
    begin = time.perf_counter()
    blocks = n_blocks(shape, 1024, 16)
    last = block_shards(shape, 1024, 16, blocks - 1)
    assert time.perf_counter() - begin < 0.01
    assert blocks == 1000 * 4 * 200 * 64 * 64 // 16
    assert (last[-1].t, last[-1].c, last[-1].z, last[-1].y, last[-1].x) == (999, 3, 199, slice(64_512, 65_536), slice(64_512, 65_536))


@pytest.mark.parametrize("block", [-1, 4, 99])
def test_a_block_outside_the_image_is_refused_in_one_sentence(block):
    with pytest.raises(UserError, match=rf"block {block} does not exist.*blocks 0 to 3"):
        block_shards((1, 2, 1, 60, 30), 32, 1, block)


def test_the_snakefile_can_count_blocks_without_importing_anything_heavy():
    code = "import sys; import cvdm_core.images.tiles; print([m for m in ('numpy', 'torch', 'zarr', 'dask') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
