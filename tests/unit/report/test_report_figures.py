"""The plots of a page, by where their marks lie."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cvdm_core.report import figures


def points(svg: str) -> list[tuple[float, float]]:
    """Return where the points of the restored image's curve lie."""
    drawn = re.search(r'<path d="([^"]*)" clip-path[^>]*stroke: #1f83c8', svg)
    assert drawn
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", drawn[1])]


def test_every_point_of_the_calibration_is_seen_however_small() -> None:
    predicted = np.array([0.02, 0.2, 2, 20, 200])
    drawn = points(str(figures.calibration(predicted, predicted / 2, "counts")))
    across, up = (np.diff([point[axis] for point in drawn]) for axis in (0, 1))
    assert across == pytest.approx([across[0]] * 4) and across[0] > 10
    assert up == pytest.approx([up[0]] * 4)


def test_groups_of_pixels_without_spread_or_error_have_no_place_in_the_calibration() -> None:
    predicted, measured = np.array([0, np.nan, 3, 4, 5]), np.array([1, 2, 0, 4, 6])
    assert len(points(str(figures.calibration(predicted, measured, "counts")))) == 2
    assert figures.calibration(predicted[:4], measured[:4], "counts") is None


def test_the_threshold_of_the_ring_correlation_is_named_where_the_curves_are_high() -> None:
    frequency = np.linspace(0.1, 9, 50)
    svg = str(figures.frc([figures.Curve("restored", frequency, 1 / (1 + frequency**2))]))
    label = re.search(r'x="([\d.]+)" y="([\d.]+)"[^>]*>1/7<', svg)
    assert label
    curve = points(svg)
    assert float(label[1]) < curve[len(curve) // 4][0]
