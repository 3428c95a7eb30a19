"""Blocks: the same pixels whatever the shards, blocks, order and restarts."""

import json

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from restoration_world import NAME, content, make_config, make_world, plan_of, restore_all, write_model
from xarray import DataArray

from cvdm_core import paths
from cvdm_core.cluster.clock import Deadline
from cvdm_core.config import SamplingSettings
from cvdm_core.errors import DamagedInputError, TimeUpError, UserError
from cvdm_core.images.intensity import Normalisation, upsample
from cvdm_core.images.tiles import Shard, padded
from cvdm_core.records.receipts import read_json
from cvdm_core.records.verify import folder_checksums
from cvdm_core.restoration import plan as plan_module
from cvdm_core.restoration.plan import path_in_store
from cvdm_core.restoration.sample import sample_block
from cvdm_core.restoration.shard import ShardRestorer, read_condition
from cvdm_core.restoration.statistics import summarise
from cvdm_core.restoration.stitch import stitch

DEFAULT = SamplingSettings()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def computed(monkeypatch):
    """Numbers of the shards that are computed, in order."""
    numbers = []
    restore = ShardRestorer.restore
    monkeypatch.setattr(ShardRestorer, "restore", lambda self, shard: numbers.append(shard.index) or restore(self, shard))
    return numbers


def pixels_of(config):
    plan = plan_of(config)
    return {name: zarr.open_array(plan.partial / path_in_store(name) / "0", mode="r")[:] for name in plan.quantities}


def test_shards_of_two_sizes_agree_with_the_whole_image_with_the_default_halo(tmp_path):
    sampling = {"halo": DEFAULT.halo, "steps": DEFAULT.steps, "samples": 2, "tile": DEFAULT.tile}
    config = make_world(tmp_path, (115, 70), sampling=sampling, store={"chunk": 64, "shard": 512})
    write_model(config, denoiser={}, schedule={})
    restore_all(config)
    whole = pixels_of(config)
    for shard in (64, 128):
        cut = make_config(tmp_path, sampling=sampling, store={"chunk": 64, "shard": shard})
        restore_all(cut)
        for name, pixels in pixels_of(cut).items():
            data_range = float(np.ptp(whole[name]))
            assert data_range > 10
            assert np.abs(pixels - whole[name]).max() <= 1e-4 * data_range, (shard, name)


def test_order_and_number_of_blocks_do_not_change_a_byte(tmp_path):
    config = make_world(tmp_path / "a")
    other = make_world(tmp_path / "b", sampling={"shards_per_job": 2})
    restore_all(config)
    restore_all(other, order=-1)
    assert plan_of(config).fingerprint == plan_of(other).fingerprint
    assert content(plan_of(config).partial) == content(plan_of(other).partial)


def test_statistics_are_those_of_the_samples_that_are_kept(tmp_path):
    config = make_world(tmp_path, (20, 24), channels=("actin", "dna"), sampling={"samples": 4, "keep_samples": 4, "quantiles": (0.1, 0.8)})
    restore_all(config)
    pixels = pixels_of(config)
    samples = np.stack([pixels[f"sample_{number}"] for number in range(4)]).astype(np.float64)
    assert not np.isnan(samples).any()
    np.testing.assert_allclose(pixels["mean"], samples.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(pixels["std"], samples.std(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(pixels["lower"], np.quantile(samples, 0.1, axis=0), rtol=1e-6)
    np.testing.assert_allclose(pixels["upper"], np.quantile(samples, 0.8, axis=0), rtol=1e-6)
    assert np.abs(pixels["mean"][0, 0] - pixels["mean"][0, 1]).mean() > 1


@given(st.integers(2, 9), st.floats(0, 0.4), st.floats(0.6, 1), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_quantiles_are_those_of_numpy(count, low, high, seed):
    samples = np.random.default_rng(seed).normal(100, 20, (count, 130, 3)).astype(np.float32)
    planes = summarise(samples, (low, high))
    np.testing.assert_allclose(planes["lower"], np.quantile(samples.astype(float), low, axis=0), rtol=1e-6)
    np.testing.assert_allclose(planes["upper"], np.quantile(samples.astype(float), high, axis=0), rtol=1e-6)


def test_one_sample_has_a_mean_and_no_spread(tmp_path):
    config = make_world(tmp_path, (16, 16), sampling={"samples": 1})
    restore_all(config)
    pixels = pixels_of(config)
    assert list(pixels) == ["mean", "sample_0"]
    assert np.array_equal(pixels["mean"], pixels["sample_0"])


def test_a_regression_model_writes_its_one_answer(tmp_path):
    config = make_world(tmp_path, (16, 16))
    write_model(config, objective="regression")
    restore_all(config)
    pixels = pixels_of(config)
    assert list(pixels) == ["mean"]
    assert np.isfinite(pixels["mean"]).all()
    assert read_json(paths.block_receipt(config, NAME, 0))["details"]["quantities"] == ["mean"]


@given(scale=st.sampled_from([1, 2, 3]), size=st.tuples(st.integers(3, 40), st.integers(3, 40)), seed=st.integers(0, 9), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_condition_of_a_region_is_a_window_of_the_whole(scale, size, seed, data):
    stride = 8
    image = np.random.default_rng(seed).integers(0, 4000, (1, 2, 1, *size)).astype(np.uint16)
    raw = DataArray(image, dims=("t", "c", "z", "y", "x")).chunk(dict.fromkeys("tczyx", 7))
    edges = [padded(length * scale, stride) for length in size]
    normalisation = Normalisation(100.0, 50.0)
    whole = upsample(normalisation.to_model(upsample(image[0, 1, 0], scale)), 1)
    whole = np.pad(whole, [(0, edge - length * scale) for edge, length in zip(edges, size, strict=True)], mode="edge")
    starts = [data.draw(st.integers(0, edge // stride - 1)) * stride for edge in edges]
    stops = [data.draw(st.integers(start // stride + 1, edge // stride)) * stride for start, edge in zip(starts, edges, strict=True)]
    y, x = (slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    region = read_condition(raw, Shard(0, 0, 1, 0, y, x), y, x, scale, normalisation)
    assert region.dtype == np.float32
    assert np.array_equal(region, whole[y, x])


def test_a_block_that_is_done_is_not_computed_again(tmp_path, computed):
    config = make_world(tmp_path)
    sample_block(config, NAME, 1)
    first = read_json(paths.block_receipt(config, NAME, 1))["details"]["shards"]
    paths.block_receipt(config, NAME, 1).unlink()
    assert computed == [4, 5, 6, 7]
    sample_block(config, NAME, 1)
    assert computed == [4, 5, 6, 7]
    assert read_json(paths.block_receipt(config, NAME, 1))["details"]["shards"] == first


@pytest.mark.parametrize("harm", ["missing", "empty", "one bit", "no receipt", "half a receipt"])
def test_only_a_harmed_shard_is_computed_again_and_to_the_same_bytes(tmp_path, computed, harm):
    config = make_world(tmp_path)
    sample_block(config, NAME, 0)
    plan = plan_of(config)
    before = content(plan.partial)
    victim = plan.partial / "std/0/c/0/0/0/0/1"
    receipt = plan.shard_folder / "000001.json"
    if harm == "missing":
        victim.unlink()
    elif harm == "empty":
        victim.write_bytes(b"")
    elif harm == "one bit":
        data = bytearray(victim.read_bytes())
        data[20] ^= 1
        victim.write_bytes(data)
    elif harm == "no receipt":
        receipt.unlink()
    else:
        receipt.write_bytes(receipt.read_bytes()[:100])
    computed.clear()
    sample_block(config, NAME, 0)
    assert computed == [1]
    assert content(plan.partial) == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 3}, {"samples": 4}, {"halo": 32}, {"method": "ddim"}])
def test_shards_of_other_settings_are_not_taken_for_ours(tmp_path, computed, change):
    config = make_world(tmp_path, (16, 16))
    restore_all(config)
    other = make_config(tmp_path, sampling=change)
    restore_all(other)
    assert computed == [0, 0]
    assert plan_of(config).partial != plan_of(other).partial


def test_shards_that_other_code_has_begun_are_made_anew_and_a_published_image_is_not(tmp_path, computed, monkeypatch):
    config = make_world(tmp_path, (16, 16))
    restore_all(config)
    for code in ("other", "third"):
        monkeypatch.setattr(plan_module, "work_code", lambda *rooms, code=code: code)
        restore_all(config)
        stitch(config, NAME)
        assert computed == [0, 0]
    restored = read_json(paths.stitch_receipt(config, NAME))
    assert restored["wrote"][str(paths.restored_store(config, NAME))] == folder_checksums(paths.restored_store(config, NAME))


def test_other_weights_and_other_input_are_not_taken_for_ours(tmp_path):
    config = make_world(tmp_path, (16, 16))
    marks = {plan_of(config).fingerprint}
    write_model(config, seed=1)
    marks.add(plan_of(config).fingerprint)
    receipt = paths.ingest_receipt(config, NAME)
    values = json.loads(receipt.read_text())
    next(iter(values["wrote"].values()))["files"]["0/c/0/0/0/0/0"][1] = "0" * 64
    receipt.write_text(json.dumps(values))
    marks.add(plan_of(config).fingerprint)
    assert len(marks) == 3


def test_a_block_outside_the_image_is_refused_and_noted_for_the_index(tmp_path):
    config = make_world(tmp_path)
    with pytest.raises(UserError, match=r"block 3 does not exist.*blocks 0 to 2"):
        sample_block(config, NAME, 3)
    assert not paths.block_receipt(config, NAME, 3).exists()
    note = read_json(tmp_path / "results/.failures/sample.cells.0003.json")
    assert note["class"] == "configuration"


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path):
    config = make_world(tmp_path, (16, 16))
    with pytest.raises(UserError, match="there is no acquisition 'other'"):
        sample_block(config, "other", 0)
    with pytest.raises(UserError, match=r"there is no acquisition '\.\./x'"):
        sample_block(config, "../x", 0)
    with pytest.raises(UserError, match=r"trained for scale 2, not 3; set model.scale to 2"):
        sample_block(make_config(tmp_path, model={"scale": 3}), NAME, 0)
    sheet = tmp_path / "acquisitions.tsv"
    good = sheet.read_text()
    sheet.write_text(good.replace("actin", "dna"))
    with pytest.raises(UserError, match=r"it holds .* of actin, and the sheet says .* of dna; run `cvdm register` and `cvdm ingest`"):
        sample_block(config, NAME, 0)
    sheet.write_text(good)
    paths.ingest_receipt(config, NAME).unlink()
    with pytest.raises(UserError, match=r"ingest.json: this receipt is missing"):
        sample_block(config, NAME, 0)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_missing_file_of_the_input_is_named_and_never_restored_as_zeros(tmp_path, version):
    config = make_world(tmp_path, (40, 40), store={"format": version}, sampling={"shards_per_job": 16})
    last = max(path for path in (paths.raw_store(config, NAME) / "0").rglob("*") if path.is_file() and path.name.isdecimal())
    last.unlink()
    with pytest.raises(DamagedInputError, match=rf"{last}: this part of the image is missing; run the stage that writes it again\."):
        sample_block(config, NAME, 0)
    assert not paths.block_receipt(config, NAME, 0).exists()
    assert read_json(tmp_path / "results/.failures/sample.cells.0000.json")["class"] == "damaged input"


def test_values_that_are_no_numbers_are_never_written(tmp_path, monkeypatch):
    config = make_world(tmp_path, (16, 16))
    restore = ShardRestorer.restore
    monkeypatch.setattr(ShardRestorer, "restore", lambda self, shard: {k: v * np.float32(np.nan) for k, v in restore(self, shard).items()})
    with pytest.raises(UserError, match="values of shard 0 that are no numbers"):
        sample_block(config, NAME, 0)
    assert not paths.block_receipt(config, NAME, 0).exists()


def test_before_its_time_limit_a_block_stops_between_two_shards_and_the_next_attempt_does_the_rest(tmp_path, monkeypatch):
    config = make_world(tmp_path, sampling={"shards_per_job": 16})
    restored = []
    restore = ShardRestorer.restore

    def counted(self, shard):
        restored.append(shard.index)
        return restore(self, shard)

    monkeypatch.setattr(ShardRestorer, "restore", counted)
    monkeypatch.setattr(Deadline, "comes_within", lambda self, needed=0.0: len(restored) == 2)
    with pytest.raises(TimeUpError, match=r"2 of \d+ shards are done"):
        sample_block(config, NAME, 0)
    assert read_json(tmp_path / "results/.failures/sample.cells.0000.json")["class"] == "time"
    monkeypatch.undo()
    monkeypatch.setattr(ShardRestorer, "restore", counted)
    sample_block(config, NAME, 0)
    assert len(restored) == len(set(restored)), "no shard is restored twice"
    assert not (tmp_path / "results/.failures/sample.cells.0000.json").exists()
