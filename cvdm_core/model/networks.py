"""The two networks: the denoiser, and the small one for lambda(x).

Both are local and agree between tiles: no statistic is taken over space, so a pixel of the result depends only on the pixels within the
receptive field, and windows whose origins are multiples of the stride give the same numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvdm_core.model.spec import LAMBDA_UNSHUFFLE, DenoiserSpec

LEVEL_FREQUENCIES = 8
EMBEDDING = 64
TAIL_CHANNELS = 8
Interval = tuple[int, int]


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of a (B, C, H, W) image until both sides are multiples of `multiple`."""
    bottom, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    if not (bottom or right):
        return image
    padded: Tensor = F.pad(image, (0, right, 0, bottom), mode="replicate")
    return padded


class _ChannelRMS(torch.autograd.Function):
    """x / rms(x over channels), with the backward pass written out: three times cheaper than autograd through the same formula."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        inverse: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_().div_(x.shape[1]).add_(1e-6).rsqrt_()
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        y, inverse = ctx.saved_tensors
        along = (grads[0] * y).mean(dim=1, keepdim=True)
        return torch.addcmul(grads[0], y, along, value=-1).mul_(inverse)


def _channels_last(module: nn.Module) -> None:
    """Store the convolutions' weights channels last, which is what makes them fast on CPUs and on tensor cores."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class Block(nn.Module):
    """A residual block: per-pixel norm, 3x3 convolution, noise level (scale and shift), SiLU, 3x3 convolution.

    One activation a block, as in EDSR (Lim et al. 2017): on a CPU activations and norms cost as much as a third of the convolutions.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.normalised = norm == "channel"
        self.level = nn.Linear(EMBEDDING, 2 * channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.level.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape, given the (B, EMBEDDING) noise level."""
        normalised: Tensor = _ChannelRMS.apply(x) if self.normalised else x  # type: ignore[no-untyped-call]
        h = self.first(normalised)
        scale, shift = self.level(embedding).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
        result: Tensor = x + self.second(F.silu(torch.addcmul(shift, h, 1 + scale)))
        return result


class Denoiser(nn.Module):
    """A U-Net behind a pixel-unshuffle, with additive skips and a small full-resolution tail.

    Inputs (B, 1, H, W): the noisy residual `z`, the condition, the log-SNR of every pixel; and the (B,) global noise level. Output
    (B, 1, H, W): v or epsilon, as trained. Any H and W.
    """

    def __init__(self, spec: DenoiserSpec) -> None:
        super().__init__()
        widths = [spec.base_channels * factor for factor in spec.multipliers]
        self.unshuffle, self.stride = spec.unshuffle, spec.stride
        self.register_buffer("frequencies", torch.arange(1, LEVEL_FREQUENCIES + 1) * (math.pi / 8), persistent=False)
        self.embed = nn.Sequential(nn.Linear(2 * LEVEL_FREQUENCIES + 1, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU())
        self.enter = nn.Conv2d(3 * spec.unshuffle**2, widths[0], 3, padding=1)
        self.inward = nn.ModuleList(Block(width, spec.norm) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.outward = nn.ModuleList(Block(width, spec.norm) for width in widths)
        self.leave = nn.Conv2d(widths[0], TAIL_CHANNELS * spec.unshuffle**2, 1)
        self.tail = nn.Conv2d(TAIL_CHANNELS + 3, TAIL_CHANNELS, 3, padding=1)
        self.last = nn.Conv2d(TAIL_CHANNELS, 1, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        _channels_last(self)

    def forward(self, z: Tensor, condition: Tensor, log_snr: Tensor, level: Tensor) -> Tensor:
        """Return the prediction for every pixel; `level` is the log-SNR at a fixed reference lambda, one number a sample."""
        height, width = z.shape[-2:]
        full = torch.cat([z, condition, log_snr / 6], dim=1)
        full = pad_to_multiple(full, self.stride).contiguous(memory_format=torch.channels_last)
        embedding = self._embedding(level)
        h = self.enter(F.pixel_unshuffle(full, self.unshuffle).contiguous(memory_format=torch.channels_last))
        skips = []
        for index, block in enumerate(self.inward):
            h = block(h, embedding)
            if index < len(self.down):
                skips.append(h)
                h = self.down[index](h)
        for index in reversed(range(len(self.outward))):
            if index < len(self.down):
                h = skips[index] + F.interpolate(self.up[index](h), scale_factor=2.0, mode="nearest")
            h = self.outward[index](h, embedding)
        h = F.pixel_shuffle(self.leave(F.silu(h)), self.unshuffle)
        h = torch.cat([h, full.to(h.dtype)], dim=1).contiguous(memory_format=torch.channels_last)
        result: Tensor = self.last(F.silu(self.tail(h)))
        return result[..., :height, :width]

    def _embedding(self, level: Tensor) -> Tensor:
        position = (level / 6)[:, None]
        angles = position * self.get_buffer("frequencies")
        result: Tensor = self.embed(torch.cat([position, angles.sin(), angles.cos()], dim=1))
        return result

    @property
    def receptive_field(self) -> int:
        """Largest distance in pixels at which an input pixel still matters, whatever the output pixel's place in the stride."""
        reach = 0
        for pixel in range(8 * self.stride, 9 * self.stride):
            low, high = self._needed((pixel, pixel))
            reach = max(reach, pixel - low, high - pixel)
        return reach

    def _needed(self, output: Interval) -> Interval:
        """Walk from an output interval back to the input interval it is computed from, along one axis."""
        low, high = output[0] - 2, output[1] + 2  # last, tail
        low, high = low // self.unshuffle, high // self.unshuffle
        for _ in self.down:  # the outward block of this level (two 3x3), then the nearest-neighbour step to the coarser level
            low, high = (low - 2) // 2, (high + 2) // 2
        low, high = low - 4, high + 4  # both blocks of the coarsest level
        for _ in self.down:  # the strided 3x3, then the inward block of the finer level
            low, high = 2 * low - 1 - 2, 2 * high + 1 + 2
        low, high = low - 1, high + 1  # enter
        return low * self.unshuffle, high * self.unshuffle + self.unshuffle - 1


class LambdaNetwork(nn.Module):
    """A few convolutions at a quarter of the resolution: condition (B, 1, H, W) to an unbounded (B, 1, H, W) map."""

    stride = LAMBDA_UNSHUFFLE
    receptive_field = 3 * LAMBDA_UNSHUFFLE - 1  # two 3x3 at a quarter of the resolution, from the far side of a cell

    def __init__(self, channels: int) -> None:
        super().__init__()
        cell = LAMBDA_UNSHUFFLE**2
        self.first = nn.Conv2d(cell, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, cell, 1)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
        _channels_last(self)

    def forward(self, condition: Tensor) -> Tensor:
        """Return the map before the softplus that makes it lambda."""
        height, width = condition.shape[-2:]
        h = F.pixel_unshuffle(pad_to_multiple(condition, self.stride), self.stride).contiguous(memory_format=torch.channels_last)
        h = self.last(F.silu(self.second(F.silu(self.first(h)))))
        return F.pixel_shuffle(h, self.stride)[..., :height, :width]
