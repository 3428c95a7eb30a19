"""A network applied to a whole region, tile by tile, as if it had seen the region at once.

The tensors of the sampler (z, condition, lambda) cover the region: a shard with its halo. Only the network looks at tiles. At every
denoising step each tile is shown as much context as the network can see, and what it says beyond its own pixels is thrown away, so
that all tiles take each step together and the result is that of the whole region, to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvdm_core.images.tiles import Tile, tiles
from cvdm_core.model import Restorer, autocast, draw

SHARE_OF_MEMORY = 0.8
"""How much of the free memory of a GPU a batch may take."""


def tiled(function: Callable[..., Tensor], tensors: Sequence[Tensor], pieces: Sequence[Tile]) -> Tensor:
    """Apply a local function of images tile by tile.

    Parameters
    ----------
    function
        Takes tensors `(B, 1, h, w)` and returns one of that shape.
    tensors
        Its arguments over the whole region, `(B, 1, H, W)`.
    pieces
        Tiles of the region whose margin is at least the function's receptive field.

    Returns
    -------
    Tensor
        `function(*tensors)`, `(B, 1, H, W)`.
    """
    if len(pieces) == 1:
        return function(*tensors)
    result = torch.empty_like(tensors[0])
    for piece in pieces:
        shown = function(*(tensor[:, :, piece.outer[0], piece.outer[1]] for tensor in tensors))
        result[:, :, piece.inner[0], piece.inner[1]] = shown[:, :, piece.crop[0], piece.crop[1]]
    return result


class RegionModel:
    """A restorer bound to the condition of one region; lambda is evaluated once, here.

    Parameters
    ----------
    restorer
        The network, on its device, in evaluation mode.
    condition
        Normalised input on the target grid, `(H, W)` float32 on the same device; multiples of the network's stride.
    tile
        Largest piece that the network sees at once, without its margin, in pixels.
    dtype
        Precision of the convolutions.
    """

    def __init__(self, restorer: Restorer, condition: Tensor, tile: int, dtype: torch.dtype) -> None:
        """Cut the region and evaluate lambda."""
        self.restorer = restorer
        self.condition = condition[None, None]
        self.dtype = dtype
        height, width = condition.shape
        self.pieces = tiles((height, width), tile, restorer.receptive_field, restorer.stride)
        self.lam = self._apply(restorer.schedule.condition, [self.condition])

    def sample(self, noise: Callable[[int], Tensor], times: Sequence[float], method: str) -> Tensor:
        """Draw posterior samples, as many as `noise(step)` has planes.

        Parameters
        ----------
        noise
            `noise(step)` returns `(B, 1, H, W)` float32, standard normal, one plane a sample.
        times
            Decreasing, from 1 to 0.
        method
            Name of the sampler.

        Returns
        -------
        Tensor
            Normalised images, `(B, 1, H, W)` float32.
        """

        def predict_x0(z: Tensor, index: int) -> Tensor:
            def step(z: Tensor, condition: Tensor, lam: Tensor) -> Tensor:
                return self.restorer.predict_x0(z, condition, lam, times[index])

            return self._apply(step, [z, self.condition.expand_as(z), self.lam.expand_as(z)])

        def gamma(time: float) -> Tensor:
            return self.restorer.schedule.gamma(time, self.lam)

        with torch.inference_mode():
            return self.restorer.restore(self.condition, draw(predict_x0, gamma, times, noise, method))

    def regress(self) -> Tensor:
        """Return the normalised image of a regression model, `(1, 1, H, W)` float32."""
        with torch.inference_mode():
            return self.restorer.restore(self.condition, self._apply(self.restorer.regress, [self.condition]))

    def _apply(self, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
        with torch.inference_mode(), autocast(self.condition.device, self.dtype):
            return tiled(function, tensors, self.pieces)


def batch_size(sample: Callable[[int], object], wanted: int, device: torch.device) -> int:
    """Return how many posterior samples to draw at once.

    On a CPU one: larger batches are no faster there (0.64, 0.56 and 0.67 s a sample in batches of 1, 2 and 4; default network, 512 x 512,
    2 steps, one core) and need more memory. On a GPU, one sample is drawn as a trial, and what it needed decides how many fit in the
    memory that is free.

    Parameters
    ----------
    sample
        Draws so many samples and throws them away.
    wanted
        Samples there are to draw.
    device
        Where the network runs.
    """
    if device.type != "cuda" or wanted < 2:
        return 1
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    sample(1)
    needed = max(1, torch.cuda.max_memory_allocated(device) - before)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(wanted, int(SHARE_OF_MEMORY * free / needed)))
