"""Restoring one shard: its input and context, posterior samples, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.intensity import Normalisation, input_window, upsample
from cvdm_core.images.mosaic import ATTRIBUTE as MOSAIC
from cvdm_core.images.mosaic import covered
from cvdm_core.images.reading import open_image
from cvdm_core.images.tiles import Shard, padded, with_halo
from cvdm_core.model import NoiseField, Restorer, choose_device, resolve_precision
from cvdm_core.model.folder import LoadedModel
from cvdm_core.restoration.plan import Plan
from cvdm_core.restoration.regions import RegionModel, batch_size
from cvdm_core.restoration.statistics import summarise

Plane = NDArray[np.float32]


@dataclass
class ShardRestorer:
    """Restores the shards of one image, one after the other, in memory bounded by one shard with its halo."""

    config: Config
    plan: Plan
    model: LoadedModel
    raw: xr.DataArray
    network: Restorer
    device: torch.device
    dtype: torch.dtype
    times: list[float]
    batch: int | None = None

    @classmethod
    def of(cls, config: Config, plan: Plan, model: LoadedModel) -> ShardRestorer:
        """Open the input and put the network on its device."""
        raw = open_image(paths.raw_store(config, plan.row.acquisition))
        found = tuple(str(name) for name in raw.coords["c"].values)
        if raw.shape != plan.row.shape or found != plan.row.channels:
            raise UserError(
                f"{paths.raw_store(config, plan.row.acquisition)}: it holds {raw.shape} pixels of {', '.join(found)}, and the sheet says "
                f"{plan.row.shape} of {', '.join(plan.row.channels)}; run `cvdm register` and `cvdm ingest` again."
            )
        device = choose_device()
        network = model.restorer.to(device)
        times = network.times(config.sampling.steps)
        return cls(config, plan, model, raw, network, device, resolve_precision(config.sampling.precision, device), times)

    @property
    def is_diffusion(self) -> bool:
        """Whether there are samples to draw; a regression model has one answer."""
        return self.model.spec.objective == "diffusion"

    @property
    def device_name(self) -> str:
        """What the network runs on, for logs and receipts."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"

    def restore(self, shard: Shard) -> dict[str, Plane]:
        """Return every quantity of one shard, `(Y, X)` float32 in the target's intensity units; 0 where a mosaic was not acquired."""
        planes = self._restore(shard)
        mosaic = self.raw.attrs["cvdm"].get(MOSAIC)
        if mosaic is None or mosaic["covered"] == 1:
            return planes
        acquired = covered(mosaic, shard.y, shard.x, self.config.model.scale)
        return {quantity: np.where(acquired, plane, np.float32(0)) for quantity, plane in planes.items()}

    def _restore(self, shard: Shard) -> dict[str, Plane]:
        halo, stride = self.config.sampling.halo, self.network.stride
        y = with_halo(shard.y, halo, self.plan.shape[3], stride)
        x = with_halo(shard.x, halo, self.plan.shape[4], stride)
        inside = np.s_[..., shard.y.start - y.start : shard.y.stop - y.start, shard.x.start - x.start : shard.x.stop - x.start]
        channel = self.plan.row.channels[shard.c]
        maps = self.model.channel(channel)
        condition = read_condition(self.raw, shard, y, x, self.config.model.scale, Normalisation(**maps["input"]))
        region = RegionModel(self.network, torch.from_numpy(condition).to(self.device), self.config.sampling.tile, self.dtype)
        target = Normalisation(**maps["target"])
        if not self.is_diffusion:
            return {"mean": np.ascontiguousarray(target.from_model(region.regress()[0, 0].cpu().numpy()[inside]))}
        field = NoiseField(self.config.sampling.seed, self.plan.row.acquisition, channel)
        samples = np.empty((self.config.sampling.samples, *shard.shape), np.float32)
        for first, drawn in self._draw(region, lambda sample, step: field.normal(sample, step, shard.t, shard.z, y, x)):
            samples[first : first + len(drawn)] = target.from_model(drawn[:, 0].cpu().numpy()[inside])
        planes = summarise(samples, self.config.sampling.quantiles)
        return planes | {f"sample_{number}": samples[number] for number in range(self.config.sampling.keep_samples)}

    def _draw(self, region: RegionModel, normal: Callable[[int, int], Plane]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the posterior samples of a region in batches, `(B, 1, H, W)`, each with the number of its first one."""

        def draw(numbers: range) -> torch.Tensor:
            def noise(step: int) -> torch.Tensor:
                return torch.from_numpy(np.stack([normal(number, step) for number in numbers])[:, None]).to(self.device)

            return region.sample(noise, self.times, self.config.sampling.method)

        count = self.config.sampling.samples
        if self.batch is None:
            self.batch = batch_size(lambda size: draw(range(size)), count, self.device)
        for first in range(0, count, self.batch):
            yield first, draw(range(first, min(count, first + self.batch)))


def read_condition(raw: xr.DataArray, shard: Shard, y: slice, x: slice, scale: int, normalisation: Normalisation) -> Plane:
    """Return the network's condition for a region: the input on the target grid, in model units.

    Parameters
    ----------
    raw
        Input image, `(T, C, Z, Y, X)`; only the pixels that the region depends on are read.
    shard
        Plane to read, by its `t`, `c` and `z`.
    y, x
        Region on the target grid; where it reaches over the image (to a multiple of the network's stride), the last row or column
        is repeated.
    scale
        Target pixels for each input pixel.
    normalisation
        Of the input.

    Returns
    -------
    (H, W) float32 array
    """
    windows, insides, surplus = [], [], []
    for region, length in ((y, raw.shape[3]), (x, raw.shape[4])):
        held = slice(region.start // scale * scale, min(padded(region.stop, scale), length * scale))
        window, inside = input_window(held, scale, length)
        first = inside.start + region.start - held.start
        stop = min(region.stop, length * scale)
        windows.append(window)
        insides.append(slice(first, first + stop - region.start))
        surplus.append((0, region.stop - stop))
    pixels = raw.isel(t=shard.t, c=shard.c, z=shard.z, y=windows[0], x=windows[1]).data.compute(scheduler="synchronous")
    plane = upsample(pixels, scale)[insides[0], insides[1]]
    return np.pad(normalisation.to_model(plane), surplus, mode="edge")
