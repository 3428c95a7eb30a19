"""Stitching: every shard checked, one verified image."""

import numpy as np
import pytest
import torch
import zarr
from restoration_world import NAME, PIXEL_UM, content, flip_a_bit, make_config, make_world, names, plan_of, restore_all, write_model

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.images.pyramid import pyramid
from cvdm_core.images.reading import open_image
from cvdm_core.model.folder import load_model
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.records.verify import verify
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.stitch import stitch
from cvdm_core.sheet import read_sheet, write_sheet


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_the_published_image_is_what_was_sampled_with_pyramid_places_and_names(tmp_path):
    config = make_world(tmp_path, (40, 33), channels=("actin", "dna"))
    restore_all(config)
    sampled = zarr.open_array(plan_of(config).partial / "std/0", mode="r")[:]
    stitch(config, NAME)
    std = open_image(paths.restored_store(config, NAME), image="std")
    assert np.array_equal(std.values, sampled)
    levels = list(pyramid(sampled[0, 1, 0], std.attrs["levels"]))
    for level, expected in enumerate(levels):
        stored = open_image(paths.restored_store(config, NAME), level, "std")
        np.testing.assert_allclose(stored.values[0, 1, 0], expected, rtol=1e-6)
        pixel = PIXEL_UM / 2 * 2**level
        assert stored.attrs["pixel_size_um"] == pytest.approx((pixel, pixel))
        assert float(stored["y"][0]) == pytest.approx(-PIXEL_UM / 4 + (2**level - 1) / 2 * PIXEL_UM / 2)
    assert len(levels) == 4
    assert list(std["c"].values) == ["actin", "dna"]
    facts = std.attrs["cvdm"]
    assert facts["samples"] == 3
    assert facts["std_ddof"] == 1
    assert facts["weights_sha256"] == load_model(paths.model_folder(config)).weights_sha256
    low, high = open_image(paths.restored_store(config, NAME)).attrs["windows"][0]
    mean = open_image(paths.restored_store(config, NAME)).values[:, 0]
    assert mean.min() <= low < high <= mean.max()
    assert names(config) == ["blocks", "published.json", "restored.ome.zarr", "stitch.json"]
    assert verify([tmp_path]) == []
    folder = paths.model_folder(config)
    for receipt in (paths.block_receipt(config, NAME, 0), paths.stitch_receipt(config, NAME)):
        read = read_json(receipt)["read"]
        assert read[str(folder)] == sha256_file(folder / "weights.safetensors")
        assert read[str(folder / "model.yaml")] == sha256_file(folder / "model.yaml")


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_power_cut_leaves_no_empty_file_of_what_a_receipt_speaks_for(tmp_path, synced, version):
    config = make_world(tmp_path, (20, 20), store={"format": version})
    restore_all(config)
    stitch(config, NAME)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert len(files) > 30
    assert [path for path in files if path.stat().st_ino not in synced] == []


def test_the_sheets_number_of_samples_gives_the_image_of_that_number_in_the_configuration(tmp_path):
    two = {"samples": 2, "keep_samples": 2}
    by_file, by_sheet = make_world(tmp_path / "a", sampling=two), make_world(tmp_path / "b", sampling={"samples": 3, "keep_samples": 3})
    rows = read_sheet(by_sheet.acquisitions)
    write_sheet(by_sheet.acquisitions, {NAME: rows[NAME].model_copy(update={"samples": 2})})
    for config in (by_file, by_sheet):
        for block in range(3):
            sample_block(config, NAME, block)
        stitch(config, NAME)
    assert read_json(paths.stitch_receipt(by_sheet, NAME))["settings"]["sampling"]["samples"] == 2
    assert content(paths.restored_store(by_sheet, NAME)) == content(paths.restored_store(by_file, NAME))


def test_missing_blocks_are_named_with_the_command_that_makes_them(tmp_path):
    config = make_world(tmp_path)
    sample_block(config, NAME, 1)
    with pytest.raises(UserError, match=r"block 0 \(no receipt\); block 2 \(no receipt\).*`cvdm sample --acquisition cells --block 0`"):
        stitch(config, NAME)
    assert not paths.stitch_receipt(config, NAME).exists()
    assert not paths.restored_store(config, NAME).exists()


def test_blocks_of_other_settings_are_named_and_withdrawn_and_cost_nothing_where_they_were_right(tmp_path, never_computes):
    config = make_world(tmp_path, (16, 16))
    restore_all(config)
    with pytest.raises(UserError, match=r"block 0 \(restored with other settings, weights or input\)"):
        stitch(make_config(tmp_path, sampling={"seed": 5}), NAME)
    assert not paths.block_receipt(config, NAME, 0).exists(), "the workflow would ask for an image of these blocks again and again"
    never_computes()
    restore_all(config)
    stitch(config, NAME)


@pytest.mark.parametrize("published", [False, True])
def test_after_a_model_was_replaced_by_one_with_older_times_the_blocks_are_sampled_again(tmp_path, published):
    """Snakemake sees no newer file, so it runs stitch alone, which failed in every run."""
    config = make_world(tmp_path, (16, 16))
    restore_all(config)
    if published:
        stitch(config, NAME)
    write_model(config, seed=5)
    with pytest.raises(UserError, match="weights"):
        stitch(config, NAME)
    assert not paths.block_receipt(config, NAME, 0).exists()
    restore_all(config)
    stitch(config, NAME)
    weights = open_image(paths.restored_store(config, NAME)).attrs["cvdm"]["weights_sha256"]
    assert weights == load_model(paths.model_folder(config)).weights_sha256


@pytest.mark.parametrize("harm", ["missing", "one bit"])
def test_a_damaged_shard_is_found_named_and_made_again(tmp_path, harm):
    config = make_world(tmp_path)
    restore_all(config)
    undamaged = content(plan_of(config).partial)
    victim = plan_of(config).partial / "lower/0/c/0/0/0/1/2"
    victim.unlink() if harm == "missing" else flip_a_bit(victim)
    with pytest.raises(UserError, match=r"block 1 \(lower/0/c/0/0/0/1/2 in .*\.partial is missing or damaged\).*--block 1`"):
        stitch(config, NAME)
    assert [paths.block_receipt(config, NAME, block).exists() for block in range(3)] == [True, False, True]
    sample_block(config, NAME, 1)
    assert content(plan_of(config).partial) == undamaged
    stitch(config, NAME)
    assert verify([tmp_path]) == []


def test_integers_hold_the_numbers_to_half_a_step_and_say_how_to_read_them(tmp_path, never_computes):
    config = make_world(tmp_path, (20, 24), store={"output_dtype": "uint16"})
    restore_all(config)
    sampled = {name: zarr.open_array(plan_of(config).partial / name / "0", mode="r")[:] for name in ("", "std", "upper", "sample_0")}
    stitch(config, NAME)
    for name, expected in sampled.items():
        image = open_image(paths.restored_store(config, NAME), image=name)
        if name == "std":
            assert np.array_equal(image.values, expected)
            assert "intensity_map" not in image.attrs["cvdm"]
            continue
        linear = image.attrs["cvdm"]["intensity_map"]
        assert image.dtype == np.uint16
        assert np.abs(image.values * linear["scale"] + linear["offset"] - expected).max() <= linear["scale"] * 0.5001 + 1e-4
        assert linear["scale"] < 0.1
    assert verify([tmp_path]) == []
    before = content(paths.restored_store(config, NAME))
    never_computes()
    for path in (paths.block_receipt(config, NAME, 0), paths.stitch_receipt(config, NAME)):
        path.unlink()
    restore_all(config)
    stitch(config, NAME)
    assert content(paths.restored_store(config, NAME)) == before
    assert verify([tmp_path]) == []


def test_seams_of_the_restored_image_are_in_the_receipt(tmp_path):
    config = make_world(tmp_path)
    restore_all(config)
    stitch(config, NAME)
    seams = read_json(paths.stitch_receipt(config, NAME))["details"]["seams"]
    assert set(seams) == {"mean", "std"}
    assert 0.5 < seams["mean"]["ratio"] < 2
    assert seams["mean"]["p"] > 0.01
