import math

import numpy as np
import pytest
from cubic.metrics.ms_ssim import ms_ssim as cubic_ms_ssim
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cvdm_core.quality.reference import MS_SSIM_SHORTEST, STRUCTURE_HALO, Moments, Structure, TruthBlock, exact_quantiles, nrmse, psnr


def pair(shape, seed=0, offset=100.0):
    rng = np.random.default_rng(seed)
    truth = offset + 50 * np.cumsum(np.cumsum(rng.normal(size=shape), 0), 1) / math.sqrt(shape[0] * shape[1])
    return (0.7 * truth + 30 + 12 * rng.normal(size=shape)).astype(np.float32), truth.astype(np.float32)


def moments_of(image, truth, pieces=1):
    moments = Moments()
    for a, b in zip(np.array_split(image, pieces), np.array_split(truth, pieces), strict=True):
        moments.add(a, b)
    return moments


def whole(image, truth, data_range):
    structure = Structure(truth.shape, data_range)
    y, x = (slice(0, size) for size in truth.shape)
    structure.add(image, TruthBlock(truth, y, x, (0, 0), truth.shape, structure.scales))
    return structure


def test_psnr_and_mse_equal_scikit_image():
    image, truth = pair((90, 70))
    moments = moments_of(image, truth, pieces=7)
    expected = peak_signal_noise_ratio(truth.astype(float), image.astype(float), data_range=200)
    assert psnr(moments.mse, 200) == pytest.approx(expected, abs=1e-9)


def test_fitted_error_is_that_of_the_least_squares_line():
    image, truth = pair((90, 70))
    slope, intercept = np.polyfit(image.ravel().astype(float), truth.ravel(), 1)
    moments = moments_of(image, truth, pieces=4)
    assert moments.fit == pytest.approx((slope, intercept), rel=1e-6)
    assert moments.fitted_mse == pytest.approx(np.mean((slope * image.astype(float) + intercept - truth) ** 2), rel=1e-9)
    assert nrmse(moments.fitted_mse, 10) == pytest.approx(math.sqrt(moments.fitted_mse) / 10)


def test_scale_and_offset_of_the_image_do_not_change_the_fitted_error():
    image, truth = pair((64, 64))
    assert moments_of(3 * image.astype(float) - 500, truth).fitted_mse == pytest.approx(moments_of(image, truth).fitted_mse, rel=1e-9)


def test_a_large_camera_offset_costs_no_precision():
    image, truth = pair((64, 64))
    near = moments_of(image.astype(float), truth.astype(float), 5)
    far = moments_of(image.astype(float) + 1e7, truth.astype(float) + 1e7, 5)
    assert far.fitted_mse == pytest.approx(near.fitted_mse, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(pieces=st.integers(1, 30), seed=st.integers(0, 9))
def test_moments_do_not_depend_on_the_blocks(pieces, seed):
    image, truth = pair((31, 17), seed)
    one, many = moments_of(image, truth), moments_of(image, truth, pieces)
    assert (many.mse, many.fitted_mse, many.pearson) == pytest.approx((one.mse, one.fitted_mse, one.pearson), rel=1e-10)


def test_identical_images_have_infinite_psnr_and_a_constant_fits_to_the_mean():
    _, truth = pair((32, 32))
    assert psnr(moments_of(truth, truth).mse, 1) == math.inf
    constant = moments_of(np.zeros_like(truth), truth)
    assert constant.fit == pytest.approx((0, truth.mean(dtype=float)))
    assert constant.fitted_mse == pytest.approx(truth.var(dtype=float))
    assert math.isnan(constant.pearson)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40), st.integers(1, 5))
def test_quantiles_are_exact_for_any_numbers_and_any_cut(values, pieces):
    array = np.array(values, np.float32)
    quantiles = [0, 0.001, 0.3, 0.5, 0.999, 1]
    expected = np.quantile(array.astype(np.float64), quantiles)
    assert exact_quantiles(lambda: np.array_split(array, pieces), quantiles) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_quantiles_of_counts_are_exact():
    counts = np.random.default_rng(0).poisson(3000, (200, 100)).astype(np.uint16)
    assert exact_quantiles(lambda: [counts[:77], counts[77:]], [0.001, 0.999]) == pytest.approx(np.quantile(counts, [0.001, 0.999]))


def test_quantiles_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no pixels"):
        exact_quantiles(lambda: [], [0.5])


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (11, 11)])
def test_ssim_equals_scikit_image(shape):
    image, truth = pair(shape)
    expected = structural_similarity(
        truth.astype(float), image.astype(float), data_range=180, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert whole(image, truth, 180).ssim == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("shape", "edge"), [((400, 352), 192), ((301, 275), 128), ((200, 530), 176)])
def test_blockwise_structure_equals_the_whole_image(shape, edge):
    image, truth = pair(shape)
    expected, gathered = whole(image, truth, 180), Structure(shape, 180)
    for y0 in range(0, shape[0], edge):
        for x0 in range(0, shape[1], edge):
            y, x = (slice(first, min(first + edge, size)) for first, size in zip((y0, x0), shape, strict=True))
            origin = tuple(max(part.start - STRUCTURE_HALO, 0) for part in (y, x))
            region = tuple(
                slice(first, min(part.stop + STRUCTURE_HALO, size)) for first, part, size in zip(origin, (y, x), shape, strict=True)
            )
            gathered.add(image[region], TruthBlock(truth[region], y, x, origin, shape, gathered.scales))
    assert gathered.ssim == pytest.approx(expected.ssim, abs=1e-12)
    assert gathered.ms_ssim == pytest.approx(expected.ms_ssim, abs=1e-12)


def test_ms_ssim_agrees_with_cubic_but_for_the_border():
    image, truth = pair((512, 512))
    expected = cubic_ms_ssim(truth.astype(float), image.astype(float), data_range=180)
    assert whole(image, truth, 180).ms_ssim == pytest.approx(expected, abs=5e-3)


def test_identical_images_have_ssim_one():
    _, truth = pair((MS_SSIM_SHORTEST, MS_SSIM_SHORTEST))
    structure = whole(truth, truth, 180)
    assert (structure.ssim, structure.ms_ssim) == pytest.approx((1, 1))


def test_planes_that_are_too_small_have_no_ssim():
    image, truth = pair((10, 300))
    assert math.isnan(whole(image, truth, 180).ssim)
    image, truth = pair((MS_SSIM_SHORTEST - 1, 300))
    assert math.isnan(whole(image, truth, 180).ms_ssim)
    assert not math.isnan(whole(image, truth, 180).ssim)
