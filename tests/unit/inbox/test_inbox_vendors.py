"""The inbox: files in the formats of microscopes' makers, which are not read, are told and not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from inbox_folder import Look, history, plane, reason, sheet, states


def test_a_vendor_file_is_quarantined_once_it_is_quiet_until_its_tiff_comes(look: Look, capsys: pytest.CaptureFixture[str]) -> None:
    Path("inbox/cell.nd2").write_bytes(b"no TIFF")
    assert not look(0) and states() == {"cell": "arriving"}
    assert look(20) and look(21) and states() == {"cell": "quarantined"}
    assert "inbox/cell.nd2: .nd2 is not read; export it as OME-TIFF" in reason("cell")
    assert "inbox: 1 quarantined." in capsys.readouterr().out
    plane("cell")
    assert not look(22) and not look(42)
    assert sheet() == ["cell"] and history("cell")[-1] == "registered"


def test_a_vendor_file_beside_its_tiff_says_nothing(look: Look) -> None:
    for place in ("", "day/"):
        plane(f"{place}cell_{len(place)}")
        Path(f"inbox/{place}cell_{len(place)}.lif").write_bytes(b"no TIFF")
    assert not look(0) and not look(20)
    assert states() == {"cell_0": "registered", "cell_4": "registered"}
