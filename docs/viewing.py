"""Draw docs/images/viewing.png: the page of `cvdm view` for an acquisition that was restored.

Run it from the folder of the demo: `python docs/viewing.py cell10_dual docs/images/viewing.png`. Needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

from cvdm_core.config import load
from cvdm_core.viewing.server import open_server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser

SIZE = (1080, 500)  # CSS pixels
ZOOM = 4.0
COLOURS = 128  # of the palette of the PNG, which is to stay small


def main(acquisition: str, picture: Path) -> None:
    """Open the page, look closer, put the cursor somewhere, and save what is seen."""
    server = open_server(load([Path("config/config.yaml")]), acquisition)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, Browser(Path(folder), SIZE) as browser:
        browser.go(server.url)
        browser.wait("window.viewer && viewer.settled")
        browser.run(f"viewer.zoom({ZOOM}); viewer.point({{x: viewer.view.x + 2, y: viewer.view.y - 1}})")
        browser.wait("viewer.settled")
        browser.screenshot(picture)
    server.shutdown()
    with Image.open(picture) as seen:
        seen.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
