"""Sets as Micro-Manager writes them, made of a few bytes: MMStack files with an index of their own, NDTiff folders."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = 40  # bytes of the TIFF header and Micro-Manager's offsets, before the summary


def write_mmstack(path: Path, planes: dict[tuple[int, int, int, int], np.ndarray[Any, Any]], **summary: Any) -> None:
    """Write one MMStack file; planes by (channel, slice, frame, position), all of one shape, uint16.

    Layout: https://micro-manager.org/Micro-Manager_File_Formats. Pixels follow 162 bytes behind the start of their page.
    """
    text = json.dumps({"MicroManagerVersion": "2.0.1", "Frames": 1, "Slices": 1, "Channels": 1, "Positions": 1} | summary).encode()
    first, pages, index = _HEADER + len(text), [], []
    at = first
    for number, (place, pixels) in enumerate(planes.items()):
        page = _page(at, pixels, last=number == len(planes) - 1, tag=json.dumps({"Exposure-ms": 20.5}).encode())
        index.append((*place, at))
        pages.append(page)
        at += len(page)
    end = struct.pack("<II", 3453623, len(index)) + b"".join(struct.pack("<5I", *entry) for entry in index)
    header = b"II*\0" + struct.pack("<I", first) + struct.pack("<II", 54773648, at)
    header += struct.pack("<IIII", 0, 0, 0, 0) + struct.pack("<II", 2355492, len(text))
    path.write_bytes(header + text + b"".join(pages) + end)


def _page(at: int, pixels: np.ndarray[Any, Any], last: bool, tag: bytes = b"") -> bytes:
    """Return an IFD of 13 entries (162 bytes with its count and link), the pixels and Micro-Manager's tag of the plane."""
    data, (height, width) = pixels.astype("<u2").tobytes(), pixels.shape
    tag += b" " * (8 + -(len(data) + len(tag)) % 8)
    behind = at + 162 + len(data)
    entries = [
        (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, at + 162),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1), (339, 3, 1, 1), (51123, 2, len(tag), behind),
    ]  # fmt: skip
    link = 0 if last else behind + len(tag)
    return struct.pack("<H", 13) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", link) + data + tag


def write_ndtiff(folder: Path, planes: dict[str, np.ndarray[Any, Any]], files: int = 1, **summary: Any) -> None:
    """Write an NDTiff 3 folder; planes by the JSON of their axes, spread over `files` files in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    text, index = json.dumps(summary).encode(), []
    share = -(-len(planes) // files)
    for number in range(files):
        name = "run_NDTiffStack.tif" if number == 0 else f"run_NDTiffStack_{number}.tif"
        own = list(planes.items())[number * share : (number + 1) * share]
        at, body = 28 + len(text), b""
        for axes, pixels in own:
            page = _page(at, pixels, last=axes == own[-1][0], tag=b'{"PixelSizeUm": 0.1}')
            words = axes.encode()
            index.append(struct.pack("<I", len(words)) + words + struct.pack("<I", len(name)) + name.encode())
            index.append(struct.pack("<IiiiiIii", at + 162, pixels.shape[1], pixels.shape[0], 1, 0, 0, 0, 0))
            at, body = at + len(page), body + page
        header = b"II*\0" + struct.pack("<II", 28 + len(text), 483729) + struct.pack("<IIII", 3, 2, 2355492, len(text))
        (folder / name).write_bytes(header + text + body)
    (folder / "NDTiff.index").write_bytes(b"".join(index))
