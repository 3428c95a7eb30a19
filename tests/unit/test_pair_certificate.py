"""The training-pair certificate: displacements are found, small ones undone, large ones refused, and an aligned pair is not touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from store_tree import config_of, row_of, write_ome_tiff

from cvdm_core import paths
from cvdm_core.acquisitions.certify import judge
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images import open_image
from cvdm_core.images.certificate import read_certificate
from cvdm_core.images.registration import Plane, register
from cvdm_core.images.similarity import Similarity, read_moved
from cvdm_core.records.receipts import read_json
from cvdm_core.records.verify import verify
from cvdm_core.sheet import Acquisition
from cvdm_core.training.pairs import open_pairs, provenance

Image = NDArray[np.uint16]
EDGE = 192  # of the input
SCALE = 2


def spots(move: Similarity, pixel: float, sigma: float, seed: int = 0) -> NDArray[np.float64]:
    """Gaussian spots at exact places of a field of `EDGE` input pixels, displaced by `move`; sampled at `pixel`, in input pixels."""
    random = np.random.default_rng(seed)
    half = (EDGE - 1) / 2
    p = random.uniform(-half - 20, half + 20, 900) + 1j * random.uniform(-half - 20, half + 20, 900)
    p = p + move.at(p)
    grid = (np.arange(round(EDGE / pixel)) + 0.5) * pixel - 0.5 - half
    rows, columns = (np.exp(-((grid - part[:, None]) ** 2) / (2 * sigma**2)) for part in (p.imag, p.real))
    return (rows * random.uniform(0.3, 1, 900)[:, None]).T @ columns


def pair(move: Similarity, photons: float = 60.0, seed: int = 0) -> tuple[Image, Image]:
    """A blurred, noisy input (EDGE, EDGE) and a sharp target of twice the sampling, displaced by `move`."""
    random = np.random.default_rng(seed + 1)
    blurred = spots(move.minus(move), 1.0, 1.6, seed)
    noisy = random.poisson(blurred * photons + 5) * 2.0 + 100 + random.normal(0, 3, blurred.shape)
    return noisy.round().astype(np.uint16), (spots(move, 1 / SCALE, 0.8, seed) * 4000 + 200).round().astype(np.uint16)


def plane(input: NDArray[np.generic], target: NDArray[np.generic]) -> Plane:
    shape = (input.shape[0], input.shape[1])
    return Plane(lambda y, x: input[y, x], lambda y, x: target[y, x], shape, target.shape[0] // input.shape[0])


@pytest.mark.parametrize("photons", [8.0, 60.0])
@pytest.mark.parametrize(
    "move",
    [
        Similarity(),
        Similarity(0.3, -0.45),
        Similarity(-2.6, 1.7),
        Similarity(17.2, -31.4),
        Similarity(0.4, 0.2, rotation=4e-3),
        Similarity(1.0, -1.0, rotation=-8e-3, scale_error=5e-3),
    ],
)
def test_a_known_displacement_is_found(move: Similarity, photons: float) -> None:
    both = plane(*pair(move, photons))
    found = register([both], both)
    assert found.similarity is not None
    assert abs(found.similarity.shift - move.shift) < 0.08
    assert abs(found.similarity.linear - move.linear) < (6e-4 if photons > 20 else 2e-3)
    assert found.uncertainty < 0.08
    assert abs(found.similarity.shift - move.shift) < 3 * found.uncertainty + 0.01


@pytest.mark.parametrize("move", [Similarity(3.0, -2.0, 0.06, 0.0), Similarity(0.0, 5.0, -0.12, 0.05)])
def test_a_rotation_that_shifts_cannot_follow_is_found_from_the_spectra(move: Similarity) -> None:
    both = plane(*pair(move))
    found = register([both], both)
    assert found.similarity is not None
    assert abs(found.similarity.shift - move.shift) < 0.2
    assert abs(found.similarity.linear - move.linear) < 3e-3


def test_what_shows_nothing_in_common_has_no_displacement() -> None:
    input, target = pair(Similarity())
    flat = np.full_like(input, 100)
    noise = np.random.default_rng(9).poisson(50, input.shape).astype(np.uint16)
    other = pair(Similarity(), seed=5)[0]
    for image in (flat, noise, other):
        found = register([plane(image, target)], plane(image, target))
        assert found.similarity is None
        assert np.isnan(found.uncertainty)


@pytest.mark.parametrize("middle", [(165, 200), (284, 207)])
def test_one_cell_in_an_empty_field_is_not_taken_for_a_magnification(middle: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    p = random.uniform(-10, 10, (20, 2)) + middle

    def cell(edge: int, pixel: float, sigma: float) -> NDArray[np.float64]:
        grid = (np.arange(edge) + 0.5) * pixel - 0.5
        rows, columns = (np.exp(-((grid - part[:, None]) ** 2) / (2 * sigma**2)) for part in p.T)
        return rows.T @ columns

    both = plane(random.poisson(cell(512, 1.0, 1.6) * 60 + 5) * 2.0 + 100, cell(512 * SCALE, 1 / SCALE, 0.8) * 4000 + 200)
    verdict, reason, move = judge(register([both], both), both.shape)
    assert (verdict, move) == ("aligned", Similarity()), reason


@pytest.mark.parametrize("rows", [1, 3])
def test_lines_have_no_displacement_that_can_be_measured(rows: int) -> None:
    line = np.random.default_rng(0).poisson(50, (rows, 300))
    assert register([plane(line, line)], plane(line, line)).similarity is None


# Moving back


def test_moving_back_does_not_depend_on_the_pieces() -> None:
    image = pair(Similarity())[1]
    move = Similarity(1.3, -2.7, 4e-3, -3e-3)

    def moved(y: slice, x: slice) -> NDArray[np.generic]:
        return read_moved(lambda rows, columns: image[rows, columns], image.shape, move, (y, x))

    whole = moved(slice(0, 384), slice(0, 384))
    for y in (slice(0, 100), slice(100, 384)):
        for x in (slice(0, 37), slice(37, 384)):
            np.testing.assert_allclose(moved(y, x), whole[y, x], atol=0.02)  # of 4000 counts


def test_whole_pixels_are_moved_without_a_change_of_value() -> None:
    image = pair(Similarity())[1]
    moved = read_moved(lambda rows, columns: image[rows, columns], image.shape, Similarity(3, -2), (slice(10, 90), slice(20, 80)))
    np.testing.assert_array_equal(np.rint(moved), image[13:93, 18:78])


@pytest.mark.parametrize("move", [Similarity(2.4, -1.2), Similarity(-0.3, 0.0, 5e-3, 0.0), Similarity(0, 0, 0, 4e-3)])
def test_the_valid_part_is_where_nothing_is_made_up(move: Similarity) -> None:
    shape = (120, 150)
    rows, columns = np.mgrid[:120, :150]
    p = (columns - 74.5) + 1j * (rows - 59.5)
    seen = p + move.at(p)
    inside = (abs(seen.real) <= 74.5) & (abs(seen.imag) <= 59.5)
    y, x = move.valid(shape)
    assert inside[y, x].all()
    assert (y.stop - y.start) * (x.stop - x.start) > 0.95 * inside.sum()


# Ingest


def acquisition(folder: Path, move: Similarity, split: str = "train") -> tuple[Config, Acquisition, Image, Image]:
    input, target = pair(move)
    tiffs = [write_ome_tiff(folder / f"{name}.tif", image[None, None, None], 0.1 / part)
             for name, image, part in (("a", input, 1), ("b", target, SCALE))]  # fmt: skip
    row = row_of("cells", *tiffs).model_copy(update={"split": split})
    return config_of(folder, row, chunk=64, shard=128), row, input, target


def test_an_aligned_target_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, row, _, target = acquisition(tmp_path, Similarity(0.12, -0.1))
    ingest(config, "cells")
    stored = open_image(paths.target_store(config, "cells"))
    np.testing.assert_array_equal(stored.values[0, 0, 0], target)
    certificate = read_certificate(stored)
    assert certificate is not None
    assert (certificate.verdict, certificate.overlap, certificate.channels[0].moved) == ("aligned", 1.0, None)
    assert certificate.channels[0].shift_px == pytest.approx((0.12, -0.1), abs=0.05)
    assert "cells: input and target are aligned" in capsys.readouterr().err
    pairs = open_pairs(config, [row], "train")
    assert pairs[0].shape == (1, 1, 1, EDGE, EDGE)
    assert provenance(config, pairs)[1][0]["alignment"] == certificate.sentence


@pytest.mark.parametrize("move", [Similarity(1.37, -2.61), Similarity(-0.8, 0.4, 6e-3, 0.0)])
def test_a_target_that_lies_a_little_off_is_moved_back_and_says_so(tmp_path: Path, move: Similarity) -> None:
    config, row, _, _ = acquisition(tmp_path, move)
    ingest(config, "cells")
    stored = open_image(paths.target_store(config, "cells"))
    certificate = read_certificate(stored)
    assert certificate is not None
    assert certificate.verdict == "corrected"
    assert 0.9 < certificate.overlap < 1
    assert certificate.to_json() == read_json(paths.ingest_receipt(config, "cells"))["details"]["pair"] | {
        "valid": certificate.valid, "channels": certificate.to_json()["channels"],
    }  # fmt: skip
    assert certificate.channels[0].moved == pytest.approx((move.shift_y, move.shift_x, move.rotation, move.scale_error), abs=0.05)
    (y0, y1), (x0, x1) = (tuple(SCALE * end for end in span) for span in certificate.valid)
    truth = spots(Similarity(), 1 / SCALE, 0.8) * 4000 + 200
    error = stored.values[0, 0, 0].astype(float) - truth
    before = pair(move)[1].astype(float) - truth
    assert np.sqrt(np.mean(error[y0:y1, x0:x1] ** 2)) < 0.06 * np.sqrt(np.mean(before**2))
    (trained,) = open_pairs(config, [row], "train")
    assert trained.shape[3:] == ((y1 - y0) // SCALE, (x1 - x0) // SCALE)
    assert verify([tmp_path / "results"]) == []


@pytest.mark.parametrize(
    ("move", "figure"),
    [(Similarity(-9.3, 4.1), "displaced by 10.1"), (Similarity(0, 0, 0.03, 0), "rotated by 29"), (Similarity(0, 0, 0, -0.02), "by -2.0")],
)
def test_a_target_that_lies_far_off_is_refused_with_the_figure(tmp_path: Path, move: Similarity, figure: str) -> None:
    config, row, input, target = acquisition(tmp_path, move)
    ingest(config, "cells")
    np.testing.assert_array_equal(open_image(paths.raw_store(config, "cells")).values[0, 0, 0], input)
    np.testing.assert_array_equal(open_image(paths.target_store(config, "cells")).values[0, 0, 0], target)
    with pytest.raises(UserError, match=f"^cells: the target is .*{figure}") as caught:
        open_pairs(config, [row], "train")
    assert "\n" not in str(caught.value)


def two_channels(folder: Path, first: tuple[Image, Image], second: tuple[Image, Image]) -> Config:
    tiffs = [write_ome_tiff(folder / f"{name}.tif", np.stack(images)[None, :, None], 0.1 / part)
             for name, images, part in (("a", (first[0], second[0]), 1), ("b", (first[1], second[1]), SCALE))]  # fmt: skip
    return config_of(folder, row_of("cells", *tiffs), chunk=64, shard=128)


def test_no_channel_of_a_refused_pair_is_moved(tmp_path: Path) -> None:
    first, second = pair(Similarity(2.0, -1.0)), pair(Similarity(-9.3, 4.1))
    config = two_channels(tmp_path, first, second)
    ingest(config, "cells")
    stored = open_image(paths.target_store(config, "cells"))
    np.testing.assert_array_equal(stored.values[0, :, 0], [first[1], second[1]])
    certificate = read_certificate(stored)
    assert certificate is not None
    assert (certificate.verdict, certificate.overlap) == ("refused", 1.0)
    assert [channel.moved for channel in certificate.channels] == [None, None]


def test_a_channel_that_cannot_be_measured_is_named_where_another_one_was_moved(tmp_path: Path) -> None:
    first, second = pair(Similarity(2.0, -1.0)), pair(Similarity(2.0, -1.0))
    config = two_channels(tmp_path, first, (np.full_like(second[0], 100), second[1]))
    ingest(config, "cells")
    certificate = read_certificate(open_image(paths.target_store(config, "cells")))
    assert certificate is not None
    assert "moved back by interpolation; of channel 1 the alignment cannot be measured" in certificate.sentence


def test_a_mask_that_is_moved_back_stays_a_mask(tmp_path: Path) -> None:
    move = Similarity(2.4, -1.2)
    row = row_of("cells", write_ome_tiff(tmp_path / "a.tif", pair(move)[0][None, None, None], 0.1), tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "b.tif", spots(move, 1 / SCALE, 0.8) > 0.3)
    config = config_of(tmp_path, row, chunk=64, shard=128)
    ingest(config, "cells")
    stored = open_image(paths.target_store(config, "cells"))
    certificate = read_certificate(stored)
    assert certificate is not None
    assert certificate.verdict == "corrected"
    y, x = (slice(*(SCALE * end for end in span)) for span in certificate.valid)
    assert (stored.values[0, 0, 0] != (spots(Similarity(), 1 / SCALE, 0.8) > 0.3))[y, x].mean() < 0.01


def test_one_spot_in_an_empty_field_has_no_intensities_to_compare(tmp_path: Path) -> None:
    y, x = np.mgrid[:1024, :1024]
    apart = (y - 512) ** 2 + (x - 512) ** 2
    input = np.random.default_rng(0).poisson(400 * np.exp(-apart / 32) + 5).astype(np.uint16)
    target = np.where(apart < 2, 5000, 0).astype(np.uint16)
    row = row_of("cells", *(write_ome_tiff(tmp_path / f"{name}.tif", image[None, None, None], 0.1)
                            for name, image in (("a", input), ("b", target))))  # fmt: skip
    config = config_of(tmp_path, row, chunk=256, shard=512)
    ingest(config, "cells")
    certificate = read_certificate(open_image(paths.target_store(config, "cells")))
    assert certificate is not None
    assert (certificate.channels[0].slope, certificate.channels[0].r2) == (None, None)


def test_intensities_and_saturation_are_measured(tmp_path: Path) -> None:
    config, _, input, _ = acquisition(tmp_path, Similarity())
    ingest(config, "cells")
    certificate = read_certificate(open_image(paths.target_store(config, "cells")))
    assert certificate is not None
    channel = certificate.channels[0]
    assert channel.slope is not None
    assert channel.r2 is not None
    assert channel.curvature is not None
    # A spot of the input holds 60 * 2 counts at its peak, spread over (1.6 / 0.8)² times the area of one of the target with 4000. Smoothing
    # makes the widths alike, though not quite.
    assert channel.slope == pytest.approx(4000 / 120 / 4, rel=0.1)
    assert channel.r2 > 0.97
    assert channel.curvature < 0.03
    assert channel.saturated["input"] < 1e-3
    bent = np.minimum(input, np.percentile(input, 97)).astype(np.uint16)
    write_ome_tiff(tmp_path / "a.tif", bent[None, None, None], 0.1)
    ingest(config, "cells")
    certificate = read_certificate(open_image(paths.target_store(config, "cells")))
    assert certificate is not None
    assert certificate.channels[0].saturated["input"] == pytest.approx(0.03, rel=0.2)
    assert certificate.channels[0].curvature is not None
    assert certificate.channels[0].curvature > 2 * channel.curvature
