"""The noise schedule: its equation, its ends, its shape, and its locality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvdm_core.model.diffusion import curvature_penalty, equation_penalty
from cvdm_core.model.schedule import GAMMA_FLOOR, Schedule
from cvdm_core.model.spec import ScheduleSpec

EXACT = ("learned", "cosine", "linear")
KINDS = (*EXACT, "two_network")


def random_schedule(kind: str, seed: int) -> Schedule:
    """A schedule in float64 whose parameters are far from where they start."""
    schedule = Schedule(ScheduleSpec(kind=kind, base_channels=4)).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter += (0.3 if kind == "two_network" else 1.5) * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return schedule


def random_condition(seed: int, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slopes(schedule: Schedule, t: torch.Tensor, lam: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """gamma and its first two time derivatives for every pixel, by automatic differentiation: one time for each pixel's own graph."""
    pixels = lam.reshape(-1, 1, 1, 1)
    times = t.repeat_interleave(len(pixels) // len(t)).requires_grad_()
    gamma = schedule.gamma(times, pixels)
    (first,) = torch.autograd.grad(gamma.sum(), times, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), times, create_graph=True, allow_unused=True, materialize_grads=True)
    return gamma.reshape(lam.shape), first.reshape(lam.shape), second.reshape(lam.shape)


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_gamma_obeys_its_differential_equation_for_any_parameters(kind: str, seed: int) -> None:
    schedule = random_schedule(kind, seed)
    lam = schedule.condition(random_condition(seed)).detach()
    t = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gamma, slope, _ = slopes(schedule, t, lam)
    beta = schedule.derivatives(t, lam).beta
    assert (slope + beta * gamma).abs().max() < 1e-6
    assert gamma.detach().var() > 0 or kind in ("cosine", "linear")


@pytest.mark.parametrize("kind", KINDS)
def test_closed_form_derivatives_are_those_of_automatic_differentiation(kind: str) -> None:
    schedule = random_schedule(kind, 3)
    lam = schedule.condition(random_condition(3)).detach()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    gamma, slope, curvature = slopes(schedule, t, lam)
    values = schedule.derivatives(t, lam)
    inside = (gamma > 2 * GAMMA_FLOOR) & (gamma < 1)  # where the published form would leave this range, gamma is cut and flat
    assert inside.any()
    torch.testing.assert_close(values.gamma, gamma)
    torch.testing.assert_close(values.slope[inside], slope[inside])
    torch.testing.assert_close(values.curvature[inside], curvature[inside])


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_gamma_falls_from_one_to_almost_nothing(kind: str, seed: int) -> None:
    schedule = random_schedule(kind, seed).float()
    lam = schedule.condition(random_condition(seed, 1).float()).detach()
    curve = schedule.gamma(torch.linspace(0, 1, 101), lam.expand(101, -1, -1, -1))
    assert (curve[0] == 1).all()
    assert (curve[-1] < 2.5e-3).all()
    assert (curve >= GAMMA_FLOOR * 0.999).all()
    assert (curve.diff(dim=0) <= 1e-7).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_published_form_starts_at_one_and_stays_a_power(seed: int) -> None:
    schedule = random_schedule("two_network", seed)
    lam = schedule.condition(random_condition(seed, 1)).detach()
    assert (schedule.gamma(0.0, lam) == 1).all()
    for t in (0.1, 0.5, 1.0):
        gamma = schedule.gamma(t, lam)
        assert ((gamma >= GAMMA_FLOOR) & (gamma <= 1)).all()


def test_only_the_published_form_pays_the_equation_penalty() -> None:
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    for kind in KINDS:
        schedule = random_schedule(kind, 5)
        penalty = equation_penalty(schedule.derivatives(t, schedule.condition(random_condition(5))))
        assert (penalty > 1e-6).all() if kind == "two_network" else (penalty == 0).all(), kind


def test_curvature_penalty_acts_on_each_sample_alike() -> None:
    schedule = random_schedule("learned", 7)
    lam = schedule.condition(random_condition(7)).detach().requires_grad_()
    t = torch.tensor([0.3, 0.3, 0.3], dtype=torch.float64)
    together = curvature_penalty(schedule.derivatives(t, lam), 1e-3)
    alone = torch.cat([curvature_penalty(schedule.derivatives(t[:1], lam[k : k + 1]), 1e-3) for k in range(3)])
    torch.testing.assert_close(together, alone)
    (gradient,) = torch.autograd.grad(together.sum(), lam)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(curvature_penalty(schedule.derivatives(t, lam[order]), 1e-3), together[order])


def test_lambda_of_a_tile_is_that_of_the_whole_image() -> None:
    schedule = random_schedule("learned", 11)
    image = torch.randn(1, 1, 61, 83, dtype=torch.float64)
    whole = schedule.condition(image)
    reach = schedule.receptive_field
    top, left = 3 * schedule.stride, 5 * schedule.stride
    tile = schedule.condition(image[..., top:57, left:77])
    inner = (slice(None), slice(None), slice(reach, 54 - top - reach), slice(reach, 74 - left - reach))
    torch.testing.assert_close(tile[inner], whole[..., top:, left:][inner], rtol=0, atol=1e-12)
    assert whole.shape == image.shape


def test_lambda_never_falls_below_its_bound() -> None:
    schedule = random_schedule("learned", 13)
    assert (schedule.condition(100 * random_condition(13)) >= 6).all()
    assert Schedule(ScheduleSpec(lambda_min=8.0)).condition(torch.zeros(1, 1, 4, 4)).min() >= 8


def test_reference_for_the_time_grid_depends_on_weights_only_and_is_lambda_of_a_flat_image() -> None:
    schedule = random_schedule("learned", 17)
    reference = schedule.reference_lambda()
    wide = schedule.condition(torch.zeros(1, 1, 200, 200, dtype=torch.float64)).detach()[..., 80:120, 80:120].mean()
    assert reference == pytest.approx(float(wide), abs=1e-9)
    ends = schedule.reference_gamma(np.array([0.0, 1.0]))
    assert ends[0] == 1.0 and ends[1] < 2.5e-3


def test_noise_level_given_to_the_network_rises_with_the_signal() -> None:
    for kind in KINDS:
        levels = Schedule(ScheduleSpec(kind=kind)).level(torch.linspace(0, 1, 20))  # type: ignore[arg-type]
        assert levels.isfinite().all()
        assert (levels.diff() < 0).all(), kind


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_to_bfloat16_changes_no_bit_of_the_schedule(kind: str) -> None:
    schedule = random_schedule(kind, 19).float()
    condition, t = random_condition(19).float(), torch.tensor([1e-4, 0.3, 0.97])

    def values() -> list[torch.Tensor]:
        lam = schedule.condition(condition)
        return [lam, *vars(schedule.derivatives(t, lam)).values(), schedule.gamma(0.01, lam), schedule.level(t)]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = values()
    for wanted, value in zip(values(), found, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)
