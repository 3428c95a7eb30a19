"""A working directory for the tests of registration: tiny TIFFs, a sheet, and what was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cvdm_core.acquisitions.added import Added
from cvdm_core.acquisitions.refusals import read_refusals
from cvdm_core.acquisitions.register import register
from cvdm_core.config import Config, ModelSettings
from cvdm_core.errors import UserError

SHEET = "config/acquisitions.tsv"
CONFIG = Config(acquisitions=SHEET, model=ModelSettings(scale=2))


def tiff(path: str, *shape: int, pixel_um: float | None = 0.1, dtype: str = "uint16", **metadata: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(1).integers(0, 4000, shape or (32, 40)).astype(dtype)
    if pixel_um:
        metadata |= {f"PhysicalSize{axis}": pixel_um for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata=metadata)


def rows(*lines: str, columns: str = "acquisition specimen split input target") -> None:
    Path(SHEET).parent.mkdir(exist_ok=True)
    text = "\n".join(["\t".join(columns.split()), *("\t".join(line.split()) for line in lines)])
    Path(SHEET).write_text(text + "\n")


def break_line(sheet: str, name: str) -> None:
    """Do to a row what a spreadsheet of another country does."""
    header, *lines = Path(sheet).read_text().splitlines()
    column = header.split("\t").index("na")
    cells = [line.split("\t") for line in lines]
    broken = [[*line[:column], "1,4", *line[column + 1 :]] if line[0] == name else line for line in cells]
    Path(sheet).write_text("\n".join([header, *map("\t".join, broken)]) + "\n")


def refused(*paths: str, **options: Any) -> list[str]:
    """Register, expect refusals, and return their sentences."""
    with pytest.raises(UserError, match=r"refused.*registered: \d+\."):
        register(CONFIG, paths, Added(**options))
    return [refusal.problem for refusal in read_refusals(SHEET)]
