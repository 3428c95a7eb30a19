"""The conditional variational diffusion model: schedule, networks, diffusion, noise, sampler. Needs torch and numpy only.

After della Maggiora et al., "Conditional Variational Diffusion Models", ICLR 2024, arXiv 2312.02246. Names are imported when they are
first used, so that importing the package itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvdm_core.model.device import autocast as autocast
    from cvdm_core.model.device import choose_device as choose_device
    from cvdm_core.model.device import keep_freed_memory as keep_freed_memory
    from cvdm_core.model.device import repeatable as repeatable
    from cvdm_core.model.device import resolve_precision as resolve_precision
    from cvdm_core.model.diffusion import Restorer as Restorer
    from cvdm_core.model.diffusion import build_model as build_model
    from cvdm_core.model.noise import NoiseField as NoiseField
    from cvdm_core.model.sampler import draw as draw
    from cvdm_core.model.sampler import time_grid as time_grid
    from cvdm_core.model.spec import DenoiserSpec as DenoiserSpec
    from cvdm_core.model.spec import ModelSpec as ModelSpec
    from cvdm_core.model.spec import ScheduleSpec as ScheduleSpec

_HOME = {
    "DenoiserSpec": "spec",
    "ModelSpec": "spec",
    "NoiseField": "noise",
    "Restorer": "diffusion",
    "ScheduleSpec": "spec",
    "autocast": "device",
    "build_model": "diffusion",
    "choose_device": "device",
    "draw": "sampler",
    "keep_freed_memory": "device",
    "repeatable": "device",
    "resolve_precision": "device",
    "time_grid": "sampler",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
