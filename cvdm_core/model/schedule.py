"""How fast the signal is turned to noise: gamma(t, x) = exp(-lambda(x) B(t)), for every pixel.

gamma is the signal power (1 = clean, 0 = noise), t runs from 0 to 1, lambda(x) > 0 is a map computed once from the condition, and B is
monotone with B(0) = 0 and B(1) = 1. With tau = B' known in closed form, beta = lambda tau satisfies d gamma/dt = -beta gamma identically:
the soft penalty of the published form (arXiv 2312.02246) is zero here and needs no second network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cvdm_core.model.networks import LambdaNetwork
from cvdm_core.model.spec import ScheduleSpec

GAMMA_FLOOR = 1e-9  # a higher floor makes steps of zero length where lambda is large, and multistep solvers divide by them
BERNSTEIN_DEGREE = 12
LINEAR_BETA = (0.1, 20.0)  # Ho et al. 2020, beta from 1e-4 to 0.02 over 1000 steps, in continuous time
LAMBDA_MAX = -math.log(GAMMA_FLOOR)  # keeps gamma above the floor without a clamp, so that its equation holds everywhere
LAMBDA_START = 3.0  # the network's zero is lambda_min + 5 % of what lies between lambda_min and LAMBDA_MAX
TIME_HIDDEN = 1024  # hidden units of each published time network


@dataclass(frozen=True)
class TimeValues:
    """B(t), its derivatives, and tau(t), all of the shape of t. tau equals `slope` except in the two-network form."""

    integral: Tensor
    slope: Tensor
    curve: Tensor
    tau: Tensor


@dataclass(frozen=True)
class Derivatives:
    """gamma and what the losses need of it; every field has the shape of lambda, (B, 1, H, W)."""

    gamma: Tensor
    beta: Tensor
    slope: Tensor
    """d gamma / dt"""
    curvature: Tensor
    """d2 gamma / dt2"""


def cosine_time(t: Tensor, lambda_: float) -> TimeValues:
    """Return B for which exp(-lambda B) = cos^2(angle t), the angle such that B(1) = 1 (Nichol & Dhariwal 2021, ending at finite noise)."""
    angle = math.acos(math.exp(-lambda_ / 2))
    tangent = torch.tan(angle * t)
    slope = 2 * angle * tangent / lambda_
    curve = 2 * angle**2 * (1 + tangent.square()) / lambda_
    return TimeValues(-2 * torch.cos(angle * t).log() / lambda_, slope, curve, slope)


def linear_time(t: Tensor) -> TimeValues:
    """Return B for a beta that grows linearly in t (Ho et al. 2020), scaled to B(1) = 1."""
    first, last = LINEAR_BETA
    total = (first + last) / 2
    slope = (first + (last - first) * t) / total
    curve = torch.full_like(t, (last - first) / total)
    return TimeValues((first * t + (last - first) * t.square() / 2) / total, slope, curve, slope)


class BernsteinTime(nn.Module):
    """B as a Bernstein polynomial with positive increments: monotone for any parameters, derivatives in closed form."""

    def __init__(self, lambda_start: float) -> None:
        super().__init__()
        knots = torch.linspace(0, 1, BERNSTEIN_DEGREE + 1, dtype=torch.float64)
        increments = cosine_time(knots, lambda_start).integral.diff()
        self.increments = nn.Parameter((increments / increments.sum()).log().float())
        for order in range(3):
            degree = BERNSTEIN_DEGREE - order
            weights = torch.tensor([math.comb(degree, k) for k in range(degree + 1)], dtype=torch.float32)
            self.register_buffer(f"binomial{order}", weights, persistent=False)

    def forward(self, t: Tensor) -> TimeValues:
        """Evaluate at t of any shape."""
        steps = self.increments.softmax(0)
        coefficients = F.pad(steps.cumsum(0), (1, 0))
        degree = BERNSTEIN_DEGREE
        integral = self._basis(t, 0) @ coefficients
        slope = degree * (self._basis(t, 1) @ steps)
        curve = degree * (degree - 1) * (self._basis(t, 2) @ steps.diff())
        return TimeValues(integral, slope, curve, slope)

    def _basis(self, t: Tensor, order: int) -> Tensor:
        """Return the Bernstein polynomials of degree n - order on a new last axis."""
        binomial = self.get_buffer(f"binomial{order}")
        k = torch.arange(len(binomial), device=t.device, dtype=t.dtype)
        return binomial.to(t.dtype) * t[..., None] ** k * (1 - t[..., None]) ** (len(binomial) - 1 - k)


class PublishedTime(nn.Module):
    """One published time network, N(t) = t (l + v . sigmoid(K l + c) + d), l = w t + b, with w, K, v >= 0 (casus/cvdm, time_model.py).

    The published K is a 3x3 convolution over a constant map; zero padding makes it differ at the borders of a tile, so it is a matrix here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))
        self.b = nn.Parameter(torch.tensor(0.0))
        self.d = nn.Parameter(torch.tensor(0.0))
        self.inner = nn.Parameter(torch.randn(TIME_HIDDEN))
        self.c = nn.Parameter(torch.randn(TIME_HIDDEN))
        self.v = nn.Parameter(torch.full((TIME_HIDDEN,), -6.0))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return N, N' and N'' at t of any shape."""
        w, v, inner = F.softplus(self.w), F.softplus(self.v), F.softplus(self.inner)
        line = w * t + self.b
        gate = torch.sigmoid(inner * line[..., None] + self.c)
        gate_slope = gate * (1 - gate)
        gate_curve = gate_slope * (1 - 2 * gate)
        value = line + gate @ v + self.d
        slope = w + gate_slope @ (v * inner * w)
        curve = gate_curve @ (v * (inner * w).square())
        return t * value, value + t * slope, 2 * slope + t * curve


class Schedule(nn.Module):
    """gamma(t, x) of one of four kinds; see `config.ScheduleSettings`.

    `lam` is what `condition` returns, (B, 1, H, W); t is a number or a tensor with one time for each sample, (B,).
    """

    def __init__(self, spec: ScheduleSpec) -> None:
        super().__init__()
        self.kind, self.stride = spec.kind, spec.stride
        self.curvature_weight = spec.curvature_weight
        self.fixed_lambda = sum(LINEAR_BETA) / 2 if spec.kind == "linear" else spec.lambda_min
        self.lambda_min = spec.lambda_min if spec.kind == "learned" else 0.0
        self.network = LambdaNetwork(spec.base_channels) if spec.kind in ("learned", "two_network") else None
        self.time = BernsteinTime(spec.lambda_min) if spec.kind == "learned" else None
        self.integral_net = PublishedTime() if spec.kind == "two_network" else None
        self.tau_net = PublishedTime() if spec.kind == "two_network" else None

    @property
    def receptive_field(self) -> int:
        """Distance in pixels at which the condition still matters to lambda."""
        return 0 if self.network is None else self.network.receptive_field

    def condition(self, x: Tensor) -> Tensor:
        """Return lambda for a condition x, both (B, 1, H, W). Always in the precision of the weights, whatever autocast says."""
        if self.network is None:
            return torch.full_like(x, self.fixed_lambda)
        with torch.autocast(x.device.type, enabled=False):
            raw: Tensor = self.network(x.to(self.network.first.weight.dtype))
            if self.kind == "two_network":
                return F.softplus(raw)
            return self.lambda_min + (LAMBDA_MAX - self.lambda_min) * torch.sigmoid(raw - LAMBDA_START)

    def gamma(self, t: Tensor | float, lam: Tensor) -> Tensor:
        """Return the signal power, (B, 1, H, W), between `GAMMA_FLOOR` and 1."""
        return _gamma(self._times(t, lam).integral, lam)

    def derivatives(self, t: Tensor | float, lam: Tensor) -> Derivatives:
        """Return gamma, beta and the first two derivatives of gamma, in closed form: gamma'' = gamma ((lambda B')^2 - lambda B'')."""
        times = self._times(t, lam)
        gamma, slope = _gamma(times.integral, lam), lam * times.slope
        return Derivatives(gamma, lam * times.tau, -slope * gamma, gamma * (slope.square() - lam * times.curve))

    def log_snr(self, gamma: Tensor) -> Tensor:
        """Return ln(gamma / (1 - gamma)), finite at both ends."""
        return gamma.log() - (1 - gamma).clamp(min=GAMMA_FLOOR).log()

    def reference_lambda(self) -> float:
        """Return lambda for a flat condition at the mean intensity: one number for all tiles, from the weights alone."""
        if self.network is None:
            return self.fixed_lambda
        with torch.no_grad():
            weight = self.network.first.weight
            flat = torch.zeros(1, 1, 12 * self.stride, 12 * self.stride, device=weight.device, dtype=weight.dtype)
            middle = slice(6 * self.stride, 7 * self.stride)
            return float(self.condition(flat)[..., middle, middle].double().mean())

    def level(self, t: Tensor) -> Tensor:
        """Return the global noise level of each sample, (B,): the log-SNR at the smallest lambda the schedule can have."""
        reference = self.fixed_lambda if self.kind != "two_network" else 1.0
        values = self._time_values(t)
        return self.log_snr(torch.exp(-reference * values.integral.clamp(min=0)).clamp(min=GAMMA_FLOOR))

    def reference_gamma(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return gamma at `reference_lambda` for an array of times; what a time grid is laid out on."""
        parameter = next(self.parameters(), torch.zeros(()))
        with torch.no_grad():
            times = torch.from_numpy(np.ascontiguousarray(t, dtype=np.float64)).to(parameter.device, parameter.dtype)
            integral = self._time_values(times).integral.double().clamp(min=0)
            gamma = torch.exp(-self.reference_lambda() * integral).clamp(min=GAMMA_FLOOR)
        result: NDArray[np.float64] = gamma.cpu().numpy()
        return result

    def _times(self, t: Tensor | float, lam: Tensor) -> TimeValues:
        times = torch.as_tensor(t, dtype=lam.dtype, device=lam.device)
        return self._time_values(times.reshape(-1, 1, 1, 1))

    def _time_values(self, t: Tensor) -> TimeValues:
        """Return B and its derivatives in the precision of t, whatever autocast says: 1 - gamma near t = 0 is nothing in bfloat16."""
        with torch.autocast(t.device.type, enabled=False):
            if self.time is not None:
                values: TimeValues = self.time(t)
                return values
            if self.integral_net is not None and self.tau_net is not None:
                integral, slope, curve = self.integral_net(t)
                return TimeValues(integral, slope, curve, tau=self.tau_net(t)[0])
            return linear_time(t) if self.kind == "linear" else cosine_time(t, self.fixed_lambda)


def _gamma(integral: Tensor, lam: Tensor) -> Tensor:
    return torch.exp(-lam * integral.clamp(min=0)).clamp(min=GAMMA_FLOOR)
