"""The mosaic on the pages: how its fields were placed, what fits, what a person should know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zarr
from report_tree import add_acquisition, make_config, write_model

from cvdm_core import paths
from cvdm_core.images.mosaic import Mosaic, Overlap, PlacedField
from cvdm_core.records.receipts import read_json, write_json
from cvdm_core.report.acquisition import write_report
from cvdm_core.report.index import write_index
from cvdm_core.report.mosaic import draw, mosaic_view
from cvdm_core.sheet import read_sheet, write_sheet


def mosaic(**changes: Any) -> Mosaic:
    fields = tuple(
        PlacedField(str(number), y, x, (float(y), float(x)), (0.5, -1.5), "stage" if number == 3 else "overlap")
        for number, (y, x) in enumerate([(0, 0), (0, 60), (60, 0), (60, 60)])
    )
    overlaps = (
        Overlap("0", "1", "measured", 0.95, (0.5, 1.0), 0.12, 1.04),
        Overlap("0", "2", "measured", 0.91, (0.5, 1.0), 1.75, 0.98),
        Overlap("1", "3", "empty", 0.05, None, None, None),
        Overlap("2", "3", "disagrees", 0.31, None, None, None),
    )
    known = Mosaic(
        (128, 160), (68, 100), "+x-y", "measured", (0, 0), 1.24, 1.75, 0.98, "4 fields were placed by 2 of 4 overlaps.",
        ("Placed by the stage alone: <script>3</script>.",), fields, overlaps,
    )  # fmt: skip
    return replace(known, **changes)


def describe(store: Path, said: dict[str, Any]) -> None:
    """Put a mosaic into the attribute of a store."""
    group = zarr.open_group(store, mode="r+")
    group.attrs["cvdm"] = {**group.attrs["cvdm"], "mosaic": said}  # type: ignore[dict-item]


@pytest.fixture
def pages(tmp_path: Path) -> tuple[str, str]:
    config = make_config(tmp_path)
    write_model(config)
    add_acquisition(config, "scan", truth=False)
    describe(paths.raw_store(config, "scan"), mosaic().to_json())
    receipt = paths.ingest_receipt(config, "scan")
    known = read_json(receipt) if receipt.exists() else {"stage": "ingest"}
    write_json(receipt, {**known, "details": {**known.get("details", {}), "mosaic": mosaic().to_json()}})
    sheet = read_sheet(config.acquisitions)
    write_sheet(config.acquisitions, {"scan": sheet["scan"].model_copy(update={"series": "mosaic", "layout": "0"})})
    return write_report(config, "scan").read_text(), write_index(config).read_text()


def test_the_page_tells_how_the_fields_were_placed(pages: tuple[str, str]) -> None:
    page, index = pages
    assert "4 fields were placed by 2 of 4 overlaps." in page and '<a href="#mosaic">' in page
    for words in (
        "1.75 px (228 nm)",
        "does not match, left out",
        "shows too little",
        "not measured",
        "+4.0 %",
        "−2.0 %",
        "moved by +0.50, −1.50 px",
        "runs along +x",
        "98 % of it",
    ):
        assert words in page
    table = page[page.index("Overlaps, the worst first") :]
    assert table.index("2 – 3") < table.index("0 – 2") < table.index("0 – 1")
    assert "hold 0 there, which is no measurement" in page and "multiview-stitcher" in page
    assert "<script>3" not in page + index and "&lt;script&gt;3" in page and "&lt;script&gt;3" in index


def test_a_page_of_a_single_field_tells_nothing_of_mosaics(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write_model(config)
    add_acquisition(config, "cells", truth=False)
    assert mosaic_view(paths.raw_store(config, "cells")) is None
    assert 'id="mosaic"' not in write_report(config, "cells").read_text()


def test_the_drawing_shows_every_field_and_overlap_and_escapes_their_names() -> None:
    evil = mosaic(fields=tuple(replace(field, name=f"<b>{field.name}") for field in mosaic().fields), overlaps=())
    assert "<b>" not in draw(evil) and draw(evil).count("<rect") == 4
    drawing = draw(mosaic())
    assert [drawing.count(f'class="o {kind}"') for kind in ("well", "fair", "empty", "wrong")] == [1, 1, 1, 1]
    assert drawing.count('class="by-stage"') == 1
