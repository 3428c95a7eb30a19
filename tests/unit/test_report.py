"""The pages: what a reader must find on them, and what a hostile file must not do to them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from report_tree import PIXEL_UM, SCALE, add_acquisition, make_config, write_failure, write_measurements, write_model

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.certificate import Certificate, ChannelCertificate, Verdict
from cvdm_core.report import pictures, planes, tables
from cvdm_core.report.acquisition import write_report
from cvdm_core.report.card import card_file
from cvdm_core.report.index import write_index
from cvdm_core.sheet import read_sheet, write_sheet

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>../$x_{$"
TWO, BLIND, SINGLE = "two_colours", "no_truth", "single_estimate"


@dataclass
class Page(HTMLParser):
    """What a browser would see: tags with attributes, and the text."""

    text: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A results tree with two colours and truth, without truth, and with a single estimate; one row hostile."""
    config = make_config(tmp_path_factory.mktemp("night"))
    write_model(config)
    add_acquisition(config, TWO, (96, 128), (HOSTILE, "vesicles"), note=HOSTILE, depth=2, z_step_um=0.3)
    add_acquisition(config, BLIND, (64, 80), truth=False, seed=3, split="predict")
    add_acquisition(config, SINGLE, (64, 64), uncertain=False, seed=5)
    for name in (TWO, BLIND, SINGLE):
        write_report(config, name)
    return config


def page(config: Config, name: str) -> Page:
    return Page(paths.report_page(config, name).read_text(encoding="utf-8"))


# Scale bars and pictures


@given(st.floats(1e-3, 1e6))
@settings(deadline=None)
def test_a_bar_has_a_round_length_that_fits_and_is_not_tiny(width_um: float) -> None:
    bar = pictures.scale_bar(width_um)
    number, unit = bar.label.split()
    assert number.strip("0.")[0] in "125"
    assert 0.3 / 2.5 * 100 - 1e-6 <= bar.percent <= 30 + 1e-6
    assert float(number) * {"nm": 1e-3, "µm": 1, "mm": 1e3}[unit] == pytest.approx(bar.percent / 100 * width_um)


def test_the_bar_follows_the_pixel_size_of_the_restored_image(config: Config) -> None:
    found = re.findall(r'class="bar" style="width:([\d.]+)%"><b>([\d.]+) µm', paths.report_page(config, TWO).read_text("utf-8"))
    widths = {float(label) / float(percent) * 100 for percent, label in found}
    whole, detail = 128 * PIXEL_UM, 192 * PIXEL_UM / SCALE
    assert all(min(abs(width - whole), abs(width - detail)) < 0.01 for width in widths)
    assert len(widths) > 1


@pytest.mark.parametrize("name", [TWO, BLIND, SINGLE])
def test_every_picture_has_a_scale_bar(config: Config, name: str) -> None:
    tags = page(config, name).tags
    stages = [place for place, (_, attributes) in enumerate(tags) if attributes.get("class") == "stage"]
    for start, stop in zip(stages, [*stages[1:], len(tags)], strict=True):
        inside = [attributes.get("class") for _, attributes in tags[start:stop]]
        assert "bar" in inside
    assert len(stages) >= sum(tag == "img" and "src" in attributes for tag, attributes in tags)


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=40, deadline=None)
def test_the_detail_is_taken_where_the_structure_is(shape: tuple[int, int], box: tuple[int, int], at: tuple[float, float]) -> None:
    plane = np.zeros(shape, np.float32)
    spot = [int(part * (size - 5)) + 2 for part, size in zip(at, shape, strict=True)]
    plane[spot[0], spot[1]] = 1
    first = pictures.richest_window(plane, box)
    assert all(0 <= start <= size - edge for start, edge, size in zip(first, box, shape, strict=True))
    assert all(start - 1 <= place <= start + edge for start, edge, place in zip(first, box, spot, strict=True))


def test_a_missing_pixel_is_not_shown_as_an_intensity() -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    plane = np.array([[0.0, 1.0], [0.5, np.nan]], np.float32)
    uri = pictures.png_uri(plane, (0.0, 1.0))
    shown = np.asarray(Image.open(BytesIO(b64decode(uri.split(",")[1]))).convert("RGB"))
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[0, 1].tolist() == [255, 255, 255]
    assert tuple(shown[1, 1]) == pictures.MISSING


def test_matching_finds_the_affine_map_and_never_turns_an_image_over() -> None:
    plane = np.random.default_rng(0).normal(100, 20, (64, 64)).astype(np.float32)
    found = pictures.match(plane, 3 * plane + 7)
    assert (found.slope, found.offset) == (pytest.approx(3, rel=1e-3), pytest.approx(7, abs=0.5))
    assert pictures.match(plane, -plane).slope == 1


def test_the_error_shown_is_the_mean_of_the_pixels_errors(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "STRIP", 64)  # several strips, none of them the whole image
    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    restored, truth = (np.asarray(planes.open_plane(*sources.of(kind), 0), np.float64) for kind in ("restored", "truth"))
    wanted = np.abs(restored - truth).reshape(48, 4, 64, 4).mean((1, 3))
    found = planes.read_error(sources, 0, pictures.Affine(), (48, 64))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_whole_field_is_read_from_a_coarse_level(config: Config) -> None:
    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    assert planes.open_plane(sources.restored, "", 0, shrinks=2.9).shape == (96, 128)
    assert planes.open_plane(sources.restored, "", 0, shrinks=1000).size <= 128 * 128


def test_an_input_detail_lies_where_the_restored_one_lies(config: Config) -> None:
    from cvdm_core.images.intensity import upsample

    sources = planes.find_sources(config, read_sheet(config.acquisitions)[TWO])
    rows, columns = slice(20, 120), slice(64, 256)
    whole = upsample(np.asarray(planes.open_plane(sources.raw, "", 1)), SCALE)
    np.testing.assert_array_equal(planes.read_detail(sources, "input", 1, rows, columns), whole[rows, columns])


# The page of an acquisition


def test_the_page_shows_every_kind_of_picture_of_each_channel_twice(config: Config) -> None:
    ids = {attributes.get("id", "") for attributes in page(config, TWO).all("img")}
    kinds = ("input", "restored", "truth", "sample", "error", "std")
    assert {f"c{channel}-{part}-{kind}" for channel in (1, 2) for part in "fd" for kind in kinds} <= ids


def test_the_page_says_in_words_what_was_gained(config: Config) -> None:
    assert "closer to the truth than the input is: scale-invariant PSNR 24.3 → 31.1 dB (+6.8 dB)" in page(config, TWO).words
    assert "z plane 2 of 2" in page(config, TWO).words


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


def test_a_result_that_is_worse_than_its_input_is_called_so() -> None:
    import pandas as pd

    rows = [("a", "input", "psnr_si", 30.0, "dB", "truth", ""), ("a", "restored", "psnr_si", 28.0, "dB", "truth", "")]
    tone, sentence = tables.verdict(pd.DataFrame(rows, columns=list(tables.COLUMNS)), "the mean")
    assert tone == "bad"
    assert "do not use it" in sentence


def test_without_a_truth_the_page_says_what_is_not_known(config: Config) -> None:
    blind = page(config, BLIND)
    ids = {attributes.get("id", "") for attributes in blind.all("img")}
    assert "c1-f-restored" in ids
    assert not {"c1-f-truth", "c1-f-error"} & ids
    assert "no usable truth" in blind.words
    assert "Not measured, because no truth was acquired: PSNR, scale-invariant, SSIM" in blind.words


def test_a_truth_of_another_size_is_no_truth(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    rows = read_sheet(config.acquisitions)
    target = paths.target_store(moved, SINGLE)
    shutil.rmtree(target)
    shutil.copytree(paths.target_store(config, TWO), target)
    assert planes.find_sources(moved, rows[SINGLE]).truth is None


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
        "-1.21, +0.95 px (-157, +124 nm)", "0.03 px (4 nm)", "+2.50 mrad", "-0.130 %", "8 of 9", "93.8 %", "0.912", "3.1 %", "0 %, 1.2 %",
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


# Tables


def test_an_empty_cell_says_why(config: Config, tmp_path: Path) -> None:
    moved = make_config(tmp_path)
    write_measurements(moved, "x", ["a"], truth=True, uncertain=True)
    frame = tables.read_metrics(paths.restored_folder(moved, "x") / "metrics.tsv")
    frame.loc[(frame["metric"] == "ssim") & (frame["image"] == "restored"), ["value", "reason"]] = (np.nan, "the image was flat")
    (table,) = tables.tables(frame)
    cells = {row.label: dict(zip((label for label, _ in table.images), row.cells, strict=True)) for row in table.rows}
    cell = cells["SSIM"]["restored"]
    assert cell
    assert (cell.text, table.notes[cell.note - 1]) == ("n/a", "the image was flat")
    assert table.missing == {"the shorter side has fewer than 176 pixels": ("MS-SSIM",)}


def test_before_and_after_are_means_over_the_same_channels(config: Config) -> None:
    frame = tables.read_metrics(paths.restored_folder(config, TWO) / "metrics.tsv")
    lost = (frame["metric"] == "frc_resolution") & (frame["image"] == "restored") & (frame["channel"] == "vesicles")
    frame.loc[(frame["metric"] == "frc_resolution") & (frame["image"] == "input") & (frame["channel"] == "vesicles"), "value"] = 9.0
    frame.loc[lost, "value"] = np.nan
    assert tables.before_after(frame, "frc_resolution") == (pytest.approx(0.412), pytest.approx(0.271))
    before, after = tables.before_after(frame, "rsp")
    assert np.isnan(before)
    assert after == pytest.approx(0.9871)


def test_the_best_of_each_row_is_marked_by_the_metrics_own_direction(config: Config) -> None:
    frame = tables.read_metrics(paths.restored_folder(config, TWO) / "metrics.tsv")
    for row in tables.tables(frame)[0].rows:
        best = [cell.text for cell in row.cells if cell and cell.best]
        assert best == {"PSNR, scale-invariant": ["31.07"], "NRMSE": ["0.0391"], "High-frequency power": []}.get(row.label, best)


def test_every_metric_of_the_evaluation_has_a_name_for_people() -> None:
    from cvdm_core.quality.table import DEFINITIONS

    assert set(tables.METRICS) == set(DEFINITIONS)


# The index


def read_index(config: Config) -> Page:
    return Page(write_index(config).read_text(encoding="utf-8"))


def test_the_index_is_written_when_there_is_nothing_yet(tmp_path: Path) -> None:
    words = read_index(make_config(tmp_path)).words
    assert "there is no sample sheet" in words
    assert "nothing here yet" in words


def test_the_index_lists_all_rows_in_order_with_state_and_link(config: Config) -> None:
    add_acquisition(config, "waiting", finished=False)
    add_acquisition(config, "for_training", finished=False, split="train")
    shown = read_index(config)
    order = [shown.words.index(f"\n{name}") if f"\n{name}" in shown.words else shown.words.index(name) for name in (TWO, BLIND, "waiting")]
    assert order == sorted(order)
    assert f"{TWO}/cvdm/report.html" in {attributes["href"] for attributes in shown.all("a")}
    states = [attributes["class"] for attributes in shown.all("span") if attributes.get("class", "").startswith("state ")]
    assert states == [f"state {state}" for state in ("restored", "restored", "restored", "not yet", "training only")]
    assert len(shown.all("img")) == 3


def test_the_index_says_what_failed_and_what_was_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    add_acquisition(config, "broken", finished=False)
    write_failure(config, "ingest", "broken", f"{HOSTILE}.tif: the file ends early; copy it again.")
    write_failure(config, "train", "cvdm", "no pairs in the train split; add some.")
    (Path(config.results) / ".failures" / "sample.x.json").write_text("{ damaged")
    refused = f"acquisition\tfile\tproblem\n{HOSTILE}\t/data/a b.tif\tno pixel size; add stated_pixel_size_um.\n"
    (tmp_path / "acquisitions.refused.tsv").write_text(refused)
    shown = read_index(config)
    for words in ("the file ends early; copy it again.", "no pairs in the train split", "this receipt is damaged", "no pixel size; add"):
        assert words in shown.words
    assert shown.words.count(HOSTILE) >= 2
    assert not shown.all("img")
    assert len(shown.all("script")) == 1


@pytest.mark.parametrize("lost", ["results/{}/cvdm/stitch.json", "results/{}/cvdm/metrics.tsv", "results/{}/raw.ome.zarr", "models"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_nothing_that_is_lost_keeps_the_index_from_being_written(config: Config, tmp_path: Path, lost: str, how: str) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_model(moved)
    write_sheet(moved.acquisitions, read_sheet(config.acquisitions))
    for name in (TWO, BLIND):
        path = tmp_path / lost.format(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if how == "damaged":
            path.write_bytes(b"\xff\x00{")
    shown = read_index(moved)
    assert SINGLE in shown.words
    assert TWO in shown.words
    assert [attributes["class"] for attributes in shown.all("img")].count("thumb") >= 1


def test_a_report_without_its_page_is_not_called_restored(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, {SINGLE: read_sheet(config.acquisitions)[SINGLE]})
    paths.report_page(moved, SINGLE).unlink()
    shown = read_index(moved)
    assert "not yet" in shown.words
    assert not [attributes for attributes in shown.all("a") if "report.html" in attributes.get("href", "")]


def test_a_store_with_damaged_pixels_is_named_on_the_index_not_fatal_to_it(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.results, tmp_path / "results")
    moved = make_config(tmp_path)
    write_sheet(moved.acquisitions, {SINGLE: read_sheet(config.acquisitions)[SINGLE]})
    card_file(moved, SINGLE).unlink()
    for path in paths.restored_store(moved, SINGLE).rglob("c/0/0/0/*/*"):
        path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))
    assert "The picture could not be read" in read_index(moved).words
