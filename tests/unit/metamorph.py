"""MetaMorph STK files of a few bytes: one page for all planes, and what is known of them in the tags UIC1 and UIC2."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

JULIAN_DAY = 2_454_214  # 2007-04-24
RATIONAL_TAGS = {4: 1, 5: 1}  # XCalibration, YCalibration


def write_stk(path: Path, planes: np.ndarray[Any, Any], z_um: list[float], times_ms: list[int], pixel_um: float | None = None) -> None:
    """Write planes (N, Y, X) of uint16 with their distances and times of creation."""
    count, height, width = planes.shape
    text = "\0".join(["Exposure: 200 ms\r\nBinning: 1 x 1\r\n"] * count).encode() + b"\0"
    uic2 = b"".join(struct.pack("<6I", round(z * 1000), 1000, JULIAN_DAY, t, JULIAN_DAY, t) for z, t in zip(z_um, times_ms, strict=True))
    entries = 13
    at = 8 + 2 + 12 * entries + 4
    data_at = at
    text_at = data_at + planes.size * 2
    uic2_at = text_at + len(text)
    uic1_at = uic2_at + len(uic2)
    unit = b"um\0"
    # UIC1: identifiers and values; rationals and texts lie elsewhere
    rational_at = uic1_at + 8 * 4
    unit_at = rational_at + 8
    uic1 = struct.pack("<8I", 3, 1 if pixel_um else 0, 4, rational_at, 5, rational_at, 6, unit_at)
    uic1 += struct.pack("<II", round((pixel_um or 0) * 10_000), 10_000) + struct.pack("<I", len(unit)) + unit
    table = [
        (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (270, 2, len(text), text_at), (273, 4, 1, data_at), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height * 2),
        (33628, 4, 4, uic1_at), (33629, 5, count, uic2_at),
    ]  # fmt: skip
    page = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *entry) for entry in table) + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + page + planes.astype("<u2").tobytes() + text + uic2 + uic1)
