"""Evaluation gives the numbers that are known: closed forms, other libraries, a perfect sampler."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from evaluation_bench import CHANNELS, FACTS, PIXEL_UM, SCALE, Bench
from skimage.metrics import structural_similarity

from cvdm_core import paths
from cvdm_core.images.intensity import upsample
from cvdm_core.quality import evaluate as evaluate_module
from cvdm_core.quality import planes
from cvdm_core.quality.resolution import BandPower
from cvdm_core.records.receipts import read_json, write_json


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("evaluate"), evaluation={"richardson_lucy_iterations": 5})
    bench.restore()
    return bench.evaluate(na=0.9, emission_nm=(520.0, 600.0))


def fitted(image, truth):
    return np.polyval(np.polyfit(image.ravel().astype(float), truth.ravel().astype(float), 1), image.astype(float))


def curves_of(bench):
    with xr.open_dataset(paths.restored_folder(bench.config, "cells") / "curves.nc", engine="h5netcdf") as curves:
        return curves.load()


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
    for name in ("calibration_std", "calibration_rmse", "calibration_count"):
        assert curves_of(small)[name].to_numpy() == pytest.approx(curves_of(bench)[name].to_numpy(), rel=1e-6), name
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
    (folder / "model.yaml").write_text("truth_range: {actin: 1000.4, '*': 2000.0}\n")
    bench.evaluate()
    for channel, number, data_range in (("actin", 0, 1000.4), ("tubulin", 1, 2000)):
        error = bench.mean[:, number].astype(float) - bench.truth[:, number]
        assert bench.value("psnr", channel=channel) == pytest.approx(10 * math.log10(data_range**2 / np.mean(error**2)), abs=1e-6)
    assert bench.line("psnr")["unit"] == "dB (range 1000 counts, 0.1-99.9 % of the training truth)"


def test_with_relative_intensities_uncertainty_and_power_are_judged_after_an_affine_fit(tmp_path):
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
        values[name] = {metric: bench.value(metric) for metric in ("coverage", "spread_skill", "spearman_std", "hf_power_ratio")}
        values[name]["power of a sample"] = bench.value("hf_power_ratio", "sample")
        assert ("after an affine fit" in bench.line("coverage")["unit"]) == (name == "scaled")
    assert values["scaled"] == pytest.approx(values["plain"], rel=0.02)
    assert values["naive"]["coverage"] < 0.2 and values["naive"]["spread_skill"] < 0.3


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


@pytest.mark.parametrize(("times", "depth"), [(2, 3), (4, 2)])
def test_resolution_and_blur_are_measured_in_the_middle_of_the_stack(tmp_path, times, depth):
    bench = Bench(tmp_path, edge=40, times=times, depth=depth, evaluation={"richardson_lucy_iterations": 0})
    middle = np.zeros(bench.truth.shape, bool)
    middle[times // 2, :, depth // 2] = True
    bench.mean = np.where(middle, bench.mean, 500.0)  # an outer plane shows nothing, and blurs to nothing
    bench.restore(["mean"])
    bench.evaluate()
    assert "without contrast" not in bench.line("frc_resolution")["reason"]
    details = read_json(paths.evaluate_receipt(bench.config, "cells"))["details"]
    assert details["channels"][0]["reblur_sigma_px"]["restored"] == pytest.approx(2.2, abs=0.3)


def test_files_that_the_model_was_trained_on_or_chosen_by_are_counted_by_their_content(tmp_path):
    bench = Bench(tmp_path, edge=40, evaluation={"richardson_lucy_iterations": 0})
    bench.restore(["mean"])
    files = {"renamed.tif": "a1", "renamed_target.tif": "b2", "flat.tif": "f1"}
    write_json(paths.ingest_receipt(bench.config, "cells"), {"stage": "ingest", "read": files})

    def seen(**splits):
        data = [{"acquisition": split, "split": split, "files": {f"{split}.tif": digest}} for split, digest in splits.items()]
        folder = paths.model_folder(bench.config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.yaml").write_text(json.dumps({"name": "x", "data": data}))
        table = bench.evaluate(flat_field="flat.tif").table
        return [tuple(line) for line in table.loc[table["reference"] == "training data", ["channel", "metric", "value"]].to_numpy()]

    assert seen(train="a1", val="c3") == [("actin", "trained_on", 1), ("tubulin", "trained_on", 1)]
    assert seen(train="c3", val="b2") == [("actin", "chosen_by", 1), ("tubulin", "chosen_by", 1)]
    assert seen(train="f1", val="c3") == []  # the flat field is of the instrument
