"""The forward process, the training loss and the model that ties the networks together.

z_t = sqrt(gamma) r + sqrt(1 - gamma) epsilon, elementwise, where r = (target - condition) / residual_std is the residual to restore.
Notation after arXiv 2312.02246; v after Salimans & Ho 2022: v = sqrt(gamma) epsilon - sqrt(1 - gamma) r.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvdm_core.model.networks import Denoiser
from cvdm_core.model.sampler import time_grid
from cvdm_core.model.schedule import GAMMA_FLOOR, Derivatives, Schedule
from cvdm_core.model.spec import ModelSpec, ScheduleSpec

SCHEDULE_WEIGHT = 2.0  # published weight of prior, boundary + equation, and curvature terms, against 1 for the noise term


def diffuse(clean: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """Return z_t; all of one shape."""
    return gamma.sqrt() * clean + (1 - gamma).sqrt() * noise


def stratified_times(count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Return `count` times in [0, 1), one in each of `count` equal strata, from one random shift (Kingma et al. 2021)."""
    shift = torch.rand((), generator=generator, device=device)
    return (torch.arange(count, device=device) + shift) / count


def prior_divergence(clean: Tensor, gamma_end: Tensor) -> Tensor:
    """Return KL(q(z_1 | x) || N(0, 1)) of each sample, (B,), averaged over pixels. (The published code has the two arguments reversed.)"""
    variance = (1 - gamma_end).clamp(min=GAMMA_FLOOR)
    divergence = (variance + gamma_end * clean.square() - 1 - variance.log()) / 2
    return divergence.flatten(1).mean(1)


def equation_penalty(values: Derivatives) -> Tensor:
    """Return the mean square of d gamma/dt + beta gamma of each sample, (B,); zero by construction except in the two-network form."""
    return (values.slope + values.beta * values.gamma).square().flatten(1).mean(1)


def curvature_penalty(values: Derivatives, weight: float) -> Tensor:
    """Return L_gamma = weight * mean over pixels of (d2 gamma/dt2)^2, for each sample on its own, (B,)."""
    return weight * values.curvature.square().flatten(1).mean(1)


class Restorer(nn.Module):
    """The model: a schedule and a denoiser, on normalised images (B, 1, H, W) of any size.

    `condition` is the normalised input on the target's grid. Everything called z or clean is a residual divided by `residual_std`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.residual_std = spec.residual_std
        # Regression has no schedule to learn: unused parameters would stop DDP.
        self.schedule = Schedule(spec.schedule if spec.objective == "diffusion" else ScheduleSpec(kind="cosine"))
        self.denoiser = Denoiser(spec.denoiser)

    @property
    def receptive_field(self) -> int:
        """One-sided reach of one denoising step on the target grid [pixels], with lambda given; also covers lambda's own reach."""
        return max(self.denoiser.receptive_field, self.schedule.receptive_field)

    @property
    def stride(self) -> int:
        """Tiles whose origins are multiples of this many pixels agree with the whole image."""
        return self.spec.stride

    def is_finite(self) -> bool:
        """Whether every weight is a number; one that is not makes NaN of whole images."""
        return bool(torch.stack([weights.isfinite().all() for weights in self.parameters()]).all())

    def times(self, steps: int) -> list[float]:
        """Return the default grid of `steps` + 1 times from 1 down to 0; it depends on the weights, never on an image."""
        return time_grid(steps, self.schedule.reference_gamma)

    def predict_x0(self, z: Tensor, condition: Tensor, lam: Tensor, t: Tensor | float) -> Tensor:
        """Return the clean residual estimated from z at time t > 0, in units of z, float32.

        Parameters
        ----------
        z, condition, lam : Tensor, (B, 1, H, W)
            `lam` from `schedule.condition` over the whole region, cropped with z.
        t : float or Tensor (B,)
        """
        gamma = self.schedule.gamma(t, lam)
        output = self._network(z, condition, gamma, t)
        if self.spec.prediction == "v":
            return gamma.sqrt() * z - (1 - gamma).sqrt() * output
        return (z - (1 - gamma).sqrt() * output) / gamma.sqrt()

    def regress(self, condition: Tensor) -> Tensor:
        """Return the residual, in units of z, of a model trained with `objective: regression`."""
        nothing = torch.zeros_like(condition)
        return self._network(nothing, condition, torch.full_like(condition, GAMMA_FLOOR), 1.0)

    def restore(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return the normalised image from a clean residual in units of z."""
        return condition + self.residual_std * residual

    def loss(self, condition: Tensor, target: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the training loss and its parts, scalars averaged over samples.

        Parameters
        ----------
        condition, target : Tensor, (B, 1, H, W)
            Normalised, on the same grid.
        generator : torch.Generator, optional
            Source of times and noise, on the device of the images.

        Returns
        -------
        dict
            `loss`, and its parts `noise`, `prior`, `boundary`, `equation`, `curvature` (unweighted; regression has `loss` only).
        """
        clean = (target - condition) / self.residual_std
        if self.spec.objective == "regression":
            return {"loss": (self.regress(condition) - clean).square().mean()}
        t = stratified_times(len(clean), generator, clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        lam = self.schedule.condition(condition)
        values = self.schedule.derivatives(t, lam)
        gamma_end = self.schedule.gamma(1.0, lam)
        output = self._network(diffuse(clean, noise, values.gamma), condition, values.gamma, t)
        wanted = noise if self.spec.prediction == "epsilon" else diffuse(noise, -clean, values.gamma)
        # gamma(0) = 1 holds in every form, since B(0) = 0; what is left of the boundary conditions is gamma(1) = 0.
        parts = {
            "noise": (output - wanted).square().flatten(1).mean(1),
            "prior": prior_divergence(clean, gamma_end),
            "boundary": gamma_end.square().flatten(1).mean(1),
            "equation": equation_penalty(values),
            "curvature": curvature_penalty(values, self.schedule.curvature_weight),
        }
        means = {name: value.mean() for name, value in parts.items()}
        rules = means["prior"] + means["boundary"] + means["equation"] + means["curvature"]
        return {"loss": means["noise"] + SCHEDULE_WEIGHT * rules, **means}

    def _network(self, z: Tensor, condition: Tensor, gamma: Tensor, t: Tensor | float) -> Tensor:
        times = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z))
        level = self.schedule.level(times)
        output: Tensor = self.denoiser(z, condition, self.schedule.log_snr(gamma), level)
        return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output


def build_model(spec: ModelSpec, seed: int) -> Restorer:
    """Return a model with weights drawn from `seed`, leaving torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Restorer(spec)
