"""Stitching what was stitched before: by other code, with other settings, after a kill, or with damage."""

import platform

import numpy as np
import pytest
import torch
import zarr
from restoration_world import NAME, content, flip_a_bit, make_config, make_world, names, plan_of, restore_all

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.images.reading import open_image
from cvdm_core.records import receipts
from cvdm_core.records.receipts import read_json
from cvdm_core.records.verify import verify
from cvdm_core.restoration import plan as plan_module
from cvdm_core.restoration import sample
from cvdm_core.restoration import stitch as stitch_module
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.stitch import stitch


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_receipts_of_a_published_image_are_written_again_without_computing(tmp_path, never_computes):
    config = make_world(tmp_path)
    restore_all(config)
    stitch(config, NAME)
    store = paths.restored_store(config, NAME)
    before, details = content(store), read_json(paths.stitch_receipt(config, NAME))["details"]
    never_computes()
    for path in (paths.block_receipt(config, NAME, 1), paths.stitch_receipt(config, NAME)):
        path.unlink()
    restore_all(config)
    stitch(config, NAME)
    assert content(store) == before
    assert read_json(paths.stitch_receipt(config, NAME))["details"] == details
    assert verify([tmp_path]) == []


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_rerun_that_finds_its_work_done_does_not_say_that_it_made_the_pixels(tmp_path, monkeypatch, never_computes, dtype):
    config = make_world(tmp_path, store={"output_dtype": dtype})
    restore_all(config)
    stitch(config, NAME)
    made = read_json(paths.stitch_receipt(config, NAME))["details"]["made"]
    assert [(maker["versions"], maker["host"], maker["shards"]) for maker in made] == [(receipts.versions(), platform.node(), 9)]
    upgraded = {**receipts.versions(), "torch": "99.0"}
    monkeypatch.setattr(receipts, "versions", lambda: upgraded)
    never_computes()
    restore_all(config)
    stitch(config, NAME)
    again = read_json(paths.stitch_receipt(config, NAME))
    assert again["versions"] == upgraded
    assert again["details"]["made"] == made
    shards = read_json(paths.block_receipt(config, NAME, 0))["details"]["shards"]
    assert [shard["made"]["versions"] for shard in shards.values()] == [made[0]["versions"]] * 4


def test_an_image_made_by_two_versions_names_both(tmp_path, monkeypatch):
    config = make_world(tmp_path)
    sample_block(config, NAME, 0)
    monkeypatch.setattr(sample, "versions", lambda: {"numpy": "99.0"})
    restore_all(config)
    stitch(config, NAME)
    first, second = read_json(paths.stitch_receipt(config, NAME))["details"]["made"]
    assert (first["shards"], second["shards"], second["versions"]) == (4, 5, {"numpy": "99.0"})


@pytest.mark.parametrize("older", ["older", ""])
def test_blocks_that_older_code_has_all_restored_are_stitched_and_not_restored_again(tmp_path, monkeypatch, never_computes, older):
    config = make_world(tmp_path, (20, 20))
    monkeypatch.setattr(plan_module, "work_code", lambda *rooms: older)
    restore_all(config)
    sampled = zarr.open_array(plan_of(config).partial / "std/0", mode="r")[:]
    monkeypatch.setattr(plan_module, "work_code", lambda *rooms: "newer")
    never_computes()
    stitch(config, NAME)
    assert np.array_equal(open_image(paths.restored_store(config, NAME), image="std").values, sampled)
    assert names(config) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]
    assert verify([tmp_path]) == []


def test_no_image_is_made_of_blocks_by_two_kinds_of_code(tmp_path, monkeypatch):
    config = make_world(tmp_path)
    sample_block(config, NAME, 0)
    monkeypatch.setattr(plan_module, "work_code", lambda *rooms: "newer")
    for block in (1, 2):
        sample_block(config, NAME, block)
    with pytest.raises(UserError, match=r"block 0 \(restored by other code, or another torch, than other blocks\); run the workflow again"):
        stitch(config, NAME)
    assert [paths.block_receipt(config, NAME, block).exists() for block in range(3)] == [False, True, True]
    sample_block(config, NAME, 0)
    stitch(config, NAME)
    assert names(config) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]


def test_damage_in_a_published_image_is_found_and_mended(tmp_path):
    config = make_world(tmp_path, (20, 17))
    restore_all(config)
    stitch(config, NAME)
    store = paths.restored_store(config, NAME)
    before = content(store)
    for victim in ("0/c/0/0/0/1/0", "std/2/c/0/0/0/0/0"):
        flip_a_bit(store / victim)
        with pytest.raises(UserError, match=rf"{victim} in .* is missing or damaged"):
            stitch(config, NAME)
        restore_all(config)
        stitch(config, NAME)
        assert content(store) == before
        assert verify([tmp_path]) == []


def stitch_killed_in_its_clean_up(config, monkeypatch):
    """Stitch, and die when one file of each array of the partial store is deleted, as an older version did under its own name."""

    def dies(plan):
        for level in ("0", "std/0"):
            (plan.partial / level / "c/0/0/0/0/0").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stitch_module, "_remove_leftovers", dies)
        with pytest.raises(KeyboardInterrupt):
            stitch(config, NAME)


def test_what_a_kill_left_of_an_integer_images_source_keeps_nobody_from_finishing(tmp_path, monkeypatch, never_computes):
    config = make_world(tmp_path, (20, 24), store={"output_dtype": "uint16"})
    restore_all(config)
    stitch_killed_in_its_clean_up(config, monkeypatch)
    (paths.restored_folder(config, NAME) / ".restored.ome.zarr.old" / "0").mkdir(parents=True)
    never_computes()
    stitch(config, NAME)
    assert names(config) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]
    assert verify([tmp_path]) == []


def test_damage_beside_such_a_leftover_is_mended_too(tmp_path, monkeypatch):
    config = make_world(tmp_path, (20, 24), store={"output_dtype": "uint16"})
    restore_all(config)
    stitch_killed_in_its_clean_up(config, monkeypatch)
    before = content(paths.restored_store(config, NAME))
    flip_a_bit(paths.restored_store(config, NAME) / "std/2/c/0/0/0/0/0")
    with pytest.raises(UserError, match="missing or damaged"):
        stitch(config, NAME)
    restore_all(config)
    stitch(config, NAME)
    assert content(paths.restored_store(config, NAME)) == before
    assert verify([tmp_path]) == []


def test_new_settings_replace_the_image_and_leave_nothing_of_the_old(tmp_path):
    config = make_world(tmp_path, (16, 16))
    restore_all(config)
    stitch(config, NAME)
    abandoned = make_config(tmp_path, sampling={"seed": 1})
    sample_block(abandoned, NAME, 0)
    changed = make_config(tmp_path, sampling={"seed": 2, "keep_samples": 0})
    restore_all(changed)
    stitch(changed, NAME)
    assert names(changed) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]
    assert open_image(paths.restored_store(changed, NAME)).attrs["cvdm"]["seed"] == 2
    with pytest.raises(UserError):
        open_image(paths.restored_store(changed, NAME), image="sample_0")
    assert verify([tmp_path]) == []
