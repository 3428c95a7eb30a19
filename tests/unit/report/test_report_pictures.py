"""The pictures of a page: scale bars, display windows, and pixels at the right places."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_pages import BLIND, SINGLE, TWO, page
from report_tree import PIXEL_UM, SCALE

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.report import pictures, planes
from cvdm_core.sheet import read_sheet


@given(st.floats(1e-3, 1e6))
@settings(deadline=None)
def test_a_bar_has_a_round_length_that_fits_and_is_not_tiny(width_um: float) -> None:
    bar = pictures.scale_bar(width_um)
    number, unit = bar.label.split()
    assert number.strip("0.")[0] in "125"
    assert 0.3 / 2.5 * 100 - 1e-6 <= bar.percent <= 30 + 1e-6
    assert float(number) * {"nm": 1e-3, "µm": 1, "mm": 1e3}[unit] == pytest.approx(bar.percent / 100 * width_um)


def test_the_bar_follows_the_pixel_size_of_the_restored_image(config: Config) -> None:
    found = re.findall(r'class="bar" style="width:([\d.]+)%"><b>([\d.]+) µm', paths.report_page(config, TWO).read_text("utf-8"))
    widths = {float(label) / float(percent) * 100 for percent, label in found}
    whole, detail = 128 * PIXEL_UM, 192 * PIXEL_UM / SCALE
    assert all(min(abs(width - whole), abs(width - detail)) < 0.01 for width in widths)
    assert len(widths) > 1


@pytest.mark.parametrize("name", [TWO, BLIND, SINGLE])
def test_every_picture_has_a_scale_bar(config: Config, name: str) -> None:
    tags = page(config, name).tags
    stages = [place for place, (_, attributes) in enumerate(tags) if attributes.get("class") == "stage"]
    for start, stop in zip(stages, [*stages[1:], len(tags)], strict=True):
        inside = [attributes.get("class") for _, attributes in tags[start:stop]]
        assert "bar" in inside
    assert len(stages) >= sum(tag == "img" and "src" in attributes for tag, attributes in tags)


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=40, deadline=None)
def test_the_detail_is_taken_where_the_structure_is(shape: tuple[int, int], box: tuple[int, int], at: tuple[float, float]) -> None:
    plane = np.zeros(shape, np.float32)
    spot = [int(part * (size - 5)) + 2 for part, size in zip(at, shape, strict=True)]
    plane[spot[0], spot[1]] = 1
    first = pictures.richest_window(plane, box)
    assert all(0 <= start <= size - edge for start, edge, size in zip(first, box, shape, strict=True))
    assert all(start - 1 <= place <= start + edge for start, edge, place in zip(first, box, spot, strict=True))


def test_a_missing_pixel_is_not_shown_as_an_intensity() -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    plane = np.array([[0.0, 1.0], [0.5, np.nan]], np.float32)
    uri = pictures.png_uri(plane, (0.0, 1.0))
    shown = np.asarray(Image.open(BytesIO(b64decode(uri.split(",")[1]))).convert("RGB"))
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, 1].tolist() == [255, 255, 255]
    assert tuple(shown[1, 1]) == pictures.MISSING


def test_matching_finds_the_affine_map_and_never_turns_an_image_over() -> None:
    plane = np.random.default_rng(0).normal(100, 20, (64, 64)).astype(np.float32)
    found = pictures.match(plane, 3 * plane + 7)
    assert (found.slope, found.offset) == (pytest.approx(3, rel=1e-3), pytest.approx(7, abs=0.5))
    assert pictures.match(plane, -plane).slope == 1


def test_the_error_shown_is_the_mean_of_the_pixels_errors(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "STRIP", 64)  # several strips, none of them the whole image
    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    restored, truth = (np.asarray(planes.open_plane(*sources.of(kind), 0), np.float64) for kind in ("restored", "truth"))
    wanted = np.abs(restored - truth).reshape(48, 4, 64, 4).mean((1, 3))
    found = planes.read_error(sources, 0, pictures.Affine(), (48, 64))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_whole_field_is_read_from_a_coarse_level(config: Config) -> None:
    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    assert planes.open_plane(sources.restored, "", 0, shrinks=2.9).shape == (96, 128)
    assert planes.open_plane(sources.restored, "", 0, shrinks=1000).size <= 128 * 128


def test_an_input_detail_lies_where_the_restored_one_lies(config: Config) -> None:
    from cvdm_core.images.intensity import upsample

    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    rows, columns = slice(20, 120), slice(64, 256)
    whole = upsample(np.asarray(planes.open_plane(sources.raw, "", 1)), SCALE)
    np.testing.assert_array_equal(planes.read_detail(sources, "input", 1, rows, columns), whole[rows, columns])


def test_the_page_shows_every_kind_of_picture_of_each_channel_twice(config: Config) -> None:
    ids = {attributes.get("id", "") for attributes in page(config, TWO).all("img")}
    kinds = ("input", "restored", "truth", "sample", "error", "std")
    assert {f"c{channel}-{part}-{kind}" for channel in (1, 2) for part in "fd" for kind in kinds} <= ids
