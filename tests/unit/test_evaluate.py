import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from cvdm_core import paths
from cvdm_core.config import parse
from cvdm_core.errors import UserError
from cvdm_core.images.certificate import Certificate
from cvdm_core.images.intensity import upsample
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, write_metadata
from cvdm_core.images.pyramid_writer import PyramidWriter
from cvdm_core.images.tiles import Shards
from cvdm_core.quality import evaluate as evaluate_module
from cvdm_core.quality import planes
from cvdm_core.quality.evaluate import evaluate
from cvdm_core.quality.resolution import BandPower
from cvdm_core.records.receipts import read_json, write_json
from cvdm_core.sheet import Acquisition, write_sheet

SCALE, PIXEL_UM, CHANNELS, SAMPLES = 2, 0.065, ("actin", "tubulin"), 8
FACTS = {"samples": SAMPLES, "quantiles": [0.05, 0.95], "std_ddof": 1}  # what stitching records


def write_store(folder, array, pixel_um, store, image="", attributes=None):
    create_image(folder, array.shape, array.dtype, store, image)
    writer = PyramidWriter(folder, image)
    for shard in Shards(array.shape, store.shard):
        writer.write(shard, np.ascontiguousarray(array[shard.t, shard.c, shard.z, shard.y, shard.x]))
    windows = tuple((0.0, 1000.0) for _ in range(array.shape[1]))
    info = ImageInfo("test", (pixel_um, pixel_um), CHANNELS[: array.shape[1]], windows, attributes=attributes or {})
    write_metadata(folder, image, info)


class Bench:
    """One acquisition with two channels and two time points, restored by a perfect sampler whose posterior is known."""

    def __init__(self, folder, edge=96, seed=0, **settings):
        self.folder = folder
        rng = np.random.default_rng(seed)
        shape = (2, 2, 1, edge * SCALE, (edge + 8) * SCALE)
        structure = gaussian_filter((rng.random(shape) > 0.99) * 20000.0, (0, 0, 0, 1, 1)) + 200
        width = 2 + 0.05 * structure * rng.uniform(0.2, 3, shape)
        self.truth = np.round(structure + width * rng.normal(size=shape)).clip(0).astype(np.uint16)
        samples = (structure + width * rng.normal(size=(SAMPLES, *shape))).astype(np.float32)
        self.sample, self.mean, self.std = samples[0], samples.mean(0), samples.std(0, ddof=1)
        self.lower, self.upper = np.quantile(samples, (0.05, 0.95), axis=0).astype(np.float32)
        blurred = gaussian_filter(structure, (0, 0, 0, 2.2, 2.2)).reshape(*shape[:3], edge, SCALE, edge + 8, SCALE).mean((4, 6))
        self.raw = rng.poisson(0.5 * blurred + 100).astype(np.uint16)
        sections = {"store": {"chunk": 128, "shard": 256}, "model": {"scale": SCALE}}
        places = {name: str(folder / name) for name in ("results", "models")}
        self.config = parse({**places, "acquisitions": str(folder / "acquisitions.tsv"), **sections, **settings}, "test")
        sizes = {"size_t": 2, "size_c": 2, "size_z": 1, "size_y": edge, "size_x": edge + 8, "pixel_size_um": PIXEL_UM * SCALE}
        self.row = Acquisition(acquisition="cells", specimen="s", split="test", input="in.tif", target="out.tif", **sizes)
        self.store("raw", self.raw, PIXEL_UM * SCALE)
        self.store("target", self.truth, PIXEL_UM)
        for name in ("ingest", "stitch"):
            write_json(getattr(paths, f"{name}_receipt")(self.config, "cells"), {"stage": name})

    def store(self, name, array, pixel_um, **options):
        write_store(getattr(paths, f"{name}_store")(self.config, "cells"), array, pixel_um, self.config.store, **options)

    def restore(self, images=("mean", "std", "lower", "upper", "sample_0")):
        for name in images:
            array = getattr(self, name.removesuffix("_0")).astype(np.float32)
            self.store("restored", array, PIXEL_UM, image="" if name == "mean" else name, attributes=FACTS)

    def evaluate(self, **row):
        write_sheet(self.config.acquisitions, {"cells": self.row.model_copy(update=row)})
        evaluate(self.config, "cells")
        self.table = pd.read_parquet(paths.restored_folder(self.config, "cells") / "metrics.parquet")
        return self

    def value(self, metric, image="restored", channel="actin"):
        return float(self.line(metric, image, channel)["value"])

    def line(self, metric, image="restored", channel="actin"):
        table = self.table
        found = table[(table["metric"] == metric) & (table["image"] == image) & (table["channel"] == channel)]
        assert len(found) == 1, f"{len(found)} rows of {metric} {image} {channel}"
        return found.iloc[0]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("evaluate"), evaluation={"richardson_lucy_iterations": 5})
    bench.restore()
    return bench.evaluate(na=0.9, emission_nm=(520.0, 600.0))


def fitted(image, truth):
    return np.polyval(np.polyfit(image.ravel().astype(float), truth.ravel().astype(float), 1), image.astype(float))


def test_pixel_metrics_equal_their_closed_forms(bench):
    for number, channel in enumerate(CHANNELS):
        truth = bench.truth[:, number].astype(float)
        low, high = np.percentile(truth, [0.1, 99.9])
        for name, image in {"restored": bench.mean, "sample": bench.sample, "input": upsample(bench.raw, SCALE)}.items():
            image = image[:, number]
            mse = np.mean((fitted(image, truth) - truth) ** 2)
            assert bench.value("psnr_si", name, channel) == pytest.approx(10 * math.log10(np.ptp(truth) ** 2 / mse), abs=1e-6)
            assert bench.value("nrmse", name, channel) == pytest.approx(math.sqrt(mse) / (high - low), rel=1e-6)
            as_it_is = 10 * math.log10((high - low) ** 2 / np.mean((image.astype(float) - truth) ** 2))
            assert bench.value("psnr", name, channel) == pytest.approx(as_it_is, abs=1e-6)


def test_ssim_equals_scikit_image_on_the_fitted_planes(bench):
    truth = bench.truth[:, 0, 0].astype(float)
    span = np.subtract(*np.percentile(truth, [99.9, 0.1]))
    options = {"data_range": span, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [structural_similarity(a, b, **options) for a, b in zip(truth, fitted(bench.mean[:, 0, 0], truth), strict=True)]
    assert bench.value("ssim") == pytest.approx(np.mean(expected), abs=1e-8)


def test_high_frequency_power_is_compared_with_the_truths(bench):
    def power(image):
        gathered = BandPower()
        for plane in image:
            gathered.add(plane.astype(np.float32))
        return gathered.power

    expected = power(bench.sample[:, 0, 0]) / power(bench.truth[:, 0, 0])
    assert bench.value("hf_power_ratio", "sample") == pytest.approx(expected, rel=1e-5)
    assert bench.value("hf_power_ratio", "input") < 0.5 * expected


def test_the_constant_image_is_the_best_constant(bench):
    truth = bench.truth[:, 0].astype(float)
    assert bench.value("psnr_si", "constant") == pytest.approx(10 * math.log10(np.ptp(truth) ** 2 / truth.var()), abs=1e-6)
    assert bench.value("psnr", "constant") < bench.value("psnr")


def test_a_perfect_sampler_is_found_calibrated(bench):
    assert bench.value("spread_skill") == pytest.approx(1, abs=0.03)
    assert bench.value("coverage") == pytest.approx(0.7, abs=0.03)
    assert bench.line("coverage")["unit"] == "share (nominal 0.90, 0.70 expected of 8 samples)"
    assert bench.value("spearman_std") > bench.value("spearman_input") + 0.05


def test_the_input_is_worse_than_the_restored_image_and_sharpening_helps_it(bench):
    assert bench.value("psnr_si", "input") < bench.value("psnr_si", "richardson_lucy") < bench.value("psnr_si", "restored")
    assert bench.value("frc_resolution", "input") > bench.value("frc_resolution", "sample") >= 2 * PIXEL_UM


def test_the_result_agrees_with_the_input_once_it_is_blurred(bench):
    assert bench.value("rsp") > 0.95
    assert bench.line("rsp")["reference"] == "input"
    details = read_json(paths.evaluate_receipt(bench.config, "cells"))["details"]
    assert details["channels"][0]["reblur_sigma_px"]["restored"] == pytest.approx(2.2, abs=0.15)


def test_what_is_too_small_is_null_with_a_reason_everywhere(tmp_path):
    bench = Bench(tmp_path, edge=24)
    bench.restore(["mean"])
    bench.evaluate()
    for metric, words in {"ms_ssim": "176 pixels", "frc_resolution": "64 pixels"}.items():
        assert math.isnan(bench.value(metric))
        assert words in bench.line(metric)["reason"]
    nulls = bench.table["value"].isna()
    assert (bench.table.loc[nulls, "reason"] != "").all()
    assert (bench.table.loc[~nulls, "reason"] == "").all()


def test_a_regression_has_neither_samples_nor_spread(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore(["mean"])
    bench.evaluate()
    assert set(bench.table["image"]) == {"input", "restored", "constant"}
    assert "coverage" not in set(bench.table["metric"])
    assert math.isfinite(bench.value("psnr_si"))


def test_without_truth_its_metrics_are_null_and_fidelity_is_measured(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore()
    bench.evaluate(target="", na=0.9, emission_nm=(520.0,))
    assert math.isnan(bench.value("psnr"))
    assert bench.line("psnr", "input")["reason"] == "no target was acquired"
    assert math.isfinite(bench.value("rse"))
    with xr.open_dataset(paths.restored_folder(bench.config, "cells") / "curves.nc", engine="h5netcdf") as curves:
        assert list(curves["channel"].values) == list(CHANNELS)
        assert not curves.data_vars


def test_a_truth_on_another_grid_is_no_truth(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore()
    wrong = tmp_path / "wrong"
    paths.target_store(bench.config, "cells").rename(wrong)
    bench.store("target", np.ascontiguousarray(bench.truth[..., :-2]), PIXEL_UM)
    bench.evaluate()
    assert "the truth has the shape (2, 2, 1, 80, 94)" in bench.line("ssim")["reason"]


def certificate(verdict, valid):
    return {"pair": Certificate(verdict, "cells: the target is far off.", valid, 1.0, 130.0, ()).to_json()}


def test_only_what_a_moved_target_really_shows_is_measured(tmp_path):
    def psnr(name, spoilt, **options):
        bench = Bench(tmp_path / name, edge=48, evaluation={"richardson_lucy_iterations": 0})
        bench.restore()
        truth = bench.truth.copy()
        truth[..., spoilt:, :] = 5000
        shutil.rmtree(paths.target_store(bench.config, "cells"))
        write_store(paths.target_store(bench.config, "cells"), truth, PIXEL_UM, bench.config.store, **options)
        return bench.evaluate().value("psnr_si")

    intact = psnr("intact", 96)
    assert psnr("spoilt", 88) < intact - 3
    assert psnr("certified", 88, attributes=certificate("corrected", ((0, 44), (0, 56)))) == pytest.approx(intact, abs=0.5)


def test_a_truth_that_lies_far_off_is_no_truth(tmp_path):
    bench = Bench(tmp_path, edge=48, evaluation={"richardson_lucy_iterations": 0})
    bench.restore()
    shutil.rmtree(paths.target_store(bench.config, "cells"))
    bench.store("target", bench.truth, PIXEL_UM, attributes=certificate("refused", ((0, 48), (0, 56))))
    line = bench.evaluate().line("psnr_si")
    assert math.isnan(line["value"])
    assert line["reason"] == "cells: the target is far off."
    assert math.isfinite(bench.value("rsp"))


def test_a_constant_truth_and_a_restored_image_with_holes_give_reasons(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.mean[0, 1, 0, 3, 4] = np.nan
    bench.restore(["mean"])
    paths.target_store(bench.config, "cells").rename(tmp_path / "old")
    bench.truth[:, 0] = 7
    bench.store("target", bench.truth, PIXEL_UM)
    bench.evaluate()
    assert "nothing to compare with" in bench.line("psnr_si")["reason"]
    assert "not finite" in bench.line("psnr_si", channel="tubulin")["reason"]
    assert math.isfinite(bench.value("psnr_si", "input", "tubulin"))


def test_integers_that_stand_for_real_numbers_are_undone(tmp_path, bench):
    packed = Bench(tmp_path, evaluation={"richardson_lucy_iterations": 0})
    for name in ("mean", "std", "lower", "upper", "sample_0"):
        array = getattr(packed, name.removesuffix("_0"))
        low, step = float(array.min()), float(np.ptp(array)) / 65535
        stored = np.round((array - low) / step).astype(np.uint16)
        attributes = FACTS | {"intensity_map": {"scale": step, "offset": low}}
        packed.store("restored", stored, PIXEL_UM, image="" if name == "mean" else name, attributes=attributes)
    packed.evaluate()
    for metric in ("psnr", "ssim", "coverage", "spread_skill"):
        assert packed.value(metric) == pytest.approx(bench.value(metric), rel=1e-3)


def test_blocks_of_any_size_give_the_same_numbers(tmp_path, bench, monkeypatch):
    small = Bench(tmp_path, evaluation={"richardson_lucy_iterations": 0})
    small.restore()
    monkeypatch.setattr(planes.blocks, "__defaults__", (112,))
    monkeypatch.setattr(evaluate_module, "BLOCK", 64)
    monkeypatch.setattr(planes, "SLIVER", 16)
    small.evaluate()
    for metric in (
        "psnr",
        "psnr_si",
        "nrmse",
        "ssim",
        "ms_ssim",
        "frc_resolution",
        "coverage",
        "spread_skill",
        "rsp",
        "rse",
        "spearman_std",
    ):
        for image in {"restored", "input"} & set(small.table.loc[small.table["metric"] == metric, "image"]):
            assert small.value(metric, image) == pytest.approx(bench.value(metric, image), rel=1e-9, nan_ok=True), (metric, image)


def test_the_range_of_psnr_is_the_models_where_it_knows_one(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore(["mean"])
    folder = paths.model_folder(bench.config)
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("truth_range: {actin: 1000.0, '*': 2000.0}\n")
    bench.evaluate()
    for channel, number, data_range in (("actin", 0, 1000), ("tubulin", 1, 2000)):
        error = bench.mean[:, number].astype(float) - bench.truth[:, number]
        assert bench.value("psnr", channel=channel) == pytest.approx(10 * math.log10(data_range**2 / np.mean(error**2)), abs=1e-6)
    assert bench.line("psnr")["unit"] == "dB (range 1000, 0.1-99.9 % of the training truth)"


def test_with_relative_intensities_uncertainty_is_judged_after_an_affine_fit(tmp_path):
    values = {}
    for name, gain, description in (("plain", 1, ""), ("scaled", 0.25, "intensities: relative\n"), ("naive", 0.25, "")):
        bench = Bench(tmp_path / name, edge=40)
        bench.truth = np.round(gain * bench.truth + 500 * (gain != 1)).astype(np.uint16)
        bench.store("target", bench.truth, PIXEL_UM)
        bench.restore()
        folder = paths.model_folder(bench.config)
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(f"name: x\n{description}")
        bench.evaluate()
        values[name] = {metric: bench.value(metric) for metric in ("coverage", "spread_skill", "spearman_std")}
        assert ("after an affine fit" in bench.line("coverage")["unit"]) == (name == "scaled")
    assert values["scaled"] == pytest.approx(values["plain"], rel=0.02)
    assert values["naive"]["coverage"] < 0.2 and values["naive"]["spread_skill"] < 0.3


def test_an_aperture_that_cannot_be_gives_no_reference_but_a_reason(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore(["mean"])
    bench.evaluate(na=0.001, emission_nm=(520.0, 0.001))
    for channel in CHANNELS:
        assert math.isnan(bench.value("psnr", "richardson_lucy", channel))
        assert "check aperture, wavelength and pixel size" in bench.line("psnr", "richardson_lucy", channel)["reason"]


def test_the_files_and_the_receipt_say_the_same(bench):
    folder = paths.restored_folder(bench.config, "cells")
    receipt = read_json(paths.evaluate_receipt(bench.config, "cells"))
    assert {str(folder / name) for name in ("metrics.parquet", "metrics.tsv", "curves.nc")} == set(receipt["wrote"])
    text = pd.read_csv(folder / "metrics.tsv", sep="\t", keep_default_na=False, dtype=str)
    assert list(text.columns) == list(bench.table.columns)
    assert pd.to_numeric(text["value"]).to_numpy() == pytest.approx(bench.table["value"].to_numpy(), nan_ok=True)
    assert receipt["details"]["summary"]["actin restored psnr_si"] == pytest.approx(bench.value("psnr_si"))
    assert json.dumps(receipt, allow_nan=False)
    assert not list(folder.glob(".*"))
    with xr.open_dataset(folder / "curves.nc", engine="h5netcdf") as curves:
        assert curves["frc"].dims == ("channel", "image", "frequency")
        assert set(curves["image"].values) == {"input", "restored", "sample", "richardson_lucy"}
        assert float(curves["frequency"].max()) == pytest.approx(0.5 / PIXEL_UM, rel=0.02)
        assert curves.attrs["high_frequency_band"] == pytest.approx([0.15 / PIXEL_UM, 0.35 / PIXEL_UM])
        assert int(curves["calibration_count"].sum()) == bench.truth.size


def test_what_was_not_made_yet_is_said_in_one_sentence(tmp_path):
    bench = Bench(tmp_path, edge=40)
    with pytest.raises(UserError, match=r"no finished OME-Zarr|no such OME-Zarr"):
        bench.evaluate()
    paths.stitch_receipt(bench.config, "cells").unlink()
    with pytest.raises(UserError, match=r"stitch\.json: this receipt is missing"):
        bench.evaluate()
    with pytest.raises(UserError, match="no acquisition 'other'"):
        evaluate(bench.config, "other")
