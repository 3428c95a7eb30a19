"""Joint tiling: a region cut into tiles gives the pixels of the whole region."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from restoration_world import random_restorer

from cvdm_core.images.tiles import tiles
from cvdm_core.model import NoiseField
from cvdm_core.restoration.regions import RegionModel, batch_size

NOISE = NoiseField(0, "cells", "actin")


def condition(shape, seed=0):
    rows, columns = np.indices(shape)
    waves = np.sin(rows / 7) + np.cos(columns / 5)
    return torch.from_numpy((waves + np.random.default_rng(seed).normal(0, 0.5, shape)).astype(np.float32))


def noise_of(shape, numbers):
    def noise(step):
        planes = [NOISE.normal(number, step, 0, 0, slice(0, shape[0]), slice(0, shape[1])) for number in numbers]
        return torch.from_numpy(np.stack(planes)[:, None])

    return noise


def sampled(restorer, shape, tile, numbers=(0,), method="ancestral", steps=3):
    model = RegionModel(restorer, condition(shape), tile, torch.float32)
    return model.sample(noise_of(shape, numbers), restorer.times(steps), method), model


@pytest.fixture(scope="module")
def restorer():
    torch.set_num_threads(1)
    return random_restorer()


@given(rows=st.integers(18, 30), columns=st.integers(10, 24), tile=st.integers(16, 70))
@settings(max_examples=10, deadline=None)
def test_tiles_of_any_size_give_the_pixels_of_the_whole_region(restorer, rows, columns, tile):
    shape = (rows * restorer.stride, columns * restorer.stride)
    whole, _ = sampled(restorer, shape, 10_000)
    pieces, model = sampled(restorer, shape, tile)
    data_range = float(whole.max() - whole.min())
    assert data_range > 1
    assert len(model.pieces) > 1
    assert float((pieces - whole).abs().max()) <= 1e-6 * data_range


@pytest.mark.parametrize("kind", ["learned", "two_network", "cosine"])
@pytest.mark.parametrize(("method", "prediction"), [("ddim", "v"), ("dpmpp_2m", "v"), ("ancestral", "epsilon")])
def test_tiles_do_not_matter_for_any_sampler_schedule_and_prediction(kind, method, prediction):
    restorer = random_restorer(prediction=prediction, schedule={"kind": kind, "base_channels": 4})
    whole, _ = sampled(restorer, (128, 96), 10_000, method=method)
    pieces, _ = sampled(restorer, (128, 96), 48, method=method)
    assert float((pieces - whole).abs().max()) <= 1e-6 * float(whole.max() - whole.min())


def test_the_network_of_these_tests_looks_further_than_one_tile(restorer, monkeypatch):
    whole, model = sampled(restorer, (128, 96), 10_000)
    assert float(model.lam.std()) > 0.01
    monkeypatch.setattr("cvdm_core.restoration.regions.tiles", lambda shape, tile, margin, stride: tiles(shape, tile, 0, stride))
    pieces, _ = sampled(restorer, (128, 96), 48)
    assert float((pieces - whole).abs().max()) > 1e-3 * float(whole.max() - whole.min())


def test_batch_size_and_order_of_the_samples_do_not_matter(restorer):
    shape = (96, 64)
    together, _ = sampled(restorer, shape, 48, numbers=(0, 1, 2, 3))
    turned, _ = sampled(restorer, shape, 48, numbers=(3, 1))
    alone, _ = sampled(restorer, shape, 48, numbers=(1,))
    tolerance = 1e-6 * float(together.max() - together.min())
    assert float((turned[1] - together[1]).abs().max()) <= tolerance
    assert float((turned[0] - together[3]).abs().max()) <= tolerance
    assert float((alone[0] - together[1]).abs().max()) <= tolerance
    assert float((together[0] - together[1]).abs().max()) > 1000 * tolerance


def test_a_regression_model_is_tiled_likewise():
    restorer = random_restorer(objective="regression")
    whole = RegionModel(restorer, condition((128, 96)), 10_000, torch.float32).regress()
    pieces = RegionModel(restorer, condition((128, 96)), 48, torch.float32).regress()
    assert float((pieces - whole).abs().max()) <= 1e-6 * float(whole.max() - whole.min())


def test_lambda_is_evaluated_once_a_tile_however_many_steps(restorer, monkeypatch):
    calls = []
    evaluate = restorer.schedule.condition
    times = restorer.times(20)
    monkeypatch.setattr(restorer.schedule, "condition", lambda x: calls.append(1) or evaluate(x))
    model = RegionModel(restorer, condition((96, 96)), 48, torch.float32)
    model.sample(noise_of((96, 96), (0,)), times, "ancestral")
    assert len(calls) == len(model.pieces) == 4


def test_on_a_cpu_samples_are_drawn_one_by_one():
    assert batch_size(lambda size: pytest.fail("no trial is needed"), 8, torch.device("cpu")) == 1
