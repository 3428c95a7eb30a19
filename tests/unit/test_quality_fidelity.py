import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter
from scipy.optimize import minimize
from scipy.stats import pearsonr

from cvdm_core.quality.baseline import deconvolve
from cvdm_core.quality.fidelity import RICHARDSON_LUCY_HALO, blur_reach, fit_blur, reblur, richardson_lucy, rse, rsp
from cvdm_core.quality.planes import Plane
from cvdm_core.quality.reference import Moments
from cvdm_core.sheet import Acquisition


def beads(edge=128, seed=0):
    rng = np.random.default_rng(seed)
    return gaussian_filter((rng.random((edge, edge)) > 0.98) * 400.0, 0.8)


def gaussian_psf(sigma, reach):
    psf = gaussian_filter(np.pad([[1.0]], reach), sigma)
    return psf / psf.sum()


def measured_from(restored, sigma, scale, noise, seed=1):
    return 3 * reblur(restored, sigma, scale) + 100 + noise * np.random.default_rng(seed).normal(size=[n // scale for n in restored.shape])


def test_the_blur_between_restored_and_input_is_found():
    restored = beads()
    assert fit_blur(restored, measured_from(restored, 2.3, 2, 0.1), 2) == pytest.approx(2.3, abs=0.02)


def test_a_result_that_is_not_sharper_needs_no_blur():
    assert fit_blur(beads(), 2 * beads() + 5, 1) == pytest.approx(0, abs=0.05)


def test_rsp_and_rse_equal_an_independent_minimisation():
    restored = beads()
    measured = measured_from(restored, 1.7, 2, 4.0)
    moments = Moments()
    moments.add(reblur(restored, fit_blur(restored, measured, 2), 2), measured)

    def shrunk(sigma):
        blurred = gaussian_filter(restored, abs(sigma), truncate=6)
        return (blurred[::2, ::2] + blurred[1::2, ::2] + blurred[::2, 1::2] + blurred[1::2, 1::2]) / 4

    def rms(parameters):
        sigma, slope, offset = parameters
        return np.sqrt(np.mean((slope * shrunk(sigma) + offset - measured) ** 2))

    best = minimize(rms, (1.0, 1.0, 50.0), method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-5, "fatol": 1e-9})
    assert rse(moments) == pytest.approx(best.fun, rel=1e-4)
    assert rsp(moments) == pytest.approx(pearsonr(shrunk(best.x[0]).ravel(), measured.ravel()).statistic, rel=1e-4)


def test_an_invented_blob_raises_rse_and_lowers_rsp():
    restored = beads()
    measured = measured_from(restored, 2.0, 1, 1.0)

    def scores(image):
        moments = Moments()
        moments.add(reblur(image, fit_blur(image, measured, 1), 1), measured)
        return rse(moments), rsp(moments)

    invented = restored + 300 * np.exp(-((np.arange(128)[:, None] - 60) ** 2 + (np.arange(128) - 60) ** 2) / 30)
    honest, false = scores(restored), scores(invented)
    assert false[0] > 3 * honest[0]
    assert false[1] < honest[1] - 0.01


def test_reblurring_a_block_with_its_reach_equals_the_whole():
    restored, sigma = beads(), 1.9
    halo = -(-blur_reach(sigma) // 2) * 2
    whole = reblur(restored, sigma, 2)
    block = reblur(restored[32 - halo : 64 + halo, 40 - halo : 80 + halo], sigma, 2)[halo // 2 : -halo // 2, halo // 2 : -halo // 2]
    assert block == pytest.approx(whole[16:32, 20:40], abs=1e-12)


def test_richardson_lucy_sharpens_a_blurred_image():
    truth, psf = 100 * beads(), gaussian_psf(2.0, 8)
    blurred = np.random.default_rng(0).poisson(np.maximum(convolve(truth, psf), 0)) + 50.0
    restored = richardson_lucy(blurred, psf, 30, background=50, start=float(truth.mean()))
    before, after = Moments(), Moments()
    before.add(blurred, truth)
    after.add(restored, truth)
    gain = 10 * math.log10(before.fitted_mse / after.fitted_mse)
    assert gain > 2
    assert restored.sum() == pytest.approx(blurred.sum() - 50 * blurred.size, rel=0.02)


def test_richardson_lucy_equals_the_plain_formula():
    truth, psf = beads(64), gaussian_psf(1.5, 4)
    psf[4, 5] += 0.05  # not symmetric, so that the adjoint matters
    psf /= psf.sum()
    image = convolve(truth, psf, mode="constant") + 10
    image = np.where(image > 0, image, 0)
    estimate = np.full((64, 64), 3.0)
    for _ in range(5):
        ratio = image / (convolve(estimate, psf, mode="reflect") + 10)
        estimate = estimate * convolve(ratio, psf[::-1, ::-1], mode="reflect")
    result = richardson_lucy(image, psf, 5, background=10, start=3.0)
    assert result[24:-24, 24:-24] == pytest.approx(estimate[24:-24, 24:-24], rel=1e-3, abs=1e-3)


def test_richardson_lucy_in_blocks_is_close_to_the_whole_image():
    truth, psf = beads(320), gaussian_psf(2.0, 8)
    image = np.random.default_rng(0).poisson(np.maximum(convolve(truth, psf), 0)) + 20.0
    whole = richardson_lucy(image, psf, 30, background=20, start=8.0)
    halo = RICHARDSON_LUCY_HALO
    block = richardson_lucy(image[96 - halo : 224 + halo, 96 - halo : 224 + halo], psf, 30, background=20, start=8.0)[
        halo:-halo, halo:-halo
    ]
    assert np.abs(block - whole[96:224, 96:224]).max() < 1e-4 * np.ptp(whole)


@pytest.mark.parametrize("zero", [-20.0, -32768.0])
def test_richardson_lucy_does_not_depend_on_where_a_signed_image_has_its_zero(tmp_path, zero):
    image = np.random.default_rng(0).poisson(beads(96) + 20).astype(np.float32)
    image -= np.float32(np.sort(image.ravel())[:20].max())  # the 0.1 percentile is 0
    row = Acquisition(acquisition="cells", specimen="cells", split="test", input="a.tif", na=1.2, emission_nm=(525.0,))
    plane, whole = Plane(0, 0, 0), (slice(0, 96), slice(0, 96))
    found = []
    for offset in (0.0, zero):
        source = SimpleNamespace(shape=image.shape, read=lambda plane, y, x, offset=offset: image[y, x] + np.float32(offset))
        (tmp_path / str(offset)).mkdir()
        found.append(deconvolve(source, source, row, 0, [plane], 10, image.shape, (0.1, 0.1), tmp_path / str(offset)).read(plane, *whole))
    assert found[1] - zero == pytest.approx(found[0], abs=0.05)
    assert np.ptp(found[1]) > 1.5 * np.ptp(image)  # sharper than what was measured
