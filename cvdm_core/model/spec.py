"""What a model is made of, as plain data: enough to build it again from its folder, without the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from cvdm_core.errors import UserError

Objective = Literal["diffusion", "regression"]
Prediction = Literal["v", "epsilon"]
ScheduleKind = Literal["learned", "two_network", "cosine", "linear"]
Norm = Literal["channel", "none"]

LAMBDA_UNSHUFFLE = 4
"""Pixels along an edge that the network of lambda takes as one."""


@dataclass(frozen=True)
class DenoiserSpec:
    """The denoising network; the keys mean what `config.DenoiserSettings` says."""

    base_channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    unshuffle: int = 2
    norm: Norm = "channel"

    @property
    def stride(self) -> int:
        """Windows whose origins are multiples of this many pixels see the same grid of pixels."""
        return int(self.unshuffle * 2 ** (len(self.multipliers) - 1))


@dataclass(frozen=True)
class ScheduleSpec:
    """The noise schedule; the keys mean what `config.ScheduleSettings` says."""

    kind: ScheduleKind = "learned"
    base_channels: int = 8
    curvature_weight: float = 1e-3
    lambda_min: float = 14.0

    @property
    def stride(self) -> int:
        """Windows of the condition whose origins are multiples of this agree on lambda."""
        return LAMBDA_UNSHUFFLE if self.kind in ("learned", "two_network") else 1


@dataclass(frozen=True)
class ModelSpec:
    """The whole model. `residual_std` is the standard deviation of (target - condition) over the training set, in normalised units."""

    objective: Objective = "diffusion"
    prediction: Prediction = "v"
    denoiser: DenoiserSpec = field(default_factory=DenoiserSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    residual_std: float = 1.0

    @property
    def stride(self) -> int:
        """Tiles whose origins are multiples of this many pixels agree with the whole image."""
        # Regression has no schedule.
        return math.lcm(self.denoiser.stride, self.schedule.stride if self.objective == "diffusion" else 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Build the description from nested plain values: `to_dict()` of another one, or `ModelSettings.model_dump()`.

        The two keys of `ModelSettings` that say where a model lies and which grid it serves (`name`, `scale`) are not part of the network
        and are left out.

        Raises
        ------
        UserError
            If a key is unknown, as in a model folder that a newer version wrote.
        """
        own = {key: value for key, value in values.items() if key not in ("name", "scale")}
        denoiser = dict(own.pop("denoiser", {}))
        if "multipliers" in denoiser:
            denoiser["multipliers"] = tuple(int(factor) for factor in denoiser["multipliers"])
        schedule = dict(own.pop("schedule", {}))
        for given, kind in ((own, cls), (denoiser, DenoiserSpec), (schedule, ScheduleSpec)):
            known = {entry.name for entry in fields(kind)}
            if unknown := sorted(set(given) - known):
                raise UserError(
                    f"model description: there is no key {unknown[0]!r} (known: {', '.join(sorted(known))}); "
                    "use the version of this package that wrote the model."
                )
        return cls(denoiser=DenoiserSpec(**denoiser), schedule=ScheduleSpec(**schedule), **own)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values that JSON and YAML can hold."""
        values = asdict(self)
        values["denoiser"]["multipliers"] = list(self.denoiser.multipliers)
        return values
