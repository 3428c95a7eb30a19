"""Samplers against closed forms.

Let the clean value be Gaussian, N(mean, std^2), and the denoiser the best there is, E[clean | z]. It is linear in z, so a sampler is a
linear map of the noise it is given: fed with unit impulses it shows its exact mean and variance, without drawing a random number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from cvdm_core.model import NoiseField, ScheduleSpec, draw, time_grid
from cvdm_core.model.sampler import METHODS
from cvdm_core.model.schedule import Schedule

MEAN, STD = 0.7, 0.6
STEPS = (5, 10, 50, 200)
LAMBDAS = torch.tensor([6.0, 7.3, 14.0], dtype=torch.float64).reshape(3, 1, 1, 1)


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    """A learned schedule that is not the one it starts from."""
    schedule = Schedule(ScheduleSpec(lambda_min=6.0)).double().requires_grad_(False)
    assert schedule.time is not None
    schedule.time.increments += 0.5 * torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return schedule


def best_estimate(z: Tensor, gamma: Tensor) -> Tensor:
    """E[clean | z] for z = sqrt(gamma) clean + sqrt(1 - gamma) noise."""
    gain = STD**2 * gamma.sqrt() / (gamma * STD**2 + 1 - gamma)
    return MEAN + gain * (z - gamma.sqrt() * MEAN)


def mean_and_variance(schedule: Schedule, steps: int, method: str) -> tuple[Tensor, Tensor]:
    """The sampler's own mean and variance for each lambda, from its response to no noise and to a unit of noise at each step."""
    times = time_grid(steps, schedule.reference_gamma)
    unit = torch.eye(steps + 1, dtype=torch.float64).reshape(
        1, 1, steps + 1, steps + 1
    )  # a row of z for each impulse, one of them never sent
    impulses = torch.cat([unit, torch.zeros(1, 1, 1, steps + 1, dtype=torch.float64)], dim=2)

    def gamma(t: float) -> Tensor:
        return schedule.gamma(t, LAMBDAS)

    response = draw(
        lambda z, k: best_estimate(z, gamma(times[k])), gamma, times, lambda k: impulses[..., k : k + 1].expand(3, -1, -1, -1), method
    ).squeeze()
    mean = response[:, -1]
    return mean, (response[:, :-1] - mean[:, None]).square().sum(dim=1)


def theory(schedule: Schedule, steps: int, step_rule: Callable[[float, float], tuple[float, float]], lam: float) -> tuple[float, float]:
    """Mean and variance by their recursion: z_s = a z_t + b E[clean | z_t] + noise of variance c."""
    times = time_grid(steps, schedule.reference_gamma)
    gammas = [float(schedule.gamma(t, torch.full((1, 1, 1, 1), lam, dtype=torch.float64))) for t in times]
    mean, variance = 0.0, 1.0
    for here, there in pairwise(gammas):
        b, c = step_rule(here, there)
        a = math.sqrt(max((1 - there - c), 0) / (1 - here))
        gain = STD**2 * math.sqrt(here) / (here * STD**2 + 1 - here)
        slope = a + b * gain
        mean = slope * mean + b * MEAN * (1 - gain * math.sqrt(here))
        variance = slope**2 * variance + c
    return mean, variance


def stochastic(eta: float) -> Callable[[float, float], tuple[float, float]]:
    """The family of Song et al. 2021, eq. 12 and 16: eta = 0 is DDIM, eta = 1 is DDPM's ancestral sampling."""

    def rule(here: float, there: float) -> tuple[float, float]:
        c = eta**2 * (1 - there) / (1 - here) * (1 - here / there)
        return math.sqrt(there) - math.sqrt(max(1 - there - c, 0) * here / (1 - here)), c

    return rule


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("method", "eta"), [("ancestral", 1.0), ("ddim", 0.0)])
def test_sampler_has_the_mean_and_variance_that_theory_gives(schedule: Schedule, method: str, eta: float, steps: int) -> None:
    mean, variance = mean_and_variance(schedule, steps, method)
    for k, lam in enumerate(LAMBDAS.flatten().tolist()):
        expected = theory(schedule, steps, stochastic(eta), lam)
        assert float(mean[k]) == pytest.approx(expected[0], abs=1e-10)
        assert float(variance[k]) == pytest.approx(expected[1], abs=1e-10)


@pytest.mark.parametrize("steps", STEPS)
def test_what_ancestral_sampling_lacks_in_variance_is_the_uncertainty_of_its_clean_estimates(schedule: Schedule, steps: int) -> None:
    # The exact reverse step also has b^2 Var[clean | z]; sampling with the mean alone leaves that out, and nothing else.
    _, variance = mean_and_variance(schedule, steps, "ancestral")
    times = time_grid(steps, schedule.reference_gamma)
    for k, lam in enumerate(LAMBDAS.flatten().tolist()):
        gammas = [float(schedule.gamma(t, torch.full((1, 1, 1, 1), lam, dtype=torch.float64))) for t in times]
        lack = gammas[0] * (STD**2 - 1)  # sampling starts from variance 1
        for here, there in pairwise(gammas):
            b = math.sqrt(there) * (1 - here / there) / (1 - here)
            a = math.sqrt(here / there) * (1 - there) / (1 - here)
            spread = here * STD**2 + 1 - here
            lack = (a + b * STD**2 * math.sqrt(here) / spread) ** 2 * lack + b**2 * STD**2 * (1 - here) / spread
        assert float(variance[k]) == pytest.approx(STD**2 - lack, abs=1e-10)


def limit(schedule: Schedule, method: str) -> tuple[Tensor, Tensor]:
    """Mean and variance for infinitely many steps. What differs from (MEAN, STD^2) is that sampling starts from N(0, 1) at gamma(1) > 0."""
    end = schedule.gamma(1.0, LAMBDAS).flatten()
    spread = end * STD**2 + 1 - end
    if method == "ancestral":  # the reverse diffusion forgets its start by this factor
        kept = STD**2 * end.sqrt() / spread
        return MEAN - kept * end.sqrt() * MEAN, STD**2 + kept**2 * (1 - spread)
    kept = STD / spread.sqrt()  # the probability flow only stretches
    return MEAN - kept * end.sqrt() * MEAN, kept**2


@pytest.mark.parametrize(("method", "order"), [("ancestral", 1.0), ("ddim", 1.0), ("dpmpp_2m", 1.5)])
def test_the_exact_posterior_is_reached_at_the_order_of_the_method(schedule: Schedule, method: str, order: float) -> None:
    # DPM-Solver++(2M) is of second order in the log-SNR, whose steps do not shrink at the two ends of the grid: between 1 and 2 remains.
    mean_limit, variance_limit = limit(schedule, method)
    errors = {}
    for steps in (*STEPS, 100):
        mean, variance = mean_and_variance(schedule, steps, method)
        errors[steps] = torch.maximum((mean - mean_limit).abs(), (variance - variance_limit).abs()).max()
    assert errors[5] > errors[10] > errors[50] > errors[100] > errors[200]
    assert errors[200] < 0.02
    assert float(errors[100] / errors[200]) == pytest.approx(2**order, rel=0.15)


def test_all_methods_end_at_the_posterior_up_to_what_the_finite_start_leaves(schedule: Schedule) -> None:
    for method in METHODS:
        mean, variance = mean_and_variance(schedule, 200, method)
        end = schedule.gamma(1.0, LAMBDAS).flatten()
        assert ((mean - MEAN).abs() < 0.01 + end.sqrt() * MEAN).all()
        assert ((variance - STD**2).abs() < 0.02).all()


def test_one_step_returns_the_estimate_from_pure_noise(schedule: Schedule) -> None:
    noise = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    for method in METHODS:
        drawn = draw(lambda z, k: 2 * z + 1, lambda t: schedule.gamma(t, LAMBDAS), [1.0, 0.0], lambda k: noise, method)
        torch.testing.assert_close(drawn, 2 * noise + 1)


def test_images_drawn_with_the_noise_field_have_the_posterior_mean_and_variance(schedule: Schedule) -> None:
    expected_mean, expected_variance = theory(schedule, 50, stochastic(1.0), float(LAMBDAS[1]))
    times = time_grid(50, schedule.reference_gamma)
    field, lam = NoiseField(0, "a", "0"), LAMBDAS[1:2]

    def noise(step: int) -> Tensor:
        return torch.from_numpy(field.normal(0, step, 0, 0, slice(0, 192), slice(0, 192)))[None, None]

    drawn = draw(lambda z, k: best_estimate(z, schedule.gamma(times[k], lam)), lambda t: schedule.gamma(t, lam), times, noise, "ancestral")
    count = drawn.numel()
    assert float(drawn.mean()) == pytest.approx(expected_mean, abs=4.5 * math.sqrt(expected_variance / count))
    assert float(drawn.var()) == pytest.approx(expected_variance, rel=4.5 * math.sqrt(2 / count))
    assert (expected_mean, expected_variance) == pytest.approx((MEAN, STD**2), rel=0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lam", [0.01, 6.0, 60.0, 1e4])
def test_samplers_stay_finite_where_gamma_is_flat(method: str, lam: float) -> None:
    schedule = Schedule(ScheduleSpec()).requires_grad_(False)
    times = time_grid(20, schedule.reference_gamma)
    map_ = torch.full((1, 1, 4, 4), lam)
    drawn = draw(lambda z, k: 0.5 * z, lambda t: schedule.gamma(t, map_), times, lambda k: torch.randn(1, 1, 4, 4), method)
    assert drawn.isfinite().all()


def test_noise_is_asked_for_once_a_step_and_never_on_arrival_at_the_image(schedule: Schedule) -> None:
    asked: dict[str, list[int]] = {method: [] for method in METHODS}
    times = time_grid(4, schedule.reference_gamma)
    for method, steps in asked.items():

        def noise(step: int, steps: list[int] = steps) -> Tensor:
            steps.append(step)
            return torch.zeros(1, 1, 2, 2, dtype=torch.float64)

        draw(lambda z, k: z, lambda t: schedule.gamma(t, LAMBDAS[:1]), times, noise, method)
    assert asked == {"ancestral": [0, 1, 2, 3], "ddim": [0], "dpmpp_2m": [0]}


def test_time_grid_steps_equally_in_the_angle_of_gamma(schedule: Schedule) -> None:
    times = time_grid(8, schedule.reference_gamma)
    assert times[0] == 1 and times[-1] == 0 and all(a > b for a, b in pairwise(times))
    angles = np.arccos(np.sqrt(schedule.reference_gamma(np.array(times))))
    np.testing.assert_allclose(np.diff(angles), np.diff(angles).mean(), rtol=1e-3)
    assert time_grid(4, schedule.reference_gamma, "t") == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_wrong_names_and_numbers_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        time_grid(0, schedule.reference_gamma)
    with pytest.raises(ValueError, match="neither 'cos' nor 't'"):
        time_grid(3, schedule.reference_gamma, "log")
    with pytest.raises(ValueError, match="none of ancestral, ddim, dpmpp_2m"):
        draw(lambda z, k: z, lambda t: LAMBDAS, [1.0, 0.0], lambda k: LAMBDAS, "euler")
