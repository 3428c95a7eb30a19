"""Seams are measured, and no seamless image is accused."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cvdm_core.restoration.seams import measure_seams


def smooth(seed=0, shape=(1, 2, 1, 200, 230)):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 0, 0, 2, 2))


def seams_of(image, shard=64):
    return measure_seams(lambda t, c, z, y, x: image[t, c, z, y, x], image.shape, shard, 8)


def test_a_planted_seam_is_found_and_a_seamless_image_is_not_accused():
    accused = 0
    for seed in range(10):
        image = smooth(seed)
        found = seams_of(image)
        assert 0.8 < found["ratio"] < 1.25
        accused += found["p"] < 0.05
        image[..., 64:128, :] += 0.1
        stepped = seams_of(image)
        assert stepped["ratio"] > found["ratio"] * 1.03
        assert stepped["p"] < 0.01
    assert accused <= 2


@pytest.mark.parametrize("axis", [0, 2])
def test_a_movie_or_stack_of_one_structure_is_not_accused_and_its_seam_is_found(axis):
    shape = [1, 1, 1, 128, 192]
    shape[axis] = 20
    accused = 0
    for seed in range(20):
        structure = smooth(seed, (1, 1, 1, 128, 192))
        movie = structure + 0.3 * structure.std() * np.random.default_rng(seed).normal(size=shape)
        found = seams_of(movie)
        accused += found["p"] < 0.05
        movie[..., 64:128] += 0.3
        assert seams_of(movie)["p"] < 0.05
    assert accused <= 2
    assert found["segments"] == 7  # of 64 pixels, however many planes show them


def test_a_blended_seam_is_found_by_its_flatness():
    image = smooth()
    for border in (64, 128, 192):
        image[..., border - 1 : border + 1] = image[..., border - 1 : border + 1].mean(axis=-1, keepdims=True)
    found = seams_of(image)
    assert found["ratio"] < 0.9
    assert found["p"] < 0.01


def test_seams_that_cannot_be_measured_are_null_with_a_reason():
    assert seams_of(smooth(shape=(1, 1, 1, 60, 64))) == {
        "ratio": None, "p": None, "segments": 0, "reason": "no shard of this image has a neighbour, so there is no border",
    }  # fmt: skip
    constant = seams_of(np.zeros((1, 1, 1, 128, 64)))
    assert constant["ratio"] is None
    assert constant["reason"] == "the image is constant around its borders"
