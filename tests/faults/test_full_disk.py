"""A full disk, in a small tmpfs: one sentence that names a file, nothing half-published, and it goes on once there is space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from restoration_world import NAME, content, make_world
from store_tree import config_of, pixels, row_of, write_ome_tiff

from cvdm_core import paths
from cvdm_core.acquisitions.ingest import ingest
from cvdm_core.config import Config
from cvdm_core.errors import DiskError
from cvdm_core.images.export import export
from cvdm_core.images.validation import validate
from cvdm_core.records.receipts import failure_path, read_json, stage
from cvdm_core.records.verify import verify
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.stitch import stitch

DISK_BYTES = 8 * 2**20
PAGE = 4096
COMMAND = "from cvdm_core.cli import main; main()"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"a small disk cannot be mounted here (that needs root): {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill_up(disk: Path, pages: int) -> Path:
    """Leave so many free pages of 4 KiB, by a file that can be deleted again."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail - pages
    assert free >= 0
    ballast.write_bytes(b"x" * PAGE * free)
    assert os.statvfs(disk).f_bavail == pages
    return ballast


def assert_stopped(work: Callable[[], None], disk: Path, store: Path, pages: int) -> None:
    """The work stops for want of space with one sentence, and the store is not there."""
    ballast = fill_up(disk, pages)
    with pytest.raises(DiskError, match="there is no space left") as caught:
        work()
    assert str(disk) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.exists()
    assert verify([disk]) == []
    ballast.unlink()


@pytest.fixture
def ingestion(disk: Path, tmp_path: Path) -> Config:
    tiff = write_ome_tiff(tmp_path / "a.tif", pixels((1, 1, 1, 150, 150)))
    config = config_of(tmp_path, row_of("cells", tiff))
    (disk / "results").mkdir()
    return config.model_copy(update={"results": str(disk / "results")})


def test_ingest_stops_wherever_the_space_ends_and_goes_on(ingestion: Config, disk: Path, tmp_path: Path) -> None:
    """Pages left: for nothing, for the first folders and zarr's metadata, for some shards, for nearly all."""
    store = paths.raw_store(ingestion, "cells")
    for pages in (0, 1, 3, 6, 12, 30, 40):
        assert_stopped(lambda: ingest(ingestion, "cells"), disk, store, pages)
        assert {path.name for path in store.parent.glob("*")} <= {"ingest.json"}, "nothing is left over"
    ingest(ingestion, "cells")
    validate(store)
    assert verify([disk]) == []
    assert not failure_path(ingestion.results, "ingest", "cells").exists()
    elsewhere = ingestion.model_copy(update={"results": str(tmp_path / "results")})
    ingest(elsewhere, "cells")
    assert content(store) == content(paths.raw_store(elsewhere, "cells"))


def test_the_command_says_one_sentence_and_the_index_the_right_class(ingestion: Config, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(ingestion.model_dump(mode="json")))
    fill_up(disk, 12)
    arguments = ["ingest", "--config", str(tmp_path / "config.yaml"), "--acquisition", "cells"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    # Around it stands what the job ran on and what it used, each line with the stage's name.
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("cvdm ingest: ")]
    assert sentence.startswith(f"cvdm: {disk}/results/cells")
    assert "no space" in sentence
    assert read_json(failure_path(ingestion.results, "ingest", "cells"))["class"] == "disk"


def test_sample_and_stitch_stop_and_go_on(disk: Path) -> None:
    torch.set_num_threads(1)
    config = make_world(disk, (24, 33), sampling={"shards_per_job": 16})
    final = paths.restored_store(config, NAME)
    for pages in (0, 8, 40):
        assert_stopped(lambda: sample_block(config, NAME, 0), disk, final, pages)
    sample_block(config, NAME, 0)
    for pages in (0, 2, 10):
        assert_stopped(lambda: stitch(config, NAME), disk, final, pages)
    stitch(config, NAME)
    validate(final)
    assert verify([disk]) == []
    assert sorted(path.name for path in final.parent.iterdir()) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]


@pytest.mark.parametrize("name", ["out.ozx", "out.ome.tif"])
def test_export_leaves_no_half_file(ingestion: Config, disk: Path, name: str) -> None:
    ingest(ingestion, "cells")
    out = disk / name
    ballast = fill_up(disk, 4)
    with pytest.raises(DiskError, match=f"{name}: there is no space left"):
        export(paths.raw_store(ingestion, "cells"), out)
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "results"]
    ballast.unlink()
    export(paths.raw_store(ingestion, "cells"), out)
    assert out.stat().st_size > 4 * PAGE


def test_a_stage_that_cannot_even_note_its_failure_still_says_why(disk: Path) -> None:
    fill_up(disk, 0)
    with pytest.raises(ValueError, match="the reason"), stage(disk / "a.json", "ingest", "cells", disk):
        raise ValueError("the reason")
