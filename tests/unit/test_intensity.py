"""Claims about intensities: normalisation and the one way onto the target grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvdm_core.images.intensity import UPSAMPLE_REACH, Normalisation, input_window, upsample


def picture(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65535, shape).astype(np.uint16)


def test_normalisation_comes_back():
    values = picture((5, 7))
    there = Normalisation(offset=117.3, scale=412.9)
    assert there.to_model(values).dtype == np.float32
    np.testing.assert_allclose(there.from_model(there.to_model(values)), values, rtol=1e-6, atol=0.02)
    np.testing.assert_allclose(there.to_model(np.array([117.3, 117.3 + 412.9])), [0, 1], atol=1e-6)


@pytest.mark.parametrize(("offset", "scale"), [(0, 0), (0, -1), (np.nan, 1), (0, np.inf)])
def test_a_normalisation_without_inverse_is_refused(offset, scale):
    with pytest.raises(ValueError, match="invertible"):
        Normalisation(offset, scale)


def test_scale_one_returns_the_input():
    values = picture((2, 9, 8))
    np.testing.assert_array_equal(upsample(values, 1), values.astype(np.float32))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_centres_lie_half_a_pixel_in(scale):
    ramp = np.arange(40, dtype=np.float32)
    expected = (np.arange(40 * scale) + 0.5) / scale - 0.5
    inner = slice(UPSAMPLE_REACH * scale, -UPSAMPLE_REACH * scale)
    result = upsample(np.broadcast_to(ramp, (6, 40)), scale)
    np.testing.assert_allclose(result[:, inner], np.broadcast_to(expected[inner], (6 * scale, len(expected[inner]))), atol=1e-5)
    np.testing.assert_allclose(upsample(np.broadcast_to(ramp[:, None] ** 2, (40, 6)), scale)[inner, 3], expected[inner] ** 2, atol=2e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_interior_equals_pillow_bicubic(scale):
    values = picture((24, 31)).astype(np.float32)
    oracle = np.asarray(Image.fromarray(values).resize((31 * scale, 24 * scale), Image.Resampling.BICUBIC))
    inner = (slice(UPSAMPLE_REACH * scale, -UPSAMPLE_REACH * scale),) * 2
    np.testing.assert_allclose(upsample(values, scale)[inner], oracle[inner], atol=0.05)


def test_a_constant_stays_constant_up_to_the_border():
    np.testing.assert_allclose(upsample(np.full((4, 5), 40000, np.uint16), 2), 40000, rtol=3e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 23), st.integers(1, 23), st.data())
def test_a_window_with_its_context_equals_the_whole_bit_for_bit(scale, rows, columns, data):
    whole = picture((2, rows, columns), seed=rows * 100 + columns)
    slices = []
    for length in (rows, columns):
        first = data.draw(st.integers(0, length - 1))
        slices.append(slice(first * scale, data.draw(st.integers(first + 1, length)) * scale))
    (wy, iy), (wx, ix) = (input_window(region, scale, length) for region, length in zip(slices, (rows, columns), strict=True))
    assert wy.stop - wy.start <= (slices[0].stop - slices[0].start) // scale + 2 * UPSAMPLE_REACH
    np.testing.assert_array_equal(upsample(whole[:, wy, wx], scale)[:, iy, ix], upsample(whole, scale)[:, slices[0], slices[1]])


@pytest.mark.parametrize("scale", range(2, 9))
def test_flipping_before_or_after_gives_the_same_bits(scale):
    values = picture((11, 12))
    np.testing.assert_array_equal(upsample(values[::-1], scale), upsample(values, scale)[::-1])
    np.testing.assert_array_equal(upsample(values[:, ::-1], scale), upsample(values, scale)[:, ::-1])


def test_regions_on_half_input_pixels_are_refused():
    with pytest.raises(ValueError, match="whole input pixels"):
        input_window(slice(1, 4), 2, 10)
