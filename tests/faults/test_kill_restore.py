"""SIGKILL in the middle of sampling and stitching: the same command again gives the bytes of an undisturbed run.

The kills at exact places happen in a forked child that kills itself in the middle of a write (data on disk, name not yet in place) or
beside a rename; one kill comes from outside, at the real command.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from restoration_world import NAME, content, make_config, make_world, plan_of

from cvdm_core import paths
from cvdm_core.records.receipts import fingerprint
from cvdm_core.records.verify import folder_checksums, verify
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.stitch import stitch

SIZE = (24, 33)
ONE_BLOCK = {"shards_per_job": 16}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Content of the partial store and of the published one, where nothing went wrong."""
    torch.set_num_threads(1)
    config = make_world(tmp_path_factory.mktemp("undisturbed"), SIZE, sampling=ONE_BLOCK)
    sample_block(config, NAME, 0)
    partial = whole_files(config)
    stitch(config, NAME)
    return partial, content(paths.restored_store(config, NAME))


def whole_files(config):
    """Return a fingerprint of the partial store, without the unnamed halves of files that a kill leaves (`publish` removes them)."""
    files = folder_checksums(plan_of(config).partial)["files"]
    return fingerprint({name: value for name, value in files.items() if not name.endswith(".partial")})


def killed(work, at):
    """Run `work` in a child that `at(event)` may kill; return whether it was killed. Events: ("fsync", n), ("before" | "after", name)."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    try:
        arm(at)
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def arm(at):
    fsync, replace = os.fsync, os.replace
    count = 0

    def die(*event):
        if at == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_fsync(descriptor):
        nonlocal count
        count += 1
        die("fsync", count)
        fsync(descriptor)

    def dying_replace(source, target):
        die("before", Path(target).name)
        moved = replace(source, target)
        die("after", Path(target).name)
        return moved

    os.fsync, os.replace = dying_fsync, dying_replace


def test_sampling_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_run(tmp_path, undisturbed):
    config = make_world(tmp_path, SIZE, sampling=ONE_BLOCK)
    folder = plan_of(config).shard_folder
    kills = 0
    receipts = []
    while killed(lambda: sample_block(config, NAME, 0), ("fsync", 6 + 5 * kills)):
        kills += 1
        receipts.append(len(list(folder.glob("0*.json"))))
        assert not paths.block_receipt(config, NAME, 0).exists()
        assert verify([tmp_path]) == []
    assert kills >= 3
    assert receipts == sorted(receipts)
    assert receipts[-1] > receipts[0]
    assert paths.block_receipt(config, NAME, 0).exists()
    assert whole_files(config) == undisturbed[0]


def test_stitching_killed_anywhere_never_shows_a_half_image_and_ends_with_the_same_bytes(tmp_path, undisturbed):
    old = make_world(tmp_path, SIZE, sampling={**ONE_BLOCK, "seed": 1, "samples": 2})
    sample_block(old, NAME, 0)
    stitch(old, NAME)
    store = paths.restored_store(old, NAME)
    before = content(store)
    config = make_config(tmp_path, sampling=ONE_BLOCK)
    sample_block(config, NAME, 0)
    places = [
        ("fsync", 1), ("fsync", 8), ("before", "published.json"), ("after", "published.json"), ("before", ".restored.ome.zarr.old"),
        ("after", ".restored.ome.zarr.old"), ("after", "restored.ome.zarr"), ("before", "stitch.json"),
    ]  # fmt: skip
    seen = []
    for place in places:
        assert killed(lambda: stitch(config, NAME), place), place
        state = {before: "old", undisturbed[1]: "new"}[content(store)] if store.exists() else "none"
        seen.append(state)
        assert (verify([tmp_path]) == []) == (state == "old"), place
    assert seen == ["old"] * 5 + ["none", "new", "new"]
    stitch(config, NAME)
    assert content(store) == undisturbed[1]
    assert verify([tmp_path]) == []
    left = sorted(path.name for path in store.parent.iterdir())
    assert left == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]


def test_integers_survive_a_kill_likewise(tmp_path):
    config = make_world(tmp_path, (20, 17), sampling=ONE_BLOCK, store={"output_dtype": "uint16"})
    sample_block(config, NAME, 0)
    for place in [("fsync", 20), ("after", "restored.ome.zarr")]:
        assert killed(lambda: stitch(config, NAME), place)
    first = content(paths.restored_store(config, NAME))
    stitch(config, NAME)
    assert content(paths.restored_store(config, NAME)) == first
    assert verify([tmp_path]) == []


def test_the_command_killed_from_outside_goes_on_where_it_was(tmp_path, undisturbed):
    config = make_world(tmp_path, SIZE, sampling=ONE_BLOCK)
    command = [sys.executable, "-c", "from cvdm_core.cli import main; main()", "sample", "--config", str(tmp_path / "config.yaml")]
    command += ["--acquisition", NAME, "--block", "0", "--threads", "1"]
    folder = plan_of(config).shard_folder
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(folder.glob("0*.json")):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not paths.block_receipt(config, NAME, 0).exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "shards are there already" in again.stderr
    assert whole_files(config) == undisturbed[0]
