"""Stitching: every shard checked, one verified image, and seams measured."""

import platform

import numpy as np
import pytest
import torch
import zarr
from restoration_world import NAME, PIXEL_UM, content, make_config, make_world, write_model
from scipy.ndimage import gaussian_filter

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.images.pyramid import pyramid
from cvdm_core.images.reading import open_image
from cvdm_core.images.tiles import n_blocks
from cvdm_core.model.folder import load_model
from cvdm_core.records import receipts
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.records.verify import verify
from cvdm_core.restoration import plan as plan_module
from cvdm_core.restoration import sample
from cvdm_core.restoration import stitch as stitch_module
from cvdm_core.restoration.plan import make_plan
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.seams import measure_seams
from cvdm_core.restoration.shard import ShardRestorer
from cvdm_core.restoration.stitch import stitch
from cvdm_core.sheet import find_acquisition, read_sheet, write_sheet


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def never_computes(monkeypatch):
    def forbid():
        monkeypatch.setattr(ShardRestorer, "restore", lambda self, shard: pytest.fail(f"shard {shard.index} was computed again"))

    return forbid


def plan_of(config):
    return make_plan(config, find_acquisition(config.acquisitions, NAME), load_model(paths.model_folder(config)))


def restore_all(config):
    for block in range(n_blocks(plan_of(config).shape, config.store.shard, config.sampling.shards_per_job)):
        sample_block(config, NAME, block)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def names(config):
    return sorted(path.name for path in paths.restored_folder(config, NAME).iterdir())


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


def test_seams_of_the_restored_image_are_in_the_receipt(tmp_path):
    config = make_world(tmp_path)
    restore_all(config)
    stitch(config, NAME)
    seams = read_json(paths.stitch_receipt(config, NAME))["details"]["seams"]
    assert set(seams) == {"mean", "std"}
    assert 0.5 < seams["mean"]["ratio"] < 2
    assert seams["mean"]["p"] > 0.01


def smooth(seed=0, shape=(1, 2, 1, 200, 230)):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 0, 0, 2, 2))


def seams_of(image, shard=64):
    return measure_seams(lambda t, c, z, y, x: image[t, c, z, y, x], image.shape, shard, 8)


def test_a_planted_seam_is_found_and_a_seamless_image_is_not_accused():
    accused = 0
    for seed in range(10):
        image = smooth(seed)
        found = seams_of(image)
        assert 0.8 < found["ratio"] < 1.25
        accused += found["p"] < 0.05
        image[..., 64:128, :] += 0.1
        stepped = seams_of(image)
        assert stepped["ratio"] > found["ratio"] * 1.03
        assert stepped["p"] < 0.01
    assert accused <= 2


@pytest.mark.parametrize("axis", [0, 2])
def test_a_movie_or_stack_of_one_structure_is_not_accused_and_its_seam_is_found(axis):
    shape = [1, 1, 1, 128, 192]
    shape[axis] = 20
    accused = 0
    for seed in range(20):
        structure = smooth(seed, (1, 1, 1, 128, 192))
        movie = structure + 0.3 * structure.std() * np.random.default_rng(seed).normal(size=shape)
        found = seams_of(movie)
        accused += found["p"] < 0.05
        movie[..., 64:128] += 0.3
        assert seams_of(movie)["p"] < 0.05
    assert accused <= 2
    assert found["segments"] == 7  # of 64 pixels, however many planes show them


def test_a_blended_seam_is_found_by_its_flatness():
    image = smooth()
    for border in (64, 128, 192):
        image[..., border - 1 : border + 1] = image[..., border - 1 : border + 1].mean(axis=-1, keepdims=True)
    found = seams_of(image)
    assert found["ratio"] < 0.9
    assert found["p"] < 0.01


def test_seams_that_cannot_be_measured_are_null_with_a_reason():
    assert seams_of(smooth(shape=(1, 1, 1, 60, 64))) == {
        "ratio": None, "p": None, "segments": 0, "reason": "no shard of this image has a neighbour, so there is no border",
    }  # fmt: skip
    constant = seams_of(np.zeros((1, 1, 1, 128, 64)))
    assert constant["ratio"] is None
    assert constant["reason"] == "the image is constant around its borders"
