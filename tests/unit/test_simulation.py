"""The simulated acquisitions obey the physics they claim."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cvdm_core.images.optics import defocused_psf, widefield_psf
from cvdm_core.sheet import read_sheet
from cvdm_core.simulation.demo import DEMO, Plan, simulate, write_demo
from cvdm_core.simulation.microscope import Camera, Microscope, expected_photons

SMALL = (
    Plan("alpha", "s1", "train", ("tubulin",), 150, shape=(64, 80)),
    Plan("beta", "s2", "predict", ("vesicles", "membrane"), 150, shape=(64, 64), times=2, planes=2, target=False),
)


def test_psf_in_focus_has_the_airy_zero_at_0_61_wavelengths_over_na() -> None:
    psf = defocused_psf((512, 512), 0.8, 500, 0.02)
    profile = psf[0, :40] / psf[0, 0]
    first_zero = int(np.argmin(profile[:30])) * 0.02
    assert first_zero == pytest.approx(0.61 * 0.5 / 0.8, abs=0.02)
    assert profile[:10].min() > 0.1  # the zero is not a trivial one at the origin


def test_psf_spreads_with_defocus_and_keeps_its_light() -> None:
    sharp, blurred = (defocused_psf((256, 256), 1.2, 525, 0.025, z) for z in (0.0, 0.8))
    assert sharp.sum() == pytest.approx(1) and blurred.sum() == pytest.approx(1)
    assert blurred.max() < 0.3 * sharp.max()


def test_psf_of_pixels_is_centred_symmetric_and_normalised() -> None:
    psf = widefield_psf(1.2, 525, 0.05)
    middle = psf.shape[0] // 2
    assert psf.sum() == pytest.approx(1)
    assert np.unravel_index(psf.argmax(), psf.shape) == (middle, middle)
    np.testing.assert_allclose(psf, psf[::-1, ::-1], atol=1e-6)


def test_too_coarse_a_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="too coarse"):
        defocused_psf((64, 64), 1.2, 525, 0.2)


@pytest.mark.parametrize("photons", [5.0, 200.0])
def test_camera_counts_follow_the_photon_transfer_curve(photons: float) -> None:
    camera = Camera()
    counts = camera.expose(np.full((400, 400), photons, np.float32), np.random.default_rng(1)).astype(float)
    assert counts.mean() == pytest.approx(camera.offset + camera.gain * photons, rel=0.01)
    assert counts.var() == pytest.approx(camera.gain**2 * (photons + camera.read_noise**2), rel=0.03)


def test_target_lies_on_the_input_without_a_shift() -> None:
    point = np.array([[0.0, 3.2, 4.1, 1.0]])
    microscope = Microscope()
    seen, truth = expected_photons(point, (64, 64), 525, 100, 0.0, microscope)

    def centre(image: np.ndarray, pixel: float) -> np.ndarray:
        weight = image - image.min()
        grid = np.stack(np.indices(image.shape)) + 0.5
        return pixel * (grid * weight).sum(axis=(1, 2)) / weight.sum()

    np.testing.assert_allclose(centre(seen, microscope.pixel_size_um), (3.2, 4.1), atol=0.01)
    np.testing.assert_allclose(centre(truth, microscope.pixel_size_um / 2), (3.2, 4.1), atol=0.01)


def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    def digests(folder: Path, seed: int) -> dict[str, str]:
        write_demo(folder, seed=seed, plans=SMALL)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tif")}

    first, again, other = digests(tmp_path / "a", 0), digests(tmp_path / "b", 0), digests(tmp_path / "c", 1)
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert sorted(first) == ["alpha_input.tif", "alpha_target.tif", "beta_input.ome.tif"]


def test_files_and_sheet_say_what_was_simulated(tmp_path: Path) -> None:
    rows = read_sheet(write_demo(tmp_path, plans=SMALL))
    assert rows["alpha"].target.endswith("alpha_target.tif") and rows["beta"].target == ""
    with tifffile.TiffFile(tmp_path / "beta_input.ome.tif") as file:
        assert file.is_ome and 'PhysicalSizeX="0.10317' in (file.ome_metadata or "")
        assert file.series[0].get_shape(squeeze=False)[:5] == (2, 2, 2, 64, 64)
        inputs, _ = simulate(SMALL[1], 0)
        np.testing.assert_array_equal(file.asarray().reshape(inputs.shape), inputs)
    with tifffile.TiffFile(tmp_path / "alpha_target.tif") as file:
        assert file.is_imagej and file.series[0].shape == (128, 160)


def test_demo_keeps_specimens_apart_and_covers_what_it_promises() -> None:
    splits = {plan.specimen: {p.split for p in DEMO if p.specimen == plan.specimen} for plan in DEMO}
    assert all(len(found) == 1 for found in splits.values())
    assert len(DEMO) >= 12 and sum(not plan.target for plan in DEMO) == 2
    assert any(len(plan.channels) == 2 for plan in DEMO) and any(plan.times > 1 and plan.planes > 1 for plan in DEMO)
    assert {plan.split for plan in DEMO} == {"train", "val", "test", "predict"}
