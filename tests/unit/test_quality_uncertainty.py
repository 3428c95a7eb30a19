import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cvdm_core.quality.uncertainty import (
    BINS,
    Calibration,
    bin_edges,
    expected_coverage,
    finite_sample_factor,
    neighbours_variance,
    spearman,
)

PIXELS = 120_000


def calibrated(samples, seed=0, distribution="normal"):
    """A perfect sampler: truth and samples are drawn from one posterior, whose width differs from pixel to pixel."""
    rng = np.random.default_rng(seed)
    width = rng.uniform(0.5, 5, PIXELS)
    draw = rng.normal if distribution == "normal" else rng.uniform
    truth, drawn = (draw(size=(count, PIXELS)) * width for count in (1, samples))
    return truth[0], drawn


def gathered(truth, drawn, ddof=0, quantiles=(0.05, 0.95), pieces=3):
    mean, std = drawn.mean(0), drawn.std(0, ddof=ddof)
    lower, upper = np.quantile(drawn, quantiles, axis=0)
    calibration = Calibration(bin_edges(std), finite_sample_factor(len(drawn), ddof))
    for part in np.array_split(np.arange(PIXELS), pieces):
        calibration.add(truth[part], mean[part], std[part], lower[part], upper[part], std[part])
    return calibration


@pytest.mark.parametrize("samples", [4, 8, 16])
@pytest.mark.parametrize("ddof", [0, 1])
def test_a_perfect_sampler_is_calibrated_for_any_number_of_samples(samples, ddof):
    assert gathered(*calibrated(samples), ddof=ddof).spread_skill == pytest.approx(1, abs=0.01)


def test_a_sampler_with_half_the_spread_scores_one_half():
    truth, drawn = calibrated(16)
    mean = drawn.mean(0)
    narrow = gathered(truth, mean + (drawn - mean) / 2)
    assert narrow.spread_skill == pytest.approx(0.5, abs=0.01)
    assert narrow.coverage < gathered(truth, drawn).coverage - 0.2


@pytest.mark.parametrize("samples", [2, 4, 8, 16, 64])
def test_coverage_of_a_perfect_sampler_is_the_expected_one(samples):
    uniform = gathered(*calibrated(samples, distribution="uniform"), quantiles=(0.1, 0.8)).coverage
    assert uniform == pytest.approx(expected_coverage((0.1, 0.8), samples), abs=0.01)
    normal = gathered(*calibrated(samples)).coverage
    assert normal == pytest.approx(expected_coverage((0.05, 0.95), samples), abs=0.03)


def test_expected_coverage_approaches_the_nominal_one():
    assert expected_coverage((0.05, 0.95), 8) == pytest.approx(0.7)
    assert expected_coverage((0.05, 0.95), 10**6) == pytest.approx(0.9, abs=1e-5)


def test_the_calibration_curve_of_a_known_spread_is_the_diagonal():
    rng = np.random.default_rng(0)
    width = rng.uniform(0.5, 5, PIXELS)
    nothing = np.zeros(PIXELS)
    calibration = Calibration(bin_edges(width), factor=1.0)
    calibration.add(width * rng.normal(size=PIXELS), nothing, width, nothing, nothing, width)
    spread, error = calibration.curve
    assert len(spread) == BINS
    assert calibration.count == pytest.approx(PIXELS / BINS, abs=2)
    assert error == pytest.approx(spread, rel=0.04)


def perfect_curve(width, grain, samples=8, seed=0):
    """The curve of a perfect sampler on an image whose samples are correlated over about `grain` pixels."""
    drawn = np.random.default_rng(seed).normal(size=(samples + 1, *width.shape))
    drawn = gaussian_filter(drawn, (0, grain, grain)) if grain else drawn
    truth, drawn = drawn[0] / drawn.std() * width, drawn[1:] / drawn.std() * width
    std = drawn.std(0, ddof=1)
    around = neighbours_variance(std)
    calibration = Calibration(bin_edges(around), finite_sample_factor(samples, 1))
    calibration.add(truth, drawn.mean(0), std, truth, truth, around)
    return calibration.curve


@pytest.mark.parametrize("grain", [0, 1])
@pytest.mark.parametrize("kind", ["constant", "smooth"])
def test_the_calibration_curve_of_a_perfect_sampler_of_few_samples_is_the_diagonal(kind, grain):
    pattern = gaussian_filter(np.random.default_rng(1).normal(size=(640, 640)), 8)
    width = 1 + 4 * np.clip(pattern / pattern.std() - 1, 0, None) * (kind == "smooth")
    predicted, found = perfect_curve(width, grain)
    assert found == pytest.approx(predicted, rel=0.04)
    assert (predicted.max() / predicted.min() > 4) == (kind == "smooth")


def test_blocks_do_not_change_the_sums():
    truth, drawn = calibrated(8)
    one, many = gathered(truth, drawn, pieces=1), gathered(truth, drawn, pieces=17)
    assert many.spread_skill == pytest.approx(one.spread_skill, rel=1e-12)
    assert many.coverage == one.coverage
    assert np.array_equal(many.count, one.count)


def test_one_sample_has_no_spread():
    with pytest.raises(ValueError, match="no spread"):
        finite_sample_factor(1, 0)


def test_std_finds_the_errors_and_an_unrelated_map_does_not():
    truth, drawn = calibrated(8)
    error = drawn.mean(0) - truth
    assert spearman(drawn.std(0), error) > 0.3
    assert abs(spearman(np.random.default_rng(5).normal(size=PIXELS), error)) < 0.02
    assert math.isnan(spearman(np.ones(PIXELS), error))
