"""SIGKILL in the middle of ingest, then the same command again: the same bytes as an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from store_tree import config_of, digests, pixels, row_of, write_ome_tiff

from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import Config
from cvdm_core.records.verify import verify

# The child dies before the n-th file is synced, or before a file or folder gets its final name.
CHILD = """
import json, os, pathlib, signal, sys
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import parse
point = sys.argv[1]
fsync, replace, synced = os.fsync, os.replace, 0

def deadly_fsync(descriptor):
    global synced
    if str(synced) == point:
        os.kill(os.getpid(), signal.SIGKILL)
    synced += 1
    return fsync(descriptor)

def deadly_replace(source, target):
    if pathlib.Path(target).name == point:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(source, target)

os.fsync, os.replace = deadly_fsync, deadly_replace
ingest(parse(json.loads(sys.argv[2]), "the test"), "cells")
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("world")
    tiff = write_ome_tiff(folder / "a.tif", pixels((1, 1, 1, 40, 40)), 0.12)
    target = write_ome_tiff(folder / "b.tif", pixels((1, 1, 1, 80, 80)), 0.06)
    config = config_of(folder, row_of("cells", tiff, target))
    ingest(config, "cells")
    return config, _stores(folder / "results")


def _stores(results: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(results).items() if "ingest.json" not in name}


def _killed(config: Config, point: str) -> int:
    arguments = [sys.executable, "-c", CHILD, point, config.model_dump_json()]
    return subprocess.run(arguments, capture_output=True, text=True, check=False).returncode


FIRST = ["0", "10", "16", "raw.ome.zarr", "target.ome.zarr", "ingest.json"]
AGAIN = ["10", ".raw.ome.zarr.old", "raw.ome.zarr", "target.ome.zarr", "ingest.json"]


@pytest.mark.parametrize(("point", "again"), [*((point, False) for point in FIRST), *((point, True) for point in AGAIN)])
def test_a_killed_ingest_ends_with_the_same_bytes(world: Any, tmp_path: Path, point: str, again: bool) -> None:
    config, undisturbed = world
    config = config.model_copy(update={"results": str(tmp_path / "results")})
    if again:
        ingest(config, "cells")
    assert _killed(config, point) == -signal.SIGKILL
    stores = {name for name in ("raw.ome.zarr", "target.ome.zarr") if (tmp_path / "results" / "cells" / name).exists()}
    accepted = not verify([tmp_path / "results"])
    if again:
        assert accepted == (len(stores) == 2), "the old receipt speaks for both stores"
    else:
        assert accepted == (not stores), "no receipt, no result"
    ingest(config, "cells")
    assert _stores(tmp_path / "results") == undisturbed
    assert verify([tmp_path / "results"]) == []
