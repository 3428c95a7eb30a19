from types import SimpleNamespace

import numpy as np
import pytest

from cvdm_core.images.intensity import upsample
from cvdm_core.quality.baseline import deconvolve
from cvdm_core.quality.planes import Plane, Scratch, Upsampled, blocks, grid_step, inside, thin, with_halo
from cvdm_core.sheet import Acquisition

PLANE = Plane(0, 0, 0)


class Array:
    """An image in memory, where the program has one in a store."""

    def __init__(self, pixels):
        self.pixels, self.shape = pixels, pixels.shape

    def read(self, plane, y, x):
        return self.pixels[y, x].astype(np.float32)


@pytest.mark.parametrize("shape", [(100, 40), (1024, 1030), (2048, 2500), (3000, 1281)])
def test_blocks_cover_each_pixel_once_and_begin_where_ms_ssim_needs(shape):
    seen = np.zeros(shape, int)
    for y, x in blocks(shape):
        assert y.start % 16 == x.start % 16 == 0
        seen[y, x] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_upsampled_input_is_the_same_in_any_piece(scale):
    pixels = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    source, whole = Upsampled(SimpleNamespace(shape=pixels.shape, read=Array(pixels).read), scale), upsample(pixels, scale)
    for y, x in ((slice(0, 7), slice(5, 30)), (slice(4, 20), slice(1, 8))):
        assert np.array_equal(source.read(PLANE, y, x), whole[y, x])


def test_thinning_takes_the_same_pixels_from_any_blocks():
    pixels = np.arange(101 * 67).reshape(101, 67)
    step = grid_step(pixels.size, 500)
    assert pixels[::step, ::step].size <= 600
    thinned = np.concatenate([pixels[block][thin(block, step)].ravel() for block in blocks(pixels.shape, 30)])
    assert sorted(thinned) == sorted(pixels[::step, ::step].ravel())


def test_a_block_is_found_again_in_its_region():
    pixels = np.arange(50 * 60).reshape(50, 60)
    block = slice(0, 20), slice(30, 60)
    region = with_halo(block, 7, pixels.shape)
    assert region == (slice(0, 27), slice(23, 60))
    assert np.array_equal(pixels[region][inside(block, region)], pixels[block])


def test_scratch_gives_back_what_was_written(tmp_path):
    planes = [PLANE, Plane(0, 0, 1)]
    scratch = Scratch(tmp_path / "scratch", planes, (6, 8))
    pixels = np.random.default_rng(0).random((3, 8)).astype(np.float32)
    scratch.write(planes[1], slice(3, 6), slice(0, 8), pixels)
    assert np.array_equal(scratch.read(planes[1], slice(3, 6), slice(0, 8)), pixels)
    assert not scratch.read(planes[0], slice(0, 6), slice(0, 8)).any()


def test_the_deconvolved_input_keeps_its_camera_units(tmp_path):
    raw = Array(np.random.default_rng(0).poisson(80, (64, 64)) + 500)
    row = Acquisition(acquisition="a", specimen="s", split="test", input="a.tif", na=0.9, emission_nm=(520.0,))
    result = deconvolve(raw, raw, row, 0, [PLANE], 3, raw.shape, (0.1, 0.1), tmp_path)
    pixels = result.read(PLANE, slice(0, 64), slice(0, 64))
    assert pixels.mean() == pytest.approx(raw.pixels.mean(), rel=0.02)
    assert deconvolve(raw, raw, row.model_copy(update={"na": None}), 0, [PLANE], 3, raw.shape, (0.1, 0.1), tmp_path) is None
