"""The page of `cvdm view` in a real browser: the right pixels at the right places, and a scale bar that does not lie."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from viewing_screen import FIELD_UM, FINE_UM, UM, Page, close
from viewing_world import CHANNELS, NAME, PIXEL_UM, make_acquisition, pixels, serving, write_picture

from cvdm_core import paths
from cvdm_core.images.reading import open_image
from cvdm_core.report.pictures import MISSING

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def opened(browser: Browser, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Page]:
    config, arrays = make_acquisition(tmp_path_factory.mktemp("facility"), form=request.param)
    with serving(config) as server:
        browser.messages.clear()
        browser.go(server.url)
        browser.wait("window.viewer && viewer.settled")
        yield Page(browser, config, arrays)
        assert not browser.complaints()
        browser.go("about:blank")


@pytest.fixture
def page(opened: Page) -> Page:
    opened.browser.run("viewer.fit()")
    opened.browser.run("viewer.go({c: 0, z: 0, t: 0})")
    opened.settle()
    return opened


def test_the_four_panels_stand_side_by_side(page: Page) -> None:
    shown = page.browser.run("viewer.panels.map(({picture, canvas}) => [picture.key, canvas.clientWidth, canvas.clientHeight])")
    assert [key for key, _, _ in shown] == ["input", "restored", "std", "truth"]
    assert len({(width, height) for _, width, height in shown}) == 1
    assert min(shown[0][1:]) > 100


@pytest.mark.parametrize("key", ["input", "restored", "std", "truth"])
def test_every_pixel_is_where_its_metadata_say(page: Page, key: str) -> None:
    step = int(UM[key] / FINE_UM)
    page.look(FINE_UM / 4, 2.4, 3.0)  # 4 screen pixels for one of the restored image
    rows, columns = range(40 // step, 80 // step), range(30 // step, 70 // step)
    plane = page.arrays[key][0, 0, 0, rows.start : rows.stop, columns.start : columns.stop]
    for shift in (-0.3, 0.3):  # both sides of every pixel
        close(page.shown(key, rows, columns, shift=shift), page.wanted(key, plane, 0))


def test_channel_z_and_t_change_in_all_panels(page: Page) -> None:
    page.look(FINE_UM / 4, 2.4, 3.0)
    for name, value in (("channel", 1), ("z", 2), ("t", 1)):
        attribute, event = ("selectedIndex", "change") if name == "channel" else ("value", "input")
        page.browser.run(f"document.getElementById('{name}').{attribute} = {value}")
        page.browser.run(f"document.getElementById('{name}').dispatchEvent(new Event('{event}'))")
    page.settle()
    for key, array in page.arrays.items():
        step = int(UM[key] / FINE_UM)
        rows, columns = range(40 // step, 70 // step), range(40 // step, 70 // step)
        plane = array[1, 1, 2, rows.start : rows.stop, columns.start : columns.stop]
        close(page.shown(key, rows, columns), page.wanted(key, plane, 1))
    assert page.browser.run("document.getElementById('z-text').textContent") == "3 of 3 (0.6 µm)"
    assert page.browser.run("document.getElementById('t-text').textContent") == "2 of 2 (2.5 s)"


def test_dragging_and_the_wheel_move_all_panels_together(page: Page) -> None:
    page.look(FINE_UM / 4, 3.0, 3.0)
    box = "viewer.panels[2].canvas.getBoundingClientRect()"
    centre_x, centre_y = page.browser.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({box})")
    x, y = round(centre_x), round(centre_y)  # a mouse points at whole pixels
    page.browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    page.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 40, y=y - 24, button="left", buttons=1)
    page.browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 40, y=y - 24, button="left", clickCount=1)
    page.settle()
    moved = page.view
    assert (moved["x"], moved["y"]) == pytest.approx((3.0 - 40 * FINE_UM / 4, 3.0 + 24 * FINE_UM / 4))
    page.browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=x + 20, y=y, deltaX=0, deltaY=-200)
    page.browser.wait(f"viewer.view.umPerPixel < {FINE_UM / 5}")
    page.settle()
    zoomed = page.view
    beside = x + 20 - centre_x
    under = moved["x"] + beside * moved["umPerPixel"]
    assert zoomed["x"] + beside * zoomed["umPerPixel"] == pytest.approx(under), "the point under the cursor stays"
    for key in ("restored", "truth", "std"):
        rows = range(int(zoomed["y"] / FINE_UM) - 5, int(zoomed["y"] / FINE_UM) + 5)
        columns = range(int(zoomed["x"] / FINE_UM) - 5, int(zoomed["x"] / FINE_UM) + 5)
        plane = page.arrays[key][0, 0, 0, rows.start : rows.stop, columns.start : columns.stop]
        close(page.shown(key, rows, columns), page.wanted(key, plane, 0))


@pytest.mark.parametrize("zoom", [1.0, 0.77, 0.31])
def test_the_scale_bar_is_as_long_as_its_label_says(page: Page, zoom: float) -> None:
    page.browser.run(f"viewer.zoom({zoom})")
    page.settle()
    label, width = page.bar()
    for key in ("input", "restored"):
        drawn = page.canvas(key)[..., 3] > 0  # the whole field, whose size is known: it is the measure
        assert 20 < width < drawn.shape[1] / 2
        for axis in (0, 1):
            assert width / drawn.any(1 - axis).sum() * FIELD_UM[axis] == pytest.approx(label, rel=0.02)


@pytest.mark.parametrize("um_per_pixel", [2e-4, 0.0137, 0.5, 40.0, 7000.0])
def test_the_scale_bar_is_right_at_any_zoom(page: Page, um_per_pixel: float) -> None:
    page.look(um_per_pixel, 5.0, 3.75)
    label, width = page.bar()
    assert width * um_per_pixel == pytest.approx(label, rel=1e-3)
    assert 20 < width < 400


@pytest.mark.parametrize("number", [1, 2])
def test_far_out_the_pyramid_is_read_at_its_own_places(page: Page, number: int) -> None:
    level = open_image(paths.restored_store(page.config, NAME), level=number)
    um, origin = level.attrs["pixel_size_um"][1], float(level.coords["x"][0])
    page.look(um, 5.0, 3.75)
    assert page.browser.run("viewer.panels[1].level") == number
    rows, columns = range(3, level.sizes["y"] - 2), range(3, level.sizes["x"] - 2)
    plane = level[0, 0, 0, rows.start : rows.stop, columns.start : columns.stop].to_numpy()
    close(page.shown("restored", rows, columns, um, origin), page.wanted("restored", plane, 0))


def test_pixels_without_a_value_look_like_nothing_else(page: Page) -> None:
    page.look(FINE_UM / 4, 0.6, 0.6)
    shown = page.shown("std", range(0, 12), range(0, 12))
    assert (shown[:8, :8] == MISSING).all()
    assert (shown[8:, 8:] != MISSING).any(-1).all()


def test_the_value_under_the_cursor_is_the_images(page: Page) -> None:
    page.look(FINE_UM / 4, 3.0, 3.0)
    row, column = 61, 58
    y, x = ((number + 0.5) * FINE_UM - PIXEL_UM / 2 for number in (row, column))
    page.browser.run(f"viewer.point({{x: {x}, y: {y}}})")
    page.settle()
    values = page.browser.run("viewer.panels.map((panel) => Number(panel.element.querySelector('.value').textContent))")
    wanted = [page.arrays[key][0, 0, 0, row // (2 if key == "input" else 1), column // (2 if key == "input" else 1)] for key in UM]
    assert values == pytest.approx([float(value) for value in wanted], rel=1e-4)
    page.browser.run("viewer.point(null)")


def test_counts_are_shown_to_the_last_digit(page: Page) -> None:
    shown = page.browser.run("import('./page/view.js').then(({number}) => [1234567, 65535, -3, 1234.5678, NaN].map(number))")
    assert shown == ["1234567", "65535", "-3", "1234.6", "no value"]


def test_a_screen_that_needs_more_tiles_than_there_is_room_for_is_drawn_all_the_same(page: Page) -> None:
    page.browser.run("viewer.tiles.room = 10000")  # two tiles of the restored image
    page.look(FINE_UM / 2, 5.0, 3.75, t=1, c=1, z=1)
    rows, columns = range(30, 120), range(40, 160)
    close(page.shown("restored", rows, columns), page.wanted("restored", page.arrays["restored"][1, 1, 1, 30:120, 40:160], 1))
    page.browser.run("viewer.tiles.room = 384 * 2 ** 20")


def test_the_display_window_can_be_set_and_reset(page: Page) -> None:
    page.look(FINE_UM / 4, 3.0, 3.0)
    rows = columns = range(50, 60)
    plane = page.arrays["restored"][0, 0, 0, 50:60, 50:60]
    script = (
        "(([name, value]) => {{ const box = viewer.panels[1].find(name); box.value = value; box.dispatchEvent(new Event('change')); }})"
    )
    for name, value in ((".low-number", 500), (".high-number", 2500)):
        page.browser.run(script.format() + f"(['{name}', {value}])")
    page.settle()
    shade = np.rint(np.clip((plane - 500.0) / 2000, 0, 1) * 255).astype(int)
    np.testing.assert_allclose(page.shown("restored", rows, columns)[..., 0].astype(int), shade, atol=1)
    page.browser.run("viewer.panels[1].find('.reset').click()")
    page.settle()
    close(page.shown("restored", rows, columns), page.wanted("restored", plane, 0))


def test_names_from_files_stay_text(page: Page) -> None:
    assert page.browser.run("[...document.getElementById('channel').options].map((option) => option.textContent)") == list(CHANNELS)
    assert page.browser.run("document.querySelectorAll('img').length") == 0
    assert page.browser.run("document.title") == f"{NAME} · cvdm view"


def test_a_hidden_panel_leaves_its_room_to_the_others(page: Page) -> None:
    before = page.browser.run("viewer.panels[0].canvas.clientWidth")
    toggle = "document.querySelectorAll('#shown input')[3].click()"
    page.browser.run(toggle)
    page.settle()
    assert page.browser.run("viewer.panels.map(({picture}) => picture.key)") == ["input", "restored", "std"]
    assert page.browser.run("viewer.panels[0].canvas.clientWidth") > before
    page.browser.run(toggle)
    page.settle()


def test_it_follows_a_workflow_that_goes_on(browser: Browser, tmp_path: Path) -> None:
    config, arrays = make_acquisition(tmp_path, restored=False, truth=False)
    page = Page(browser, config, arrays)
    store = paths.restored_store(config, NAME)
    with serving(config) as server:
        browser.go(server.url)
        browser.wait("window.viewer && viewer.settled")
        assert "Not restored" in browser.run("document.getElementById('notes').textContent")
        assert browser.run("viewer.panels.length") == 1
        for seed in (5, 6):  # restored at last, then restored again
            arrays["restored"] = pixels((2, 2, 3, 150, 200), "float32", seed)
            shutil.rmtree(store, ignore_errors=True)
            write_picture(config, store, arrays["restored"], fine=True)
            browser.run("viewer.load()")
            page.settle()
            page.look(FINE_UM / 4, 2.4, 3.0)
            plane = arrays["restored"][0, 0, 0, 50:70, 40:60]
            close(page.shown("restored", range(50, 70), range(40, 60)), page.wanted("restored", plane, 0))
        assert browser.run("document.getElementById('notes').textContent") == ""
        (store / "0/c/0/0/0/0/0").unlink()
        browser.go(server.url)
        browser.wait("window.viewer && viewer.panels.length === 2")
        page.look(FINE_UM / 4, 2.4, 3.0)
        browser.wait("viewer.panels[1].find('.problem').textContent.includes('0/c/0/0/0/0/0 is missing')")
        shutil.rmtree(store)
        browser.run("viewer.load()")
        browser.wait("viewer.panels.length === 1")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.call("Network.enable")
        browser.call("Network.emulateNetworkConditions", offline=True, **offline)
        browser.run("viewer.load()")
        assert "does not answer" in browser.run("document.getElementById('notes').textContent")
        browser.call("Network.emulateNetworkConditions", offline=False, **offline)
        browser.run("viewer.load()")
        assert "Not restored" in browser.run("document.getElementById('notes').textContent")
        browser.go("about:blank")
    browser.messages.clear()  # the refused requests were meant


def test_an_image_that_is_written_anew_is_shown_whole_and_at_a_plane_that_it_has(browser: Browser, tmp_path: Path) -> None:
    config, arrays = make_acquisition(tmp_path, restored=False, truth=False)
    page = Page(browser, config, arrays)
    store, aside = paths.raw_store(config, NAME), tmp_path / "aside"
    store.rename(aside)
    store.mkdir()
    with serving(config) as server:
        browser.go(server.url)
        browser.wait("window.viewer && viewer.settled")
        assert "written anew" in browser.run("viewer.panels[0].find('.problem').textContent")
        store.rmdir()
        aside.rename(store)
        browser.run("viewer.load()")
        page.settle()
        drawn = page.canvas("input")[..., 3] > 0
        assert max(drawn.any(1).mean(), drawn.any(0).mean()) > 0.98, "it fills the panel along one side"
        page.look(FINE_UM / 2, 5.0, 3.75, c=1, z=2, t=1)
        shutil.rmtree(store)
        write_picture(config, store, arrays["input"][:1, :, :2], fine=False, grouped=True)
        browser.run("viewer.load()")
        page.settle()
        assert browser.run("['z', 't'].map((axis) => document.getElementById(`${axis}-text`).textContent)") == [
            "2 of 2 (0.3 µm)",
            "1 of 1 (0 s)",
        ]
        rows, columns = range(30, 50), range(40, 60)
        close(page.shown("input", rows, columns), page.wanted("input", arrays["input"][0, 1, 1, 30:50, 40:60], 1))
        browser.go("about:blank")
    browser.messages.clear()  # a tile may have been asked for while there was none
