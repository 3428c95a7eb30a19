"""Our stores open in other people's viewers in a real browser, with the right pixels: neuroglancer and ome-zarr.js.

`make viewers` fetches both into build/viewers; without them these tests are skipped. They run from a server of their own on loopback
and read the stores from `cvdm view`, so that Range and CORS are what is tested too.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from numpy.typing import NDArray
from PIL import Image
from viewing_world import NAME, PIXEL_UM, SCALE, make_acquisition, serving

from cvdm_core import paths
from cvdm_core.images.omezarr_metadata import read_metadata

VIEWERS = Path(__file__).parents[2] / "build/viewers"
MODULES = VIEWERS / "node_modules"
NEUROGLANCER = VIEWERS / "venv/bin/python"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
    pytest.mark.skipif(not NEUROGLANCER.exists() or not (MODULES / "ome-zarr.js").is_dir(), reason="needs `make viewers`"),
]
IMPORTS = {
    "ome-zarr.js": "ome-zarr.js/dist/ome-zarr.js",
    "zarrita": "zarrita/dist/src/index.js",
    "@zarrita/storage/fetch": "@zarrita/storage/dist/src/fetch.js",
    "@zarrita/storage": "@zarrita/storage/dist/src/index.js",
    "reference-spec-reader": "reference-spec-reader/src/index.js",
    "unzipit": "unzipit/dist/unzipit.module.js",
    "fflate": "fflate/esm/browser.js",
} | {f"numcodecs/{name}": f"numcodecs/dist/{name}.js" for name in ("blosc", "gzip", "lz4", "zlib", "zstd")}
TYPES = {".html": "text/html", ".js": "text/javascript"}
PLACE = {"t": 1, "c": 1, "z": 2}
FINE_UM = PIXEL_UM / SCALE
CENTRE_UM, UM_PER_PIXEL, WHITE = (2.11, 2.82), FINE_UM / 6, 6000.0  # (y, x) from the centre of the input's first pixel


def file_of_a_viewer(name: str) -> bytes:
    if name == "omezarr.html":
        found = json.dumps({"imports": {module: f"/modules/{path}" for module, path in IMPORTS.items()}})
        return f'<script type="importmap">{found}</script><script type="module">window.ome = await import("ome-zarr.js")</script>'.encode()
    if name.startswith("modules/"):
        return (MODULES / name.removeprefix("modules/")).read_bytes()
    raise FileNotFoundError(name)


@pytest.fixture(scope="module")
def viewers() -> Iterator[str]:
    """Address of a server with ome-zarr.js."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].strip("/")
            try:
                content = file_of_a_viewer(name)
            except OSError:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile"), (900, 700)) as running:
        yield running


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[tuple[str, str, Callable[[str], Path]]]:
    """The form of the stores, the address they are served at, and where each of them lies."""
    config, arrays = make_acquisition(tmp_path_factory.mktemp("facility"), form=request.param)
    np.savez(Path(config.results) / "arrays.npz", **arrays)
    stores = {"input": paths.raw_store(config, NAME), "restored": paths.restored_store(config, NAME)}
    with serving(config) as server:
        yield request.param, f"{server.url}stores", lambda key: stores[key]


def pixels_of(store: Path, key: str) -> NDArray[np.float64]:
    """One plane per channel, (C, Y, X), as it was before it was stored."""
    with np.load(store.parents[1 if key == "input" else 2] / "arrays.npz") as arrays:
        return arrays[key][PLACE["t"], :, PLACE["z"]].astype(np.float64)


@pytest.mark.parametrize("key", ["input", "restored"])
def test_ome_zarr_js_shows_our_pixels_in_our_colours(
    made: tuple[str, str, Callable[[str], Path]], viewers: str, browser: Browser, key: str
) -> None:
    _, address, where = made
    store = where(key)
    browser.go(f"{viewers}/omezarr.html")
    browser.wait("window.ome")
    url = browser.run(
        f"ome.getMultiscaleWithArray('{address}/{store.name}', 0)"
        f".then(({{arr, multiscale, omero}}) => ome.renderImage(arr, multiscale.axes, omero, {{t: {PLACE['t']}, z: {PLACE['z']}}}))"
    )
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    wanted = np.zeros((*pixels_of(store, key).shape[1:], 3), np.uint8)
    for channel, plane in zip(read_metadata(store)[1]["channels"], pixels_of(store, key), strict=True):
        share = np.clip((plane - channel["window"]["start"]) / (channel["window"]["end"] - channel["window"]["start"]), 0, 1)
        colour = np.frombuffer(bytes.fromhex(channel["color"]), np.uint8)
        wanted = np.maximum(wanted, np.floor(share[..., None] * colour).astype(np.uint8))
    np.testing.assert_array_equal(shown, wanted)
    assert wanted.std() > 20


# Neuroglancer's own server, as its users run it; the page is driven by it.
SERVE = """
import json, sys, neuroglancer
neuroglancer.set_server_bind_address("127.0.0.1")
viewer = neuroglancer.Viewer()
viewer.set_state(json.loads(sys.argv[1]))
print(viewer.get_viewer_url(), flush=True)
sys.stdin.read()
"""
ROUND = [step * 10.0**power for power in range(-3, 3) for step in (1, 1.5, 2, 3, 5, 7.5)]


@contextmanager
def neuroglancer(source: str) -> Iterator[str]:
    """Address of a neuroglancer that shows one plane of one channel in grey, around CENTRE_UM."""
    state = {
        "dimensions": {"t": [2.5, "s"], "z": [1e-6, "m"], "y": [1e-6, "m"], "x": [1e-6, "m"]},
        "position": [PLACE["t"], PLACE["z"] * 0.3, *CENTRE_UM],
        "crossSectionScale": UM_PER_PIXEL,
        "displayDimensions": ["x", "y", "z"],
        "layers": [
            {
                "type": "image",
                "name": "image",
                "source": source,
                "localPosition": [PLACE["c"]],
                "opacity": 1,
                "shader": f"void main() {{ emitGrayscale(float(toRaw(getDataValue()))/{WHITE}); }}",
            }
        ],
        "layout": "xy",
        "showAxisLines": False,
        "showDefaultAnnotations": False,
    }
    command = [str(NEUROGLANCER), "-c", SERVE, json.dumps(state)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def middle_of_the_panel(browser: Browser) -> tuple[float, float]:
    """(y, x) in the window, in pixels."""
    box = json.loads(
        browser.run(
            "(() => { const panel = document.querySelector('.neuroglancer-rendered-data-panel'), {x, y} = panel.getBoundingClientRect();"
            " return JSON.stringify([y + panel.clientTop, panel.clientHeight, x + panel.clientLeft, panel.clientWidth]); })()"
        )
    )
    return box[0] + box[1] / 2, box[2] + box[3] / 2


def places(
    rows: NDArray[np.intp], columns: NDArray[np.intp], um: float, middle: tuple[float, float], shift: float
) -> tuple[NDArray[np.intp], ...]:
    """Where in the window these pixels of an image must lie, `shift` pixels from their centres."""
    first = (um - PIXEL_UM) / 2  # centre of the first pixel
    y, x = (
        np.floor((first + (numbers + shift) * um - centre) / UM_PER_PIXEL + half).astype(np.intp)
        for numbers, centre, half in zip((rows, columns), CENTRE_UM, middle, strict=True)
    )
    return np.ix_(y, x)


@pytest.mark.parametrize("key", ["input", "restored"])
def test_neuroglancer_shows_our_pixels_at_their_places_with_a_true_scale_bar(
    made: tuple[str, str, Callable[[str], Path]], browser: Browser, tmp_path: Path, key: str
) -> None:
    form, address, where = made
    store = where(key)
    um = PIXEL_UM if key == "input" else FINE_UM
    rows, columns = (np.arange(int((centre - 0.7) / um), int((centre + 0.7) / um)) for centre in CENTRE_UM)
    plane = pixels_of(store, key)[PLACE["c"]][np.ix_(rows, columns)]
    wanted = np.clip(plane / WHITE, 0, 1) * 255
    with neuroglancer(f"{address}/{store.name}/|{'zarr3' if form == '0.5' else 'zarr2'}:") as url:
        browser.go(url)
        browser.wait("document.querySelector('.neuroglancer-rendered-data-panel') !== null")
        end = time.monotonic() + 60
        error = np.inf
        while error > 2 and time.monotonic() < end:  # until all chunks have come
            time.sleep(0.3)
            browser.screenshot(tmp_path / "neuroglancer.png")
            seen = np.asarray(Image.open(tmp_path / "neuroglancer.png").convert("RGB")).astype(float)
            middle = middle_of_the_panel(browser)
            error = max(np.abs(seen[places(rows, columns, um, middle, shift)] - wanted[..., None]).max() for shift in (-0.3, 0.3))
        browser.go("about:blank")
    assert error <= 2, browser.complaints()
    corner = (seen[-60:, :200] == 255).all(-1)
    length = corner.sum(1).max() * UM_PER_PIXEL  # the bar is the longest white line in the corner
    assert min(abs(length / nice - 1) for nice in ROUND) < 0.02
    assert length > 30 * UM_PER_PIXEL
