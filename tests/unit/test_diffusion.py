"""Forward process, loss, and the model as others use it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cvdm_core.config import ModelSettings
from cvdm_core.errors import UserError
from cvdm_core.model import DenoiserSpec, ModelSpec, Restorer, ScheduleSpec, autocast, build_model, resolve_precision
from cvdm_core.model.diffusion import diffuse, prior_divergence, stratified_times

TINY = ModelSpec(denoiser=DenoiserSpec(base_channels=4), schedule=ScheduleSpec(base_channels=4), residual_std=0.3)
CPU = torch.device("cpu")


def pair(batch: int = 4, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(batch, 1, size, size, generator=generator)
    return condition, condition + 0.3 * torch.randn(batch, 1, size, size, generator=generator)


class Oracle(torch.nn.Module):
    """Stands in for the denoiser and knows the clean residual: v or epsilon without error."""

    stride = 8
    receptive_field = 0

    def __init__(self, clean: torch.Tensor, prediction: str) -> None:
        super().__init__()
        self.clean, self.prediction = clean, prediction

    def forward(self, z: torch.Tensor, condition: torch.Tensor, log_snr: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        gamma = torch.sigmoid(log_snr)
        noise = (z - gamma.sqrt() * self.clean) / (1 - gamma).sqrt()
        return noise if self.prediction == "epsilon" else gamma.sqrt() * noise - (1 - gamma).sqrt() * self.clean


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
@pytest.mark.parametrize("kind", ["learned", "two_network", "cosine", "linear"])
def test_a_perfect_denoiser_has_no_noise_loss_and_gives_the_clean_residual_back(prediction: str, kind: str) -> None:
    spec = replace(TINY, prediction=prediction, schedule=replace(TINY.schedule, kind=kind))  # type: ignore[arg-type]
    model = build_model(spec, 0).double().requires_grad_(False)
    condition, target = (image.double() for image in pair())
    clean = (target - condition) / spec.residual_std
    model.denoiser = Oracle(clean, prediction)  # type: ignore[assignment]
    assert float(model.loss(condition, target, torch.Generator().manual_seed(1))["noise"]) < 1e-9
    lam = model.schedule.condition(condition)
    for t in (0.1, 0.5, 0.9):
        gamma = model.schedule.gamma(t, lam)
        z = diffuse(clean, torch.randn(clean.shape, dtype=torch.float64), gamma)
        torch.testing.assert_close(model.predict_x0(z, condition, lam, t), clean, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.restore(condition, clean), target)


def test_forward_process_keeps_the_power_that_gamma_says() -> None:
    gamma = torch.tensor([0.0, 0.3, 1.0]).reshape(3, 1, 1, 1)
    clean, noise = torch.full((3, 1, 200, 200), 2.0), torch.randn(3, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    z = diffuse(clean, noise, gamma)
    torch.testing.assert_close(z.mean((1, 2, 3)), 2 * gamma.flatten().sqrt(), atol=0.03, rtol=0)
    torch.testing.assert_close(z.var((1, 2, 3)), 1 - gamma.flatten(), atol=0.03, rtol=0)
    assert torch.equal(z[2], clean[2]) and torch.equal(z[0], noise[0])


def test_prior_is_the_divergence_from_the_standard_normal_of_each_sample() -> None:
    clean, gamma = torch.randn(3, 1, 4, 4), torch.rand(3, 1, 4, 4) * 0.5
    exact = kl_divergence(Normal(gamma.sqrt() * clean, (1 - gamma).sqrt()), Normal(0.0, 1.0))
    torch.testing.assert_close(prior_divergence(clean, gamma), exact.mean((1, 2, 3)))
    assert prior_divergence(clean, torch.zeros_like(gamma)).abs().max() == 0


def test_times_fill_every_stratum_once() -> None:
    times = stratified_times(10, torch.Generator().manual_seed(3), CPU)
    assert torch.equal((times * 10).floor(), torch.arange(10.0))
    assert (times >= 0).all() and (times < 1).all()
    assert not torch.equal(times, stratified_times(10, torch.Generator().manual_seed(4), CPU))


@pytest.mark.parametrize("kind", ["learned", "two_network"])
def test_every_parameter_learns_and_the_parts_add_up_with_the_published_weights(kind: str) -> None:
    model = build_model(replace(TINY, schedule=replace(TINY.schedule, kind=kind)), 0)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    parts = model.loss(*pair(), torch.Generator().manual_seed(0))
    rules = sum(parts[name] for name in ("prior", "boundary", "equation", "curvature"))
    torch.testing.assert_close(parts["loss"], parts["noise"] + 2 * rules)
    parts["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_the_loss_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    model = build_model(TINY, 0)
    first, again, other = (model.loss(*pair(), torch.Generator().manual_seed(seed))["loss"].item() for seed in (5, 5, 6))
    assert first == again != other


def test_regression_learns_the_residual_with_the_same_network_and_no_schedule() -> None:
    model = build_model(replace(TINY, objective="regression"), 0)
    assert all(name.startswith("denoiser.") for name, _ in model.named_parameters())
    condition, target = pair()
    clean = (target - condition) / TINY.residual_std
    torch.testing.assert_close(model.loss(condition, target)["loss"], (model.regress(condition) - clean).square().mean())
    torch.testing.assert_close(model.loss(condition, target)["loss"], clean.square().mean())  # before training the residual is zero


def test_training_lowers_the_loss() -> None:
    model = build_model(TINY, 0)
    generator = torch.Generator().manual_seed(0)
    condition = torch.randn(8, 1, 16, 16, generator=generator)
    target = condition + 0.3 * torch.sign(condition)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(condition, target, generator)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_weights_come_from_the_seed_and_leave_the_global_random_state_alone() -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first, again, other = build_model(TINY, 1), build_model(TINY, 1), build_model(TINY, 2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.denoiser.enter.weight, other.denoiser.enter.weight)


def test_a_model_works_on_any_size_and_in_any_batch() -> None:
    model = build_model(TINY, 0).requires_grad_(False)
    for size in ((1, 1), (13, 30), (16, 16)):
        image = torch.randn(2, 1, *size)
        lam = model.schedule.condition(image)
        assert model.predict_x0(image, image, lam, 0.5).shape == image.shape
        per_sample = model.predict_x0(image, image, lam, torch.tensor([0.5, 0.2]))
        torch.testing.assert_close(per_sample[:1], model.predict_x0(image, image, lam, 0.5)[:1], atol=1e-5, rtol=1e-4)


def test_lambda_is_computed_in_full_precision_under_autocast() -> None:
    model, image = build_model(TINY, 0).requires_grad_(False), torch.randn(1, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        lam = model.schedule.condition(image)
        estimate = model.predict_x0(image, image, lam, 0.5)
    assert torch.equal(lam, model.schedule.condition(image))
    assert estimate.dtype == torch.float32


def test_float32_on_a_gpu_is_neither_tf32_nor_another_sum_each_time() -> None:
    cudnn = torch.backends.cudnn
    with autocast(torch.device("cuda"), torch.float32):
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    with autocast(CPU, torch.bfloat16):
        assert torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)).dtype == torch.bfloat16


def test_the_default_description_is_that_of_the_default_configuration_and_survives_a_round_trip() -> None:
    assert ModelSpec.from_dict(ModelSettings().model_dump(mode="json")) == ModelSpec()
    other = replace(TINY, objective="regression", denoiser=DenoiserSpec(multipliers=(1, 2, 4), norm="none"))
    assert ModelSpec.from_dict(other.to_dict()) == other
    with pytest.raises(UserError, match="there is no key 'attention'"):
        ModelSpec.from_dict({"denoiser": {"attention": True}})


def test_the_model_needs_torch_and_numpy_only_and_the_package_nothing_until_it_is_used() -> None:
    program = (
        "import sys, cvdm_core.model as m; assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "m.Restorer, m.NoiseField, m.draw;"
        "heavy = {'pydantic', 'lightning', 'zarr', 'xarray', 'pandas', 'scipy', 'skimage', 'yaml'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert Restorer.__module__ == "cvdm_core.model.diffusion"


def test_auto_precision_takes_bfloat16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for abilities, expected in (
        ({"avx2": True}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda abilities=abilities: abilities)
        assert resolve_precision("auto", CPU) == expected
        assert resolve_precision("float32", CPU) == torch.float32
    with pytest.raises(ValueError, match="none of auto"):
        resolve_precision("half", CPU)
