"""The networks: how far they see, on which grid, at which size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cvdm_core.model import DenoiserSpec, ModelSpec, build_model
from cvdm_core.model.networks import Denoiser, LambdaNetwork, _ChannelRMS

SPECS = {
    "default": DenoiserSpec(),
    "tiny": DenoiserSpec(base_channels=4),
    "one level": DenoiserSpec(base_channels=4, multipliers=(1,), unshuffle=1),
    "two levels, unshuffle 4": DenoiserSpec(base_channels=4, multipliers=(1, 2), unshuffle=4),
    "no norm": DenoiserSpec(base_channels=4, norm="none"),
}


def awake(denoiser: Denoiser) -> Denoiser:
    """The denoiser with weights that are not zero anywhere: the last layer and the noise level start at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return denoiser


def apply(denoiser: Denoiser, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = denoiser(image, image, torch.zeros_like(image), torch.zeros(len(image)))
    return result


@pytest.mark.parametrize("name", SPECS)
def test_receptive_field_is_exactly_where_a_changed_pixel_shows(name: str) -> None:
    # NaN spreads through every connection there is, whatever the weights: the formal receptive field, not the effective one.
    denoiser = Denoiser(SPECS[name])
    reach, stride = denoiser.receptive_field, denoiser.stride
    length = -(-(2 * reach + 3 * stride) // stride) * stride
    middle = reach // stride * stride + stride
    seen = 0
    for pixel in range(middle, middle + stride):
        image = torch.zeros(1, 1, stride, length)
        image[..., 0, pixel] = torch.nan
        columns = apply(denoiser, image).isnan().any(dim=2).flatten().nonzero().flatten()
        seen = max(seen, pixel - int(columns.min()), int(columns.max()) - pixel)
    assert seen == reach


def test_receptive_field_of_lambda_is_exactly_where_a_changed_pixel_shows() -> None:
    network, seen = LambdaNetwork(4), 0
    for pixel in range(32, 36):
        image = torch.zeros(1, 1, 8, 64)
        image[..., 0, pixel] = torch.nan
        columns = network(image).isnan().any(dim=2).flatten().nonzero().flatten()
        seen = max(seen, pixel - int(columns.min()), int(columns.max()) - pixel)
    assert seen == network.receptive_field


@pytest.mark.parametrize("name", ["tiny", "two levels, unshuffle 4", "no norm"])
def test_a_tile_on_the_stride_gives_the_pixels_of_the_whole_image(name: str) -> None:
    denoiser = awake(Denoiser(SPECS[name])).double()
    reach, stride = denoiser.receptive_field, denoiser.stride
    size = 2 * reach + 5 * stride
    image = torch.randn(1, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, tile = apply(denoiser, image), apply(denoiser, image[..., stride:-stride, stride:])
    inner = slice(reach, size - 2 * stride - reach)
    torch.testing.assert_close(tile[..., inner, inner], whole[..., stride:, stride:][..., inner, inner], rtol=0, atol=1e-12)
    off_grid = apply(denoiser, image[..., stride + 1 :, stride + 1 :])
    assert (off_grid[..., inner, inner] - whole[..., stride + 1 :, stride + 1 :][..., inner, inner]).abs().max() > 1e-6


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (17, 64), (33, 31)])
def test_any_size_is_padded_by_its_edge_inside_and_cropped_again(size: tuple[int, int]) -> None:
    denoiser = awake(Denoiser(SPECS["tiny"]))
    image = torch.randn(2, 1, *size)
    result = apply(denoiser, image)
    assert result.shape == image.shape
    padded = F.pad(image, (0, -size[1] % denoiser.stride, 0, -size[0] % denoiser.stride), mode="replicate")
    torch.testing.assert_close(result, apply(denoiser, padded)[..., : size[0], : size[1]])


def test_default_network_has_the_capacity_of_the_trials_and_lambda_is_small() -> None:
    model = build_model(ModelSpec(), 0)
    denoiser = sum(parameter.numel() for parameter in model.denoiser.parameters())
    schedule = sum(parameter.numel() for parameter in model.schedule.parameters())
    assert 440_000 < denoiser < 480_000
    assert schedule < 0.01 * denoiser
    assert model.stride == 8


def test_channel_norm_and_its_written_out_gradient_are_those_of_its_formula() -> None:
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(_ChannelRMS.apply(x), x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt())
    assert torch.autograd.gradcheck(_ChannelRMS.apply, (x,))


def test_noise_level_reaches_the_result() -> None:
    denoiser = awake(Denoiser(SPECS["tiny"]))
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        low, high = (denoiser(image, image, torch.zeros_like(image), torch.tensor([level])) for level in (-6.0, 6.0))
    assert (low - high).abs().max() > 1e-4


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    denoiser = awake(Denoiser(SPECS["tiny"]))
    batch = torch.randn(3, 1, 24, 24)
    torch.testing.assert_close(apply(denoiser, batch)[1:2], apply(denoiser, batch[1:2]), rtol=1e-5, atol=1e-6)
