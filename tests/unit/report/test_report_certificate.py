"""The certificate of a training pair, on the page and on the index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import zarr
from report_pages import HOSTILE, SINGLE, page, read_index
from report_tree import PIXEL_UM, make_config

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.images.certificate import Certificate, ChannelCertificate, Verdict
from cvdm_core.report.acquisition import write_report
from cvdm_core.sheet import read_sheet, write_sheet


def certify(config: Config, name: str, verdict: Verdict, valid: tuple[tuple[int, int], tuple[int, int]] = ((0, 62), (2, 64))) -> None:
    """Put a certificate with a hostile channel name into a target's store and its receipt, as ingest does."""
    channel = ChannelCertificate(
        HOSTILE, verdict, "displaced by 1.54 ± 0.01 input pixels", (-1.21, 0.95), 0.012, 0.034, 2.5, -0.0013, 8, 9,
        (-1.2103, 0.9512, 0.0, 0.0) if verdict == "corrected" else None, 12.5, -30.0, 0.912, 0.031, {"input": 0.0, "target": 0.0125},
    )  # fmt: skip
    certificate = Certificate(verdict, f"{name}: {HOSTILE} is displaced.", valid, 0.9385, 1000 * PIXEL_UM, (channel,))
    attributes = zarr.open_group(paths.target_store(config, name), mode="r+").attrs
    attributes["cvdm"] = {**attributes["cvdm"], "pair": certificate.to_json()}
    receipt = paths.ingest_receipt(config, name)
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "details": {"pair": certificate.to_json()}}))


@pytest.fixture
def certified(config: Config, tmp_path: Path) -> Config:
    """A copy of the tree with one acquisition in the sheet."""
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, {SINGLE: read_sheet(config.acquisitions)[SINGLE]})
    return moved


def test_the_certificate_of_the_pair_is_on_the_page_as_text(certified: Config) -> None:
    certify(certified, SINGLE, "corrected")
    write_report(certified, SINGLE)
    shown = page(certified, SINGLE)
    for words in (
        "−1.21, +0.95 px (−157, +124 nm)", "0.03 px (4 nm)", "+2.50 mrad", "−0.130 %",
        "b = −30", "8 of 9", "93.8 %", "0.912", "3.1 %", "0 %, 1.2 %",
        f"{SINGLE}: {HOSTILE} is displaced.",
    ):  # fmt: skip
        assert words in shown.words
    assert not [attributes for attributes in shown.all("img") if attributes.get("src") == "x"]
    assert len(shown.all("script")) == 1
    assert "c1-f-truth" in {attributes.get("id") for attributes in shown.all("img")}
    index = read_index(certified)
    assert f"pair corrected. {SINGLE}: {HOSTILE}" in index.words
    assert "What needs a person" not in index.words


def test_a_refused_target_is_shown_as_no_truth_and_named_on_the_index(certified: Config) -> None:
    certify(certified, SINGLE, "refused", ((0, 64), (0, 64)))
    write_report(certified, SINGLE)
    shown = page(certified, SINGLE)
    assert "c1-f-truth" not in {attributes.get("id") for attributes in shown.all("img")}
    assert f"{SINGLE}: {HOSTILE} is displaced." in shown.words
    index = read_index(certified)
    assert "What needs a person" in index.words
    assert "training pair refused." in index.words
