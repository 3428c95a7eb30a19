"""The page of an acquisition: what a reader must find on it, and what a hostile file must not do to it."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_pages import BLIND, HOSTILE, SINGLE, TWO, Page, page
from report_tree import make_config

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.report import pictures, planes, tables
from cvdm_core.report.acquisition import write_report
from cvdm_core.report.card import card_file
from cvdm_core.sheet import read_sheet, write_sheet


def test_the_page_says_in_words_what_was_gained(config: Config) -> None:
    assert "closer to the truth than the input is: scale-invariant PSNR 24.3 → 31.1 dB (+6.8 dB)" in page(config, TWO).words
    assert "z plane 2 of 2" in page(config, TWO).words


def test_the_page_says_what_few_denoising_steps_do_to_the_error_bar(config: Config) -> None:
    warning = "With 5 denoising steps the samples differ too little where there is structure."
    remedy = "(spread / error 0.78 to 0.86 on real images, docs/w2s.md), for 4 to 10 times the time."
    for words in (warning, remedy):
        assert page(config, TWO).words.count(words) == 2
        assert page(config, BLIND).words.count(words) == 1  # no coverage without truth
        assert words not in page(config, SINGLE).words


def test_the_error_bar_is_judged_at_the_head_of_the_page_by_spread_over_error(config: Config) -> None:
    head, rest = page(config, TWO).words.split("Read this before", 1)
    assert " ".join(head.split()).count("Spread / error0.93 (1 is calibrated, below 1 over-confident)") == 1
    assert "Coverage" not in head
    assert "66 % (70 % expected)" in rest and "an empty background can hide" in rest
    assert "Spread / error" not in page(config, BLIND).words.split("Read this before")[0]


def test_the_page_says_where_the_standard_deviation_finds_errors_no_better_than_the_brightness_of_the_input(config: Config) -> None:
    told = "brightness of the input tells where the errors are at least as well as the standard deviation does."
    assert page(config, TWO).words.count(f"In the channel vesicles the {told}") == 1
    assert told not in page(config, BLIND).words and told not in page(config, SINGLE).words
    assert "Rank correlation, input brightness (control)" in page(config, TWO).words


def test_the_calibration_says_what_its_points_are(config: Config) -> None:
    assert "Each point is 5 % of the pixels, sorted by the standard deviation around them." in page(config, TWO).words
    assert "Above the line the error bar is too small, below it too large." in page(config, TWO).words


def test_the_page_tells_the_settings_that_the_image_was_made_with(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, read_sheet(config.acquisitions))
    path = paths.stitch_receipt(moved, BLIND)
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": {"sampling": {"samples": 17, "steps": 23}}}))
    write_report(moved, BLIND)
    words = page(moved, BLIND).words
    assert "17 posterior samples were drawn with 23 denoising steps each" in words
    assert f"sha256 of its weights {'4f' * 8})" in words
    assert "samples differ too little" not in words


def test_the_page_cites_what_made_the_pixels_and_not_who_wrote_the_receipt_again(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, read_sheet(config.acquisitions))
    path = paths.stitch_receipt(moved, BLIND)
    receipt = json.loads(path.read_text())
    makers = [
        {"versions": {"cvdm": "0.1.0", "torch": torch}, "host": host, "started": "2026-11-20T01:00:00+00:00"}
        for torch, host in (("2.9.1", "gpu4"), ("2.9.1", "gpu5"), ("2.10.0", "gpu5"))
    ]
    path.write_text(json.dumps({**receipt, "details": {**receipt["details"], "made": makers}}))
    write_report(moved, BLIND)
    words = page(moved, BLIND).words
    assert "as implemented in cvdm 0.1.0 (PyTorch 2.9.1, 2.10.0; model" in words
    assert "cvdm 0.1.0, torch 2.9.1; cvdm 0.1.0, torch 2.10.0" in words
    assert "gpu4, gpu5" in words
    assert "2026-11-20T01:00:00+00:00, 2026-11-23" in words
    assert "node7" not in words
    assert "PyTorch 2.13.0" not in words
    assert "PyTorch 2.13.0" in page(config, BLIND).words  # an older receipt, which does not tell


def verdict_of(**channels: tuple[float, float]) -> tuple[str, str]:
    """Return tone and sentence for channels with these figures of input and restored image [dB]."""
    rows = [
        (channel, image, "psnr_si", value, "dB", "truth", "")
        for channel, values in channels.items()
        for image, value in zip(("input", "restored"), values, strict=True)
    ]
    return tables.verdict(pd.DataFrame(rows, columns=list(tables.COLUMNS)), "the mean")


def test_a_result_that_is_worse_than_its_input_is_called_so() -> None:
    tone, sentence = verdict_of(a=(30.0, 28.0))
    assert tone == "bad"
    assert "The restored image is further from the truth than the input is, so do not use it: " in sentence


def test_a_channel_that_became_worse_is_named_however_much_the_others_gained() -> None:
    tone, sentence = verdict_of(a=(25.0, 32.0), b=(30.0, 27.0), c=(30.0, 30.0))
    assert tone == "bad"
    assert "In the channel b (30.0 → 27.0 dB) the restored image is further from the truth than the input is" in sentence
    assert "so do not use it there; mean of the channels: scale-invariant PSNR 28.3 → 29.7 dB" in sentence


def test_a_channel_that_gained_nothing_keeps_the_verdict_from_being_good() -> None:
    tone, sentence = verdict_of(a=(25.0, 32.0), b=(30.0, 30.05), c=(math.inf, math.inf))
    assert tone == "flat"
    assert "In the channels b (30.0 → 30.1 dB), c (∞ → ∞ dB) the restored image is no closer to the truth" in sentence
    assert verdict_of(a=(25.0, 32.0), b=(30.0, 31.0))[0] == "good"


def test_without_a_truth_the_page_says_what_is_not_known(config: Config) -> None:
    blind = page(config, BLIND)
    ids = {attributes.get("id", "") for attributes in blind.all("img")}
    assert "c1-f-restored" in ids
    assert not {"c1-f-truth", "c1-f-error"} & ids
    assert "no usable truth" in blind.words
    assert "Not measured, because no truth was acquired: Scale-invariant PSNR, SSIM" in blind.words


def test_a_truth_of_another_size_is_no_truth(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    rows = read_sheet(config.acquisitions)
    target = paths.target_store(moved, SINGLE)
    shutil.rmtree(target)
    shutil.copytree(paths.target_store(config, TWO), target)
    assert planes.find_sources(moved, rows[SINGLE]).truth is None


def test_a_single_estimate_shows_no_uncertainty(config: Config) -> None:
    single = page(config, SINGLE)
    assert "c1-f-std" not in {attributes.get("id", "") for attributes in single.all("img")}
    assert "no measure of its uncertainty" in single.words
    assert "the model gives no uncertainty" in single.words


@pytest.mark.parametrize("name", [TWO, BLIND, SINGLE])
def test_the_page_loads_nothing_and_runs_nothing_but_its_own_script(config: Config, name: str) -> None:
    text = paths.report_page(config, name).read_text(encoding="utf-8")
    parsed = Page(text)
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert len(parsed.all("script")) == 1
    assert "src" not in parsed.all("script")[0]
    for attributes in (attributes for _, attributes in parsed.tags):
        assert not [key for key in attributes if key.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert ":" not in attributes.get("href", "")
    policy = next(attributes["content"] for attributes in parsed.all("meta") if "http-equiv" in attributes)
    assert "default-src 'none'" in policy
    assert "'sha256-" in policy


def test_text_from_files_is_shown_as_text(config: Config) -> None:
    shown = page(config, TWO)
    assert HOSTILE in shown.words
    assert not [attributes for attributes in shown.all("img") if attributes.get("src") == "x"]


def test_the_script_is_the_one_that_the_policy_names(config: Config) -> None:
    import hashlib
    from base64 import b64encode

    text = paths.report_page(config, TWO).read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.S)
    assert script
    assert b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in text.split("script-src")[1]


def test_a_page_of_two_channels_of_a_megapixel_is_small(tmp_path: Path) -> None:
    # Noise is what compresses worst: every picture of the page filled with it stays below 3 MB in the form that is embedded.
    noise = np.random.default_rng(0).normal(0.5, 0.2, (420, 420)).astype(np.float32)
    gray, colour = (len(pictures.png_uri(noise, (0, 1), name, levels)) for name, levels in (("gray", 128), ("inferno", 64)))
    detail = (192 / 420) ** 2
    assert 2 * (4 * gray + 2 * colour) * (1 + detail) < 3e6


def test_the_report_leaves_a_receipt_with_the_page_in_it(config: Config) -> None:
    receipt = json.loads(paths.report_receipt(config, TWO).read_text())
    assert set(receipt["wrote"]) == {str(paths.report_page(config, TWO)), str(card_file(config, TWO))}
    assert receipt["stage"] == "report"


def test_missing_results_are_an_error_that_names_the_file(config: Config, tmp_path: Path) -> None:
    empty = make_config(tmp_path)
    write_sheet(empty.acquisitions, read_sheet(config.acquisitions))
    with pytest.raises(UserError, match=r"stitch\.json: this receipt is missing"):
        write_report(empty, TWO)
    with pytest.raises(UserError, match="no acquisition 'nobody'"):
        write_report(empty, "nobody")
