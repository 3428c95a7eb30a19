"""How much faster a sample is drawn than by the published procedure, with the same denoiser, in one run.

Published (casus/cvdm, inference_utils.py): 200 steps, and at each the schedule network is evaluated again: a U-Net of 32 base filters with
four pools for lambda, and two time networks of 1024 hidden maps. Here: lambda once, and the default number of steps. Untrained weights
take as long as trained ones. Both procedures run to their end; nothing is extrapolated but the area. Times are processor seconds.

    python benchmarks/sampling_speed.py --edge 128
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from cvdm_core.config import SamplingSettings
from cvdm_core.model import ModelSpec, NoiseField, Restorer, build_model, draw

PUBLISHED_STEPS = 200
REPETITIONS = 3


def convolution(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.Softplus(), nn.InstanceNorm2d(outside, affine=True))


class PublishedUNet(nn.Module):
    """The published U-Net for lambda (unet.py): channels 1, 2, 4, 8 -> 16, 16 times the base, transposed convolutions 512 to 64.

    11.5 million parameters against the 14.4 million counted in the published network: the ratio errs on the low side.
    """

    def __init__(self, base: int = 32) -> None:
        super().__init__()
        widths = [base, 2 * base, 4 * base, 16 * base]
        self.level = nn.Sequential(nn.Conv2d(1, base, 7, padding=3), nn.Softplus())
        inner = [1, *widths[:-1]]
        middle = [base, 2 * base, 4 * base, 8 * base]
        self.inward = nn.ModuleList(
            nn.Sequential(convolution(a, b), convolution(b, c)) for a, b, c in zip(inner, middle, widths, strict=True)
        )
        self.bottom = nn.Sequential(convolution(16 * base, 16 * base), convolution(16 * base, 16 * base))
        below = [16 * base, *reversed(middle[1:])]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 2, stride=2), nn.Softplus(), nn.Conv2d(b, c, 2, padding="same"), nn.Softplus())
            for a, b, c in zip(below, (512, 256, 128, 64), reversed(middle), strict=True)
        )
        self.outward = nn.ModuleList(
            nn.Sequential(convolution(a + b, a), convolution(a, a)) for a, b in zip(reversed(middle), reversed(widths), strict=True)
        )
        self.last = nn.Sequential(convolution(base, base), nn.Conv2d(base, 1, 1))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Map (B, 1, H, W) to the same shape; sides are multiples of 16."""
        skips = []
        h = x
        for index, block in enumerate(self.inward):
            h = block[1](block[0](h) + self.level(level)) if index == 0 else block(h)
            skips.append(h)
            h = nn.functional.max_pool2d(h, 2)
        h = self.bottom(h)
        for up, outward, skip in zip(self.up, self.outward, reversed(skips), strict=True):
            h = outward(torch.cat([up(h), skip], dim=1))
        result: Tensor = self.last(h)
        return result


class PublishedTimeNetwork(nn.Module):
    """The published network of time on a constant map (time_model.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.hidden, self.out = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1024, 3, padding=1), nn.Conv2d(1024, 1, 1)

    def forward(self, t: Tensor) -> Tensor:
        """Map a (B, 1, H, W) map of the time to the same shape."""
        line = self.line(t)
        result: Tensor = t * (line + self.out(torch.sigmoid(self.hidden(line))))
        return result


class PublishedSchedule(nn.Module):
    """lambda(x) and both time networks, evaluated together as published (variance_model.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.lambda_, self.tau, self.integral = PublishedUNet(), PublishedTimeNetwork(), PublishedTimeNetwork()

    def forward(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Return beta and gamma."""
        times = torch.full_like(x, t)
        lam = nn.functional.softplus(self.lambda_(x, x))
        return lam * self.tau(times).abs(), torch.exp(-lam * self.integral(times).abs()).clamp(1e-6, 1 - 1e-5)


def noise_of(condition: Tensor, step: int) -> Tensor:
    place = slice(0, condition.shape[-1])
    return torch.from_numpy(NoiseField(0, "benchmark", "0").normal(0, step, 0, 0, place, place))[None, None]


def ours(model: Restorer, condition: Tensor) -> Tensor:
    """lambda once, the default steps and sampler."""
    settings = SamplingSettings()
    times = model.times(settings.steps)
    lam = model.schedule.condition(condition)
    return draw(
        lambda z, k: model.predict_x0(z, condition, lam, times[k]),
        lambda t: model.schedule.gamma(t, lam),
        times,
        lambda step: noise_of(condition, step),
        settings.method,
    )


def published(schedule: PublishedSchedule, model: Restorer, condition: Tensor) -> Tensor:
    """200 steps with the schedule at each: gamma from the cumulated 1 - beta / T, then an ancestral step."""
    times = [1 - k / PUBLISHED_STEPS for k in range(PUBLISHED_STEPS + 1)]
    kept = [torch.ones_like(condition)]
    for t in reversed(times[:-1]):
        beta, _ = schedule(condition, t)
        kept.append(kept[-1] * (1 - beta / PUBLISHED_STEPS).clamp(1e-6, 1 - 1e-5))
    gammas = dict(zip(reversed(times), kept, strict=True))
    lam = torch.full_like(condition, model.schedule.fixed_lambda)
    return draw(
        lambda z, k: model.predict_x0(z, condition, lam, times[k]),
        lambda t: gammas[t],
        times,
        lambda step: noise_of(condition, step),
        "ancestral",
    )


def main() -> None:
    """Time both, print seconds a megapixel and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=128, help="edge of the image, a multiple of 16 [pixels]")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = build_model(ModelSpec(), 0).eval().requires_grad_(False)
    schedule = PublishedSchedule().eval().requires_grad_(False)
    condition = torch.randn(1, 1, options.edge, options.edge, generator=torch.Generator().manual_seed(0))
    for name, part in (("denoiser", model.denoiser), ("published schedule", schedule), ("schedule here", model.schedule)):
        print(f"{name}: {sum(parameter.numel() for parameter in part.parameters()):,} parameters")
    ours(model, condition)  # warm up
    schedule(condition, 0.5)
    begin = time.process_time()
    for _ in range(REPETITIONS):
        ours(model, condition)
    fast = (time.process_time() - begin) / REPETITIONS
    begin = time.process_time()
    published(schedule, model, condition)
    slow = time.process_time() - begin
    area = options.edge**2 / 1e6
    print(f"published procedure, {PUBLISHED_STEPS} steps: {slow / area:9.1f} CPU seconds a megapixel")
    print(f"lambda once, {SamplingSettings().steps} steps:        {fast / area:9.2f} CPU seconds a megapixel")
    print(f"ratio: {slow / fast:.0f}")


if __name__ == "__main__":
    main()
