"""The tables of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_pages import TWO
from report_tree import make_config, write_measurements

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.report import tables
from cvdm_core.report.metrics import METRICS


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
        assert best == {"Scale-invariant PSNR": ["31.07"], "NRMSE": ["0.0391"], "High-frequency power": []}.get(row.label, best)


def test_every_metric_of_the_evaluation_has_a_name_for_people() -> None:
    from cvdm_core.quality.table import DEFINITIONS

    assert set(METRICS) == set(DEFINITIONS)
