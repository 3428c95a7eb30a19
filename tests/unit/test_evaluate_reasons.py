"""What evaluation says where something cannot be measured: no number, and a reason."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import xarray as xr
from evaluation_bench import CHANNELS, PIXEL_UM, Bench, write_store

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.images.certificate import Certificate
from cvdm_core.quality.evaluate import evaluate


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


def test_an_aperture_that_cannot_be_gives_no_reference_but_a_reason(tmp_path):
    bench = Bench(tmp_path, edge=40)
    bench.restore(["mean"])
    bench.evaluate(na=0.001, emission_nm=(520.0, 0.001))
    for channel in CHANNELS:
        assert math.isnan(bench.value("psnr", "richardson_lucy", channel))
        assert "check aperture, wavelength and pixel size" in bench.line("psnr", "richardson_lucy", channel)["reason"]


def test_what_was_not_made_yet_is_said_in_one_sentence(tmp_path):
    bench = Bench(tmp_path, edge=40)
    with pytest.raises(UserError, match=r"no finished OME-Zarr|no such OME-Zarr"):
        bench.evaluate()
    paths.stitch_receipt(bench.config, "cells").unlink()
    with pytest.raises(UserError, match=r"stitch\.json: this receipt is missing"):
        bench.evaluate()
    with pytest.raises(UserError, match="no acquisition 'other'"):
        evaluate(bench.config, "other")
