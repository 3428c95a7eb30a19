"""Does an input look like those that the model was trained on?"""

import numpy as np
import pytest
import yaml
from evaluation_bench import Bench
from scipy.ndimage import gaussian_filter

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.images.appearance import FEATURES, appearance
from cvdm_core.quality.gate import compare_inputs
from cvdm_core.quality.planes import Plane
from cvdm_core.records.receipts import read_json
from cvdm_core.sheet import Acquisition
from cvdm_core.training.inputs import bounds, measure_inputs
from cvdm_core.training.pairs import Pair


def seen(window):
    return dict(zip(FEATURES, appearance(window), strict=True))


def test_white_noise_has_the_roughness_of_its_standard_deviation_and_the_softness_1():
    noise = np.random.default_rng(0).normal(300, 7, (512, 512))
    assert seen(noise) == pytest.approx({"brightness": 300, "contrast": 7, "roughness": 7, "softness": 1}, rel=0.01)


def test_a_ramp_is_not_rough_and_blur_is_soft():
    ramp = np.add.outer(np.arange(64), 3 * np.arange(64))
    assert seen(ramp) == {"brightness": ramp.mean(), "contrast": ramp.std(), "roughness": 0, "softness": 1}
    noise = np.random.default_rng(0).normal(0, 7, (512, 512))
    softness = [seen(gaussian_filter(noise, sigma))["softness"] for sigma in (0, 0.5, 1)]
    assert softness[0] * 1.3 < softness[1] < softness[2] / 2


def test_bounds_hold_the_central_99_percent_of_windows():
    values = [np.array([number, 2 * number, 0, -number], float) for number in range(1001)]
    found = bounds(values * 2, [0] * 1001 + [1] * 1001)
    expected = {"brightness": (5, 995), "contrast": (10, 1990), "roughness": (0, 0), "softness": (-995, -5)}
    assert found == {name: pytest.approx(pair) for name, pair in expected.items()}


def test_few_images_let_the_next_one_differ_as_they_differ():
    values = [np.array([mean, mean, 1, 1], float) for mean in (80, 100, 125)]
    low, high = bounds(values, [0, 1, 2])["brightness"]
    assert low == pytest.approx(100 / 1.25**11.46, rel=0.01) and high == pytest.approx(100 * 1.25**11.46, rel=0.01)
    many = bounds(values * 20, list(range(60)))["brightness"]
    assert low < many[0] < 80 and 125 < many[1] < high
    assert bounds([value - 300 for value in values], [0, 1, 2])["brightness"] == pytest.approx((-456.7, 60.1), abs=0.5)
    assert np.isfinite(list(bounds([np.full(4, 1e-9), np.full(4, 1e9)], [0, 1]).values())).all()


class Image:
    """An input in memory of which all but the pixels of `gap` was acquired."""

    def __init__(self, pixels, gap=slice(0, 0)):
        self.pixels, self.gap, self.shape, self.read_planes = pixels, gap, pixels.shape[-2:], set()

    def read(self, plane, y, x):
        self.read_planes.add(plane)
        return self.pixels[plane.t, y, x]

    def acquired(self, y, x, away):
        there = np.ones(self.shape, bool)
        there[self.gap] = False
        return there[y, x]


def noise(times=1, edge=256, mean=300.0):
    return np.random.default_rng(1).normal(mean, 7, (times, edge, edge))


def judged(image, edge=32, known=None):
    known = known or bounds([appearance(window) for window in noise(200, 32)], range(200))
    planes = [Plane(t, 0, 0) for t in range(len(image.pixels))]
    rows, details = compare_inputs("actin", image, planes, edge, known)
    return rows[0], details


def test_an_input_like_those_of_the_training_is_found_to_be_one():
    row, details = judged(Image(noise()))
    assert row.value < 0.1
    assert details["brightness"]["median"] == pytest.approx(300, abs=0.5)
    assert details["brightness"]["low"] < 300 < details["brightness"]["high"]


def test_the_largest_share_on_one_side_is_told_and_where_it_lies():
    half = noise()
    half[:, :128] += 40
    row, details = judged(Image(half))
    assert row.metric == "unlike_training" and row.image == "input" and row.channel == "actin"
    assert row.value == details["brightness"]["above"] == 0.5
    row, details = judged(Image(gaussian_filter(noise(), (0, 1, 1))))
    assert details["softness"]["above"] == details["roughness"]["below"] == row.value == 1
    assert details["brightness"]["above"] < 0.1


def test_four_planes_are_looked_at_from_the_first_to_the_last():
    image = Image(noise(times=10))
    judged(image)
    assert sorted(plane.t for plane in image.read_planes) == [0, 3, 6, 9]


def test_what_was_not_acquired_is_not_looked_at():
    black = noise()
    black[:, :, :100] = 0
    assert judged(Image(black))[0].value > 0.3
    assert judged(Image(black, gap=(slice(None), slice(0, 100))))[0].value < 0.1


def test_what_holds_no_window_of_the_size_that_the_model_tells_of_is_not_judged():
    for image in (Image(noise(edge=31)), Image(noise(edge=40), gap=np.s_[::20, ::20])):
        row, details = judged(image)
        assert np.isnan(row.value) and "no window of 32 pixels" in row.reason and details == {}


def pairs(images, scale=1):
    """Return training pairs of these inputs (Y, X) or (C, Y, X)."""
    row = Acquisition(acquisition="a", specimen="s", split="train", input="a.tif")
    pixels = [image[None, :, None] if image.ndim == 3 else image[None, None, None] for image in images]
    return [Pair(row, p, p.repeat(scale, -1).repeat(scale, -2), ["actin", "tubulin"][: p.shape[1]], scale, 0.1) for p in pixels]


def test_a_training_tells_the_bounds_of_its_inputs_by_channel():
    pixels = np.stack([noise(20, 128), noise(20, 128, mean=50)], axis=1)
    told = measure_inputs(pairs(pixels, scale=2), crop=64, seed=0)
    assert told["window"] == 64 // 2
    assert told["channels"]["tubulin"]["brightness"] == pytest.approx([50, 50], abs=3)
    assert told["channels"]["actin"]["roughness"] == pytest.approx([7, 7], abs=1.5)
    assert measure_inputs(pairs(pixels, scale=2), crop=64, seed=0) == told
    assert yaml.safe_load(yaml.safe_dump(told)) == told


def test_patches_as_large_as_a_crop_look_like_themselves():
    patches = noise(60, 64)
    told = measure_inputs(pairs(patches), crop=64, seed=0)
    values = [judged(Image(patch[None]), told["window"], told["channels"]["actin"])[0].value for patch in patches]
    assert np.mean(values) < 0.1
    blurred = [judged(Image(gaussian_filter(patch, 1)[None]), told["window"], told["channels"]["actin"])[0].value for patch in patches]
    assert np.mean(blurred) == 1


def test_a_further_exposure_is_like_those_of_few_training_images_and_blur_is_not():
    told = measure_inputs(pairs([noise(edge=128)[0] * factor for factor in (0.8, 1, 1.25)]), crop=32, seed=0)
    darker = noise(edge=128) * 0.7
    assert judged(Image(darker), 32, told["channels"]["actin"])[0].value < 0.5
    assert judged(Image(gaussian_filter(darker, (0, 1, 1))), 32, told["channels"]["actin"])[0].value == 1


def test_one_image_alone_tells_nothing_of_others():
    several = pairs([np.stack([image, image]) for image in noise(2, 64)])
    assert list(measure_inputs([several[0], *pairs(noise(1, 64))], crop=32, seed=0)["channels"]) == ["actin"]


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, edge=40, evaluation={"richardson_lucy_iterations": 0})
    bench.restore(["mean"])
    paths.model_folder(bench.config).mkdir(parents=True)
    return bench


def describe(bench, **description):
    (paths.model_folder(bench.config) / "model.yaml").write_text(yaml.safe_dump({"name": "x", **description}))


def test_evaluation_compares_each_channel_with_what_the_model_tells_of_it(bench):
    everything = {feature: [-1e9, 1e9] for feature in FEATURES}
    dark = {**everything, "brightness": [0.0, 20.0]}
    describe(bench, inputs={"window": 16, "channels": {"actin": everything, "*": dark}})
    bench.evaluate()
    assert bench.value("unlike_training", "input", "actin") == 0
    assert bench.value("unlike_training", "input", "tubulin") == 1
    details = read_json(paths.evaluate_receipt(bench.config, "cells"))["details"]["channels"]
    assert details[1]["inputs"]["brightness"]["above"] == 1
    assert details[1]["inputs"]["brightness"]["median"] == pytest.approx(float(np.median(bench.raw[:, 1])), rel=0.3)


def test_of_a_model_that_does_not_tell_nothing_is_said_and_damage_is_one_sentence(bench):
    describe(bench)
    assert "unlike_training" not in set(bench.evaluate().table["metric"])
    for broken in ({"window": 16}, {"window": "a", "channels": {}}, {"window": 16, "channels": {"actin": {"brightness": [1]}}}, [1]):
        describe(bench, inputs=broken)
        with pytest.raises(UserError, match="the description of the model cannot be read"):
            bench.evaluate()
