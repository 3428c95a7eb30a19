"""An acquisition to look at and a running server for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import numpy as np

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, display_windows, target_origin_um, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiles import shards
from cvdm_core.sheet import Acquisition, write_sheet
from cvdm_core.viewing.server import ViewServer, open_server

NAME = "cells_1"
OURS = ("https://viewer.example",)  # origins whose pages may read
PIXEL_UM = 0.1
SCALE = 2
SHAPE = (2, 2, 3, 75, 100)  # of the input; not a multiple of a chunk
CHANNELS = ("actin", "</script><img src=x onerror=\"document.title='hacked'\">")


def pixels(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Different at every place, with a gradient: a shifted or turned image would show."""
    values = np.random.default_rng(seed).uniform(0, 3000, shape) + np.arange(shape[-1]) * 10 + np.arange(shape[-2])[:, None] * 5
    return values.astype(dtype)


def write_picture(
    config: Config, store: Path, array: np.ndarray, fine: bool, image: str = "", grouped: bool = False, **facts: object
) -> None:
    """Write one image (T, C, Z, Y, X) as the stages do; `fine` is on the grid of the restored image, `grouped` as ingest does it."""
    shape = (array.shape[0], array.shape[1], array.shape[2], array.shape[3], array.shape[4])
    create_image(store, shape, array.dtype, config.store, image, grouped)
    writer = PyramidWriter(store, image)
    with patch("os.fsync"):  # hundreds of small files; nobody pulls the plug here
        for part in shards(shape, config.store.shard):
            writer.write(part, np.ascontiguousarray(array[part.t, part.c, part.z, part.y, part.x]))
    pixel = (PIXEL_UM / SCALE,) * 2 if fine else (PIXEL_UM,) * 2
    origin = target_origin_um(pixel, SCALE) if fine else (0.0, 0.0)
    windows = display_windows(store, image)
    info = ImageInfo(NAME, pixel, CHANNELS, windows, z_step_um=0.3, time_step_s=2.5, origin_um=origin, attributes=dict(facts))
    write_metadata(store, image, info)


def make_acquisition(root: Path, restored: bool = True, truth: bool = True, form: str = "0.5") -> tuple[Config, dict[str, np.ndarray]]:
    """Write an acquisition with its sheet; return the configuration and the pixels by panel."""
    config = parse(
        {
            "acquisitions": str(root / "acquisitions.tsv"),
            "results": str(root / "results"),
            "models": str(root / "models"),
            "store": {"format": form, "chunk": 32, "shard": 64},
            "model": {"name": "demo", "scale": SCALE},
        },
        "a test",
    )
    row = {
        "acquisition": NAME, "specimen": "one", "split": "test", "input": "i.tif", "target": "t.tif" if truth else "",
        "size_t": SHAPE[0], "size_c": SHAPE[1], "size_z": SHAPE[2], "size_y": SHAPE[3], "size_x": SHAPE[4], "dtype": "uint16",
        "pixel_size_um": PIXEL_UM, "pixel_size_source": "stated", "z_step_um": 0.3, "time_step_s": 2.5, "channels": CHANNELS,
    }  # fmt: skip
    write_sheet(config.acquisitions, {NAME: Acquisition.model_validate(row)})
    fine = (*SHAPE[:3], SHAPE[3] * SCALE, SHAPE[4] * SCALE)
    arrays = {"input": pixels(SHAPE, "uint16", 1)}
    write_picture(config, paths.raw_store(config, NAME), arrays["input"], fine=False, grouped=True, pixel_size_source="stated")
    if truth:
        arrays["truth"] = pixels(fine, "uint16", 2)
        write_picture(config, paths.target_store(config, NAME), arrays["truth"], fine=True, grouped=True)
    if restored:
        arrays |= {"restored": pixels(fine, "float32", 3), "std": pixels(fine, "float32", 4)}
        arrays["std"][:, :, :, :8, :8] = np.nan
        for key in ("restored", "std"):
            write_picture(config, paths.restored_store(config, NAME), arrays[key], fine=True, image="" if key == "restored" else key)
    return config, arrays


@contextmanager
def serving(config: Config, origins: tuple[str, ...] = ()) -> Iterator[ViewServer]:
    """Serve on a free port in another thread."""
    with open_server(config, NAME, origins=origins) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Client:
    """Requests that no polite client would send: the path goes over the wire as it is written."""

    def __init__(self, server: ViewServer) -> None:
        self.port, self.key = server.server_port, urlsplit(server.url).path.strip("/")

    def ask(self, path: str, method: str = "GET", host: str | None = None, **headers: str) -> tuple[HTTPResponse, bytes]:
        """Ask for a path below the key, or for one that begins with "/" as it is."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            target = path if path.startswith("/") else f"/{self.key}/{path}"
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            if host != "":
                connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()
