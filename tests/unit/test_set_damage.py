"""Sets and STK files with bytes changed or cut off anywhere: the right pixels, or a `UserError`, and nothing else."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metamorph import write_stk
from micromanager import write_mmstack, write_ndtiff
from test_ome_sets import NAMES, write_set
from tiff_dialects import pixels, read_all

from cvdm_core.errors import UserError
from cvdm_core.images.tiff import open_planes

ARRAY = pixels(2, 2, 9, 11)  # (T, C, Y, X)


def mmstack(folder: Path) -> tuple[Path, Path]:
    planes = {(c, 0, t, p): ARRAY[t, c] for p in range(2) for t in range(2) for c in range(2)}
    write_mmstack(folder / "run_MMStack.ome.tif", planes, Frames=2, Channels=2, Positions=2)
    return (folder / "run_MMStack.ome.tif",) * 2


def ndtiff(folder: Path) -> tuple[Path, Path]:
    write_ndtiff(folder, {json.dumps({"time": t, "channel": c}): ARRAY[t, c] for t in range(2) for c in range(2)})
    return folder / "run_NDTiffStack.tif", folder / "NDTiff.index"


def stk(folder: Path) -> tuple[Path, Path]:
    write_stk(folder / "a.stk", ARRAY[:, 0], [0.0, 0.0], [0, 1000], 0.1)
    return (folder / "a.stk",) * 2


def ome_set(folder: Path) -> tuple[Path, Path]:
    write_set(folder, NAMES, "set.companion.ome")
    return folder / "t0.ome.tif", folder / "set.companion.ome"


KINDS: dict[str, Callable[[Path], tuple[Path, Path]]] = {"mmstack": mmstack, "ndtiff": ndtiff, "stk": stk, "ome": ome_set}


def attempt(path: Path) -> np.ndarray[Any, Any] | None:
    try:
        with open_planes(path) as planes:
            planes.check_complete()
            return read_all(planes)
    except UserError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_a_set_raises_nothing_but_a_user_error(tmp_path: Path, kind: str) -> None:
    path, damaged = KINDS[kind](tmp_path)
    whole, dice = damaged.read_bytes(), random.Random(kind)
    assert attempt(path) is not None
    tracemalloc.start()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(dice.choice([1, 3])):
            content[dice.randrange(min(len(whole), dice.choice([200, len(whole)])))] = dice.randrange(256)
        damaged.write_bytes(content)
        attempt(path)
    assert tracemalloc.get_traced_memory()[1] < 500e6
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path, damaged = KINDS[kind](tmp_path)
    whole, expected = damaged.read_bytes(), attempt(path)
    for length in {*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1}:
        damaged.write_bytes(whole[:length])
        found = attempt(path)
        if found is not None:  # metadata behind the pixels may be lost without harm, pixels may not
            np.testing.assert_array_equal(found, expected, err_msg=f"cut at {length} of {len(whole)}")
