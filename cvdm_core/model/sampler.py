"""Samplers: from pure noise to a clean residual along any grid of times.

Each sampler is a pure function that reads like its algorithm. It is told how to predict (`predict_x0`), how strong the signal is (`gamma`)
and which noise to add (`noise`), so the same lines serve a single tensor and a region stepped tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Predict = Callable[[Tensor, int], Tensor]
"""(z, index of the time) -> clean estimate, both of the shape of z."""
Gamma = Callable[[float], Tensor]
"""time -> signal power of every pixel."""
Noise = Callable[[int], Tensor]
"""step -> standard normal noise; step 0 is where sampling starts, step k is added on arriving at times[k]."""

SMALLEST = 1e-9
GRID_RESOLUTION = 8192


def time_grid(steps: int, gamma: Callable[[NDArray[np.float64]], NDArray[np.float64]], kind: str = "cos") -> list[float]:
    """Return `steps` + 1 decreasing times, from 1 to 0.

    Parameters
    ----------
    steps : int
        Number of evaluations of the network.
    gamma : callable
        Monotone signal power for an array of times, such as `Schedule.reference_gamma`; never that of one tile.
    kind : {"cos", "t"}
        "cos": gamma = cos^2(angle) with equal steps of the angle. "t": equal steps of t.

    Raises
    ------
    ValueError
        If `steps` is not positive or `kind` is unknown.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: at least one step is needed")
    if kind == "t":
        return [1 - k / steps for k in range(steps + 1)]
    if kind != "cos":
        raise ValueError(f"time grid {kind!r} is neither 'cos' nor 't'")
    fine = np.linspace(0.0, 1.0, GRID_RESOLUTION + 1)
    angle = np.maximum.accumulate(np.arccos(np.sqrt(np.clip(gamma(fine), 0.0, 1.0))))
    wanted = np.linspace(angle[-1], angle[0], steps + 1)
    times = np.interp(wanted, angle, fine)
    times[0], times[-1] = 1.0, 0.0
    return [float(t) for t in times]


def draw(predict_x0: Predict, gamma: Gamma, times: Sequence[float], noise: Noise, method: str = "ancestral") -> Tensor:
    """Draw one clean residual.

    Parameters
    ----------
    predict_x0 : callable (z, k) -> Tensor
        Clean estimate from z at `times[k]`.
    gamma : callable (t) -> Tensor
        Signal power, broadcastable to z; 1 at t = 0.
    times : sequence of float
        Decreasing, from 1 to 0.
    noise : callable (step) -> Tensor
        Standard normal noise of the shape of z.
    method : {"ancestral", "ddim", "dpmpp_2m"}

    Raises
    ------
    ValueError
        If `method` is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"sampler {method!r} is none of {', '.join(METHODS)}")
    return METHODS[method](predict_x0, gamma, times, noise)


def ancestral(predict_x0: Predict, gamma: Gamma, times: Sequence[float], noise: Noise) -> Tensor:
    """Ancestral sampling: the posterior q(z_s | z_t, x0) of DDPM (Ho et al. 2020, eq. 6-7), for any s < t and gamma of every pixel."""
    z = noise(0)
    here = gamma(times[0])
    for k in range(len(times) - 1):
        there = gamma(times[k + 1])
        clean = predict_x0(z, k)
        alpha = (here / there).clamp(max=1)
        rest = (1 - here).clamp(min=SMALLEST)
        z = (alpha.sqrt() * (1 - there) / rest) * z + (there.sqrt() * (1 - alpha) / rest) * clean
        if times[k + 1] > 0:
            z = z + ((1 - there) * (1 - alpha) / rest).sqrt() * noise(k + 1)
        here = there
    return z


def ddim(predict_x0: Predict, gamma: Gamma, times: Sequence[float], noise: Noise) -> Tensor:
    """DDIM: the deterministic sampler of Song, Meng & Ermon 2021, eq. 12 with sigma = 0."""
    z = noise(0)
    here = gamma(times[0])
    for k in range(len(times) - 1):
        there = gamma(times[k + 1])
        clean = predict_x0(z, k)
        epsilon = (z - here.sqrt() * clean) / (1 - here).clamp(min=SMALLEST).sqrt()
        z = there.sqrt() * clean + (1 - there).clamp(min=0).sqrt() * epsilon
        here = there
    return z


def dpmpp_2m(predict_x0: Predict, gamma: Gamma, times: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2M): second order, multistep, in half the log-SNR (Lu et al. 2022, arXiv 2211.01095, algorithm 2)."""
    z = noise(0)
    here = gamma(times[0])
    before: Tensor | None = None
    last_length = torch.zeros_like(here)
    for k in range(len(times) - 1):
        there = gamma(times[k + 1])
        clean = predict_x0(z, k)
        decay = (here * (1 - there) / (there * (1 - here).clamp(min=SMALLEST))).clamp(max=1).sqrt()  # exp(-h)
        length = -decay.clamp(min=SMALLEST).log()
        estimate = clean
        if before is not None and times[k + 1] > 0:  # the last step is infinitely long: first order
            ratio = torch.where(last_length > 1e-6, length / last_length.clamp(min=1e-6), torch.zeros_like(length))
            estimate = clean + ratio / 2 * (clean - before)
        z = ((1 - there) / (1 - here).clamp(min=SMALLEST)).clamp(min=0).sqrt() * z + there.sqrt() * (1 - decay) * estimate
        here, before, last_length = there, clean, length
    return z


METHODS: dict[str, Callable[[Predict, Gamma, Sequence[float], Noise], Tensor]] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "dpmpp_2m": dpmpp_2m,
}
