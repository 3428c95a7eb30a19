"""The tables of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
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


def finest_detail(**values: float) -> pd.DataFrame:
    """Return a table with the FRC resolution of these images [µm]."""
    rows = [("a", image, "frc_resolution", value, "µm", "truth", "") for image, value in values.items()]
    rows += [("a", image, "psnr_si", value, "dB", "truth", "") for image, value in (("input", 20.0), ("restored", 30.0))]
    return pd.DataFrame(rows, columns=list(tables.COLUMNS))


def test_a_resolution_at_the_limit_of_the_pixels_is_called_so() -> None:
    frame = finest_detail(input=0.208, restored=0.1035, sample=0.112, richardson_lucy=0.1033)
    cells = tables.tables(frame, finest=0.1028)[0].rows[1].cells
    assert [(cell.text, cell.beside, cell.best) for cell in cells if cell] == [
        ("0.208", "", False),
        ("≤ 0.103", "(limit of the pixels)", True),
        ("0.112", "", False),
        ("≤ 0.103", "(limit of the pixels)", True),
    ]
    shown = {figure.label: figure for figure in tables.key_figures(frame, finest=0.1028)}["FRC resolution"]
    assert f"{shown.before} → {shown.after} {shown.unit}" == "208 → ≤ 103 nm (limit of the pixels)"
    assert "finest detail shared with the truth 208 → ≤ 103 nm (limit of the pixels)." in tables.verdict(frame, "x", finest=0.1028)[1]
    assert "208 → 104 nm." in tables.verdict(frame, "x", finest=0.08)[1]


def test_what_is_equal_as_printed_is_best_together() -> None:
    row = tables.tables(finest_detail(input=0.3, restored=0.12041, richardson_lucy=0.12039))[0].rows[1]
    assert [cell.best for cell in row.cells if cell] == [False, True, True]


def test_the_standard_deviation_is_compared_with_its_control_in_each_channel() -> None:
    def told(**channels: tuple[float, float]) -> str:
        rows = [
            (channel, "restored", metric, value, "", "truth", "")
            for channel, values in channels.items()
            for metric, value in zip(("spearman_std", "spearman_input"), values, strict=True)
        ]
        return tables.outdone(pd.DataFrame(rows, columns=list(tables.COLUMNS)))

    assert told(a=(0.5, 0.4), b=(0.5, np.nan)) == ""
    assert told(a=(0.5, 0.5)).startswith("Here the brightness of the input tells where")
    assert told(a=(0.3, 0.5), b=(0.2, 0.6)).startswith("Here the brightness")
    assert told(a=(0.3, 0.5), b=(0.8, 0.6), c=(0.1, 0.2)).startswith("In the channels a, c the brightness")


def test_every_metric_of_the_evaluation_has_a_name_for_people() -> None:
    from cvdm_core.quality.table import DEFINITIONS

    assert set(METRICS) == set(DEFINITIONS)
