import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cvdm_core.quality.resolution import BandPower, central_square, ring_correlation


def specimen(edge=256, seed=0):
    rng = np.random.default_rng(seed)
    return gaussian_filter((rng.random((edge, edge)) > 0.995) * 1000.0, 0.7)


@pytest.mark.parametrize(("sigma", "noise"), [(2.0, 0.05), (1.5, 0.2), (3.0, 0.02)])
def test_resolution_of_blurred_noise_is_what_theory_says(sigma, noise):
    """The correlation is M/sqrt(M² + n²) with the transfer function M = exp(-2π²σ²f²); it is 1/7 where M = n/sqrt(48)."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(512, 512))
    image = gaussian_filter(truth, sigma, mode="wrap", truncate=8) + noise * rng.normal(size=truth.shape)
    frequency = math.sqrt(math.log(math.sqrt(48) / noise) / (2 * math.pi**2 * sigma**2))
    assert ring_correlation(image, truth, pixel_size_um=0.05).resolution_um == pytest.approx(0.05 / frequency, rel=0.03)


@pytest.mark.parametrize(("sigma", "expected"), [(1.0, 0.133393), (2.0, 0.241709), (3.0, 0.348034)])
def test_resolution_has_its_golden_value(sigma, expected):
    """Fixed with cubic 0.8.0: a new version that changes these numbers changes every table."""
    truth = specimen()
    image = gaussian_filter(truth, sigma) + 10 * np.random.default_rng(2).normal(size=truth.shape)
    assert ring_correlation(image, truth, 0.05).resolution_um == pytest.approx(expected, rel=1e-4)


def test_resolution_does_not_depend_on_gain_and_offset():
    truth = specimen()
    image = gaussian_filter(truth, 2) + np.random.default_rng(2).normal(size=truth.shape)
    one, other = ring_correlation(image, truth, 0.05), ring_correlation(7 * image + 1000, truth, 0.05)
    assert other.resolution_um == pytest.approx(one.resolution_um, rel=1e-5)


def test_a_curve_that_never_crosses_has_no_resolution():
    truth = specimen()
    curve = ring_correlation(truth, truth, 0.05)
    assert math.isnan(curve.resolution_um)
    assert curve.correlation[1:] == pytest.approx(1, abs=1e-6)
    assert curve.frequency[-1] == pytest.approx(10, rel=0.01)


def test_an_image_without_contrast_has_no_curve():
    with pytest.raises(ValueError, match="without contrast"):
        ring_correlation(np.ones((64, 64)), specimen(64), 0.05)


def test_the_crop_is_central_square_and_bounded():
    assert central_square((3000, 2000)) == (slice(988, 2012), slice(488, 1512))
    y, x = central_square((101, 77))
    assert y.stop - y.start == x.stop - x.start == 76
    assert y.start == 12


def test_white_noise_has_its_variance_as_power_density():
    power = BandPower()
    power.add(5 + 3 * np.random.default_rng(0).normal(size=(700, 520)))
    assert power.power == pytest.approx(9, rel=0.02)


def test_blur_lowers_the_power_by_the_transfer_function():
    noise = np.random.default_rng(0).normal(size=(1024, 1024))
    plain, blurred = BandPower(0.2, 0.205), BandPower(0.2, 0.205)
    plain.add(noise)
    blurred.add(gaussian_filter(noise, 1.0, mode="wrap", truncate=8))
    assert blurred.power / plain.power == pytest.approx(math.exp(-((2 * math.pi * 0.2025) ** 2)), rel=0.03)


def test_power_of_blocks_is_the_power_of_the_whole():
    image = np.random.default_rng(0).normal(size=(512, 768))
    whole, blocks = BandPower(), BandPower()
    whole.add(image)
    for part in (image[:256], image[256:]):
        blocks.add(part)
    assert blocks.power == pytest.approx(whole.power, rel=1e-6)


def test_no_blocks_have_no_power():
    assert math.isnan(BandPower().power)
