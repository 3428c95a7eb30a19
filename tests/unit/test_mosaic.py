"""Fields with stage positions become one image: within half a pixel of the truth, with no pixel invented, or a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cvdm_core.errors import UserError
from cvdm_core.images.fields import Fields, open_fields
from cvdm_core.images.flat_field import FlatField
from cvdm_core.images.mosaic import Mosaic, MosaicPlanes, PlacedField, covered, covered_share, from_json
from cvdm_core.images.mosaic_arrangement import arrange
from cvdm_core.simulation.mosaic import SimulatedMosaic, simulate_mosaic, write_mosaic

PIXEL = 0.1


def small(**changes: Any) -> SimulatedMosaic:
    return simulate_mosaic(**({"grid": (3, 3), "field": 128, "overlap": 0.2, "jitter": 3.0} | changes))


@contextmanager
def fields_of(folder: Path, sim: SimulatedMosaic, keep: list[int] | None = None, stage: np.ndarray | None = None) -> Iterator[Fields]:
    chosen = list(range(len(sim.fields))) if keep is None else keep
    stage = sim.stage if stage is None else stage
    write_mosaic(folder / "scan.ome.tif", sim.fields[chosen], stage[chosen] * PIXEL, PIXEL)
    with open_fields(folder / "scan.ome.tif") as fields:
        yield fields


def laid_out(fields: Fields, axes: str = "+x+y") -> Mosaic:
    return arrange(fields, {name: stage for name, stage in fields.stages.items() if stage is not None}, PIXEL, axes)


def error(mosaic: Mosaic, corners: np.ndarray) -> float:
    """Largest distance of a field from its true place, where all together lie best [pixels]."""
    places = np.array([(field.y, field.x) for field in mosaic.fields], float)
    return float(np.hypot(*((places - places.mean(axis=0)) - (corners - corners.mean(axis=0))).T).max())


def whole(fields: Fields, mosaic: Mosaic) -> np.ndarray:
    return MosaicPlanes(fields, mosaic).read(0, 0, 0, slice(0, mosaic.shape[0]), slice(0, mosaic.shape[1]))


def test_5x5_fields_with_play_of_the_stage_come_back_to_within_half_a_pixel(tmp_path: Path) -> None:
    sim = simulate_mosaic((5, 5), 256, overlap=0.1, jitter=4.0, uneven=0.2, seed=3)
    with fields_of(tmp_path, sim) as fields:
        mosaic = laid_out(fields)
        assert error(mosaic, sim.corners) < 0.5
        measured = np.array([field.moved_px for field in mosaic.fields]) + sim.stage
        off = (measured - measured.mean(axis=0)) - (sim.corners - sim.corners.mean(axis=0))
        assert np.hypot(*off.T).max() < 0.2  # before rounding to whole pixels
        assert mosaic.rms_px is not None and mosaic.rms_px < 0.2 and len(mosaic.overlaps) == 40
        assert max(abs(value) for field in mosaic.fields for value in field.moved_px) > 3  # the stage alone was wrong by more
        image = whole(fields, mosaic)
    top, left = sim.corners.min(axis=0)
    for field, (y, x) in zip(sim.fields, sim.corners - (top, left), strict=True):
        inner = np.s_[y + 60 : y + 190, x + 60 : x + 190]  # where no other field lies
        np.testing.assert_array_equal(image[inner], field[60:190, 60:190])


@pytest.mark.parametrize("axes", ["-x+y", "+y-x"])
def test_the_stages_axes_are_found_by_what_the_fields_show(tmp_path: Path, axes: str) -> None:
    sim = small(grid=(2, 2))
    runs = {"x": np.array([0, 1]), "y": np.array([1, 0])}
    along_x, along_y = ((-1 if axes[at] == "-" else 1) * runs[axes[at + 1]] for at in (0, 2))
    stage = np.stack([sim.stage @ along_y, sim.stage @ along_x], axis=1).astype(float)
    with fields_of(tmp_path, sim, stage=stage) as fields:
        found = laid_out(fields, "")
        assert (found.stage_axes, found.stage_axes_source) == (axes, "measured")
        assert error(found, sim.corners) < 0.5
        with pytest.raises(UserError, match=r"do not match|shows something else"):
            laid_out(fields, "+x-y")  # a wrong statement is not believed


@pytest.mark.parametrize("grid", [(1, 4), (4, 1)])
@pytest.mark.parametrize("play", [1.0, 4.0])
def test_fields_in_a_row_need_no_stated_axes_though_the_stage_says_that_they_lie_a_little_beside_it(
    tmp_path: Path, grid: tuple[int, int], play: float
) -> None:
    sim = small(grid=grid)
    said = sim.stage + np.random.default_rng(1).uniform(-play, play, sim.stage.shape)
    with fields_of(tmp_path, sim, stage=said) as fields:
        assert error(laid_out(fields, ""), sim.corners) < 0.5


def test_axes_that_nothing_tells_have_to_be_stated(tmp_path: Path) -> None:
    sim = small(grid=(2, 2))
    sim.fields[:] = np.random.default_rng(0).poisson(100, sim.fields.shape)
    with fields_of(tmp_path, sim) as fields:
        with pytest.raises(UserError, match="write into the column stage_axes"):
            laid_out(fields, "")
        mosaic = laid_out(fields, "+x+y")
    assert mosaic.rms_px is None and "by the stage's positions alone" in mosaic.sentence
    assert {field.placed_by for field in mosaic.fields} == {"stage"}
    np.testing.assert_array_equal([(field.y, field.x) for field in mosaic.fields], sim.stage)


def test_a_blank_field_keeps_the_place_that_the_stage_tells_as_the_others_correct_it(tmp_path: Path) -> None:
    sim = small(grid=(3, 4))
    stage = sim.stage @ np.array([[1.0, 0.02], [-0.02, 1.0]])  # the camera is turned by 20 mrad
    sim.fields[0] = np.random.default_rng(0).poisson(100, sim.fields[0].shape)
    with fields_of(tmp_path, sim, stage=stage) as fields:
        mosaic = laid_out(fields)
    assert [field.placed_by for field in mosaic.fields] == ["stage"] + ["overlap"] * 11
    assert {pair.state for pair in mosaic.overlaps if "0" in (pair.first, pair.second)} == {"empty"}
    assert any("Placed by the stage alone" in remark and remark.endswith("others: 0.") for remark in mosaic.remarks)
    assert error(mosaic, sim.corners) < 3 * np.sqrt(2) + 2  # the play of the stage; uncorrected it would be off by more
    others = np.array([(field.y, field.x) for field in mosaic.fields[1:]])
    np.testing.assert_array_equal(others - others[0], sim.corners[1:] - sim.corners[1])


def test_a_field_at_a_wrong_place_is_refused_by_name(tmp_path: Path) -> None:
    sim = small()
    stage = sim.stage.copy()
    stage[4] += (25, 0)
    with fields_of(tmp_path, sim, stage=stage) as fields, pytest.raises(UserError, match="the field '4' shows something else"):
        laid_out(fields)
    stage[4] += (0, 100_000)
    with fields_of(tmp_path, sim, stage=stage) as fields, pytest.raises(UserError, match="the fields '4' overlap none of the others"):
        laid_out(fields)
    stage[4] = stage[3] + 2
    with fields_of(tmp_path, sim, stage=stage) as fields, pytest.raises(UserError, match="'3' and '4' lie at the same place"):
        laid_out(fields)


def test_one_overlap_that_lies_is_left_out_and_named(tmp_path: Path) -> None:
    sim = small(grid=(3, 4))
    sim.fields[5][20:-20, -25:] = sim.fields[6][20:-20, 8:33]  # field 5 pretends that field 6 lies 8 columns further left
    with fields_of(tmp_path, sim) as fields:
        mosaic = laid_out(fields)
    assert [(pair.first, pair.second) for pair in mosaic.overlaps if pair.state == "disagrees"] == [("5", "6")]
    assert any("does not match (1 of 17 overlaps): 5 and 6." in remark for remark in mosaic.remarks)
    assert error(mosaic, sim.corners) < 0.5


def test_where_no_field_lies_pixels_are_0_and_known_to_be_so(tmp_path: Path) -> None:
    sim = small(grid=(3, 3), field=128)
    with fields_of(tmp_path, sim, keep=[0, 1, 2, 3, 5, 6, 7, 8]) as fields:
        mosaic = laid_out(fields)
        image = whole(fields, mosaic)
    said = mosaic.to_json()
    mask = covered(said, slice(0, mosaic.shape[0]), slice(0, mosaic.shape[1]))
    assert not image[~mask].any() and image[mask].all()
    assert mosaic.covered == pytest.approx(mask.mean(), abs=1e-6) and mosaic.covered < 0.97
    assert any("of the canvas was not acquired" in remark for remark in mosaic.remarks)
    part = slice(100, 180), slice(90, 200)
    np.testing.assert_array_equal(covered(said, *part), mask[part])
    np.testing.assert_array_equal(covered(said, slice(200, 360), slice(181, 399), 2), mask.repeat(2, 0).repeat(2, 1)[200:360, 181:399])


def test_the_share_that_is_covered_is_exact() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        corners = [(int(y), int(x)) for y, x in random.integers(0, 60, (random.integers(1, 6), 2))]
        mask = np.zeros((80, 90), bool)
        for y, x in corners:
            mask[y : y + 20, x : x + 30] = True
        assert covered_share(corners, (20, 30), (80, 90)) == pytest.approx(mask.mean())


def test_every_pixel_is_of_the_field_in_which_it_lies_deepest_whatever_region_is_read(tmp_path: Path) -> None:
    sim = small(grid=(2, 2))
    with fields_of(tmp_path, sim) as fields:
        mosaic = laid_out(fields)
        image = whole(fields, mosaic)
        planes = MosaicPlanes(fields, mosaic)
        depth = np.full((4, *mosaic.shape), -1)
        values = np.zeros((4, *mosaic.shape), np.uint16)
        at = np.arange(128)
        inside = np.minimum(*np.meshgrid(np.minimum(at, 127 - at), np.minimum(at, 127 - at)))
        for number, field in enumerate(mosaic.fields):
            depth[number, field.y : field.y + 128, field.x : field.x + 128] = inside
            values[number, field.y : field.y + 128, field.x : field.x + 128] = sim.fields[number]
        expected = np.take_along_axis(values, depth.argmax(axis=0)[None], 0)[0]
        np.testing.assert_array_equal(image, expected)
        for y in range(0, mosaic.shape[0], 50):
            for x in range(0, mosaic.shape[1], 70):
                part = slice(y, min(y + 50, mosaic.shape[0])), slice(x, min(x + 70, mosaic.shape[1]))
                np.testing.assert_array_equal(planes.read(0, 0, 0, *part), expected[part])
                below = {field.name for field in mosaic.fields if field.y < part[0].stop and part[0].start < field.y + 128}
                assert set(fields._open) <= below  # no others hold memory or files


def test_all_planes_of_a_field_move_together_and_the_clearest_is_measured(tmp_path: Path) -> None:
    sim = small(grid=(1, 3))
    noise = np.random.default_rng(0).poisson(100, (3, 2, 2, 3, 128, 128)).astype(np.uint16)  # field, t, c, z, y, x
    noise[:, :, 1, 2] += sim.fields[:, None]
    write_mosaic(tmp_path / "scan.ome.tif", noise, sim.stage * PIXEL, PIXEL, axes="TCZYX")
    with open_fields(tmp_path / "scan.ome.tif") as fields:
        mosaic = laid_out(fields)
        assert mosaic.plane == (1, 2) and error(mosaic, sim.corners) < 0.5
        planes = MosaicPlanes(fields, mosaic)
        assert planes.header.shape == (2, 2, 3, *mosaic.shape)
        for t, c, z in np.ndindex(2, 2, 3):
            for number, field in enumerate(mosaic.fields):
                y, x = slice(field.y + 40, field.y + 80), slice(field.x + 40, field.x + 80)
                np.testing.assert_array_equal(planes.read(t, c, z, y, x), noise[number, t, c, z, 40:80, 40:80])


def test_a_flat_field_evens_out_the_light_and_rounds_to_the_nearest_count(tmp_path: Path) -> None:
    sim = small(grid=(1, 2), uneven=0.5, photons=400)
    profile = tmp_path / "flat.tif"
    tifffile.imwrite(profile, (sim.light * 1000 + 100).astype(np.float32))
    with fields_of(tmp_path, sim) as fields:
        (before,) = laid_out(fields).overlaps
        fields.correct_with(FlatField(profile, fields.header, 100.0))
        mosaic = laid_out(fields)
        (after,) = mosaic.overlaps
        assert error(mosaic, sim.corners) < 0.5
        flat = np.clip(np.rint((sim.fields[0].astype(float) - 100) / (sim.light / sim.light.mean()) + 100), 0, 65535)
        corner = fields.read("0", 0, 0, 0, slice(0, 128), slice(0, 128)).astype(float)
    assert np.abs(corner - flat).max() <= 1 and (corner == flat).mean() > 0.999
    assert before.brightness is not None and after.brightness is not None
    assert abs(after.brightness - 1) < 0.02


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((64, 128), np.float32), "it needs their rows and columns"),
        (np.ones((3, 128, 128), np.float32), "one plane, or one for each channel"),
        (np.full((128, 128), 5, np.uint16), "this is no illumination profile"),
        (np.full((128, 128), np.nan, np.float32), "this is no illumination profile"),
    ],
)
def test_what_is_no_flat_field_is_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", array, photometric="minisblack")
    with fields_of(tmp_path, small(grid=(1, 2))) as fields, pytest.raises(UserError, match=said):
        FlatField(tmp_path / "flat.tif", fields.header, 100.0)


def test_a_layout_comes_back_from_json() -> None:
    field = PlacedField("a", 0, 1, (0.5, 1.5), (0.1, 0.2), "stage")
    mosaic = Mosaic((2, 3), (2, 2), "+x+y", "stated", (0, 1), None, None, 1.0, "s", ("r",), (field,), ())
    assert from_json(mosaic.to_json()) == mosaic
