"""The noise field: a function of place and nothing else."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvdm_core.model import NoiseField

FIELD = NoiseField(7, "cells 01", "DAPI")
ALL = slice(0, 320)


def window(sample: int = 0, step: int = 0, t: int = 0, z: int = 0, y: slice = ALL, x: slice = ALL, field: NoiseField = FIELD) -> np.ndarray:
    return field.normal(sample, step, t, z, y, x)


WHOLE = window()
GOLDEN = [[1.0424056, -0.5990603, 0.4544724], [-0.4489259, -0.8109449, 0.9803472]]


@settings(max_examples=60, deadline=None)
@given(top=st.integers(0, 319), left=st.integers(0, 319), height=st.integers(1, 200), width=st.integers(1, 200))
def test_a_pixel_has_one_value_whatever_the_window(top: int, left: int, height: int, width: int) -> None:
    y, x = slice(top, min(320, top + height)), slice(left, min(320, left + width))
    np.testing.assert_array_equal(window(y=y, x=x), WHOLE[y, x])


def test_order_and_other_draws_in_between_change_nothing() -> None:
    pieces = [(slice(64 * k, 64 * k + 64), slice(0, 320)) for k in range(5)]
    backwards = {k: window(y=pieces[k][0], x=pieces[k][1]) for k in reversed(range(5))}
    np.random.default_rng(0).normal(size=10)
    window(sample=3, step=2)
    np.testing.assert_array_equal(np.concatenate([backwards[k] for k in range(5)]), WHOLE)


def test_another_process_draws_the_same_noise() -> None:
    program = (
        "import sys; from cvdm_core.model import NoiseField;"
        "sys.stdout.buffer.write(NoiseField(7, 'cells 01', 'DAPI').normal(1, 2, 3, 4, slice(100, 180), slice(33, 97)).tobytes())"
    )
    written = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    expected = window(1, 2, 3, 4, slice(100, 180), slice(33, 97))
    np.testing.assert_array_equal(np.frombuffer(written, dtype=np.float32).reshape(80, 64), expected)


def test_noise_of_this_version_is_that_of_the_first() -> None:
    # Golden values: a change of the generator would silently change every image that was ever restored.
    values = window(sample=1, step=2, t=3, z=4, y=slice(127, 129), x=slice(190, 193))
    np.testing.assert_allclose(values, GOLDEN, rtol=0, atol=1e-6)


def test_values_are_standard_normal() -> None:
    values = np.concatenate([window(sample=k).ravel() for k in range(6)]).astype(np.float64)
    count = len(values)
    assert values.dtype == np.float64 and WHOLE.dtype == np.float32
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - expected) < 4.5 * np.sqrt(variance / count), power
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert 4.3 < np.abs(values).max() < 7.5


def test_neighbours_are_independent_also_across_block_borders() -> None:
    field = window().astype(np.float64)
    for values in (field, field**2 - 1):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 64), (64, 0)):
            a, b = values[: 320 - dy, : 320 - dx].ravel(), values[dy:, dx:].ravel()
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(len(a)), (dy, dx)
    rows, columns = field[63::64][:4].ravel(), field[64::64].ravel()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 4.5 / np.sqrt(len(rows))


def test_no_two_blocks_of_a_plane_are_alike() -> None:
    blocks = WHOLE.reshape(5, 64, 5, 64).swapaxes(1, 2).reshape(25, -1)
    correlations = np.corrcoef(blocks)[np.triu_indices(25, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(blocks.shape[1])


def test_samples_steps_planes_channels_acquisitions_and_seeds_are_independent() -> None:
    fields = {
        "first": WHOLE,
        "sample": window(sample=1),
        "step": window(step=1),
        "time": window(t=1),
        "plane": window(z=1),
        "channel": window(field=NoiseField(7, "cells 01", "GFP")),
        "acquisition": window(field=NoiseField(7, "cells 02", "DAPI")),
        "seed": window(field=NoiseField(8, "cells 01", "DAPI")),
        "names are not glued together": window(field=NoiseField(7, "cells 01DAPI", "")),
    }
    for a, b in combinations(fields, 2):
        correlation = np.corrcoef(fields[a].ravel(), fields[b].ravel())[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(WHOLE.size), (a, b)
        assert np.mean(fields[a] == fields[b]) < 1e-3, (a, b)


@pytest.mark.parametrize("place", [0, 10**6])
def test_far_away_is_as_good_as_near(place: int) -> None:
    far = window(y=slice(place, place + 64), x=slice(3 * place, 3 * place + 64))
    assert abs(far.mean()) < 4.5 / 64 and abs(far.std() - 1) < 4.5 / np.sqrt(2 * 4096)
