"""The page of `cvdm view` in a browser, and the colours that must stand on its canvases."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from browser import Browser
from numpy.typing import NDArray
from PIL import Image
from viewing_world import NAME, PIXEL_UM, SCALE, SHAPE

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.images.reading import open_image
from cvdm_core.report.pictures import MISSING, SEQUENTIAL, colours

FINE_UM = PIXEL_UM / SCALE


UM = {"input": PIXEL_UM, "restored": FINE_UM, "std": FINE_UM, "truth": FINE_UM}


FIELD_UM = (SHAPE[3] * PIXEL_UM, SHAPE[4] * PIXEL_UM)


@dataclass
class Page:
    """An open page, and what its stores hold."""

    browser: Browser
    config: Config
    arrays: dict[str, NDArray[Any]]

    def settle(self) -> None:
        self.browser.wait("viewer.settled")

    def look(self, um_per_pixel: float, x: float, y: float, **place: int) -> None:
        """Look at a point [micrometre from the input's first pixel]."""
        self.browser.run(f"Object.assign(viewer.view, {{umPerPixel: {um_per_pixel}, x: {x}, y: {y}}}); viewer.go({json.dumps(place)})")
        self.settle()

    @property
    def view(self) -> dict[str, float]:
        found: dict[str, float] = self.browser.run("({...viewer.view})")
        return found

    def canvas(self, key: str) -> NDArray[np.uint8]:
        """What a panel's canvas holds, (Y, X, RGBA)."""
        url = self.browser.run(f"viewer.panels.find((panel) => panel.picture.key === '{key}').canvas.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))

    def shown(
        self, key: str, rows: range, columns: range, um: float = 0, origin: float | None = None, shift: float = 0
    ) -> NDArray[np.uint8]:
        """Colours where these pixels of an image must lie by its metadata, `shift` pixels from their centres, (Y, X, RGB)."""
        canvas, view = self.canvas(key), self.view
        um = um or UM[key]
        origin = (um - PIXEL_UM) / 2 if origin is None else origin  # both grids begin at the same edge of the field

        def places(numbers: range, centre: float, size: int) -> NDArray[np.intp]:
            return np.floor((origin + (np.asarray(numbers) + shift) * um - centre) / view["umPerPixel"] + size / 2).astype(np.intp)

        y, x = places(rows, view["y"], canvas.shape[0]), places(columns, view["x"], canvas.shape[1])
        assert (np.concatenate([y, x]) >= 0).all()
        return canvas[np.ix_(y, x)][..., :3]

    def wanted(self, key: str, plane: NDArray[Any], channel: int) -> NDArray[np.uint8]:
        """Colours of a plane in the window stored with the image."""
        store, image = {
            "input": (paths.raw_store(self.config, NAME), ""),
            "truth": (paths.target_store(self.config, NAME), ""),
            "restored": (paths.restored_store(self.config, NAME), ""),
            "std": (paths.restored_store(self.config, NAME), "std"),
        }[key]
        low, high = open_image(store, image=image).attrs["windows"][channel]
        shade = np.rint(np.clip((np.nan_to_num(plane.astype(np.float64)) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        table = colours(SEQUENTIAL, 256) if key == "std" else np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
        return np.where(np.isnan(plane)[..., None], np.array(MISSING, np.uint8), table[shade])

    def bar(self) -> tuple[float, float]:
        """Length that the scale bar's label says [micrometre], and its width [CSS pixels]."""
        label, width = self.browser.run(
            "(() => { const bar = document.querySelector('.bar');"
            " return [bar.querySelector('b').textContent, bar.querySelector('i').getBoundingClientRect().width]; })()"
        )
        number, unit = label.split(" ")
        return float(number) * {"nm": 1e-3, "µm": 1, "mm": 1e3}[unit], width


def close(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    """Equal to one shade of 255: the browser rounds halves up, numpy to even."""
    if one.shape == other.shape and (one == one[..., :1]).all():
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=1)
    else:  # a colour table: a step of one shade changes a colour by a few units
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=6)
