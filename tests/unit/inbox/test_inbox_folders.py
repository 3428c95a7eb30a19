"""The inbox: its folders, however many files they hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from inbox_folder import Look, plane, sheet


def test_a_file_is_looked_at_as_often_in_a_full_folder_as_in_an_empty_one(
    look: Look, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.stat
    looked_at: list[Path] = []

    def counted(path: Path, follow_symlinks: bool = True) -> os.stat_result:
        looked_at.append(path)
        return whole(path, follow_symlinks=follow_symlinks)

    def looks(count: int) -> float:
        place = folder / str(count)
        (place / "inbox").mkdir(parents=True)
        monkeypatch.chdir(place)
        for number in range(count // 2):
            plane(f"day/series{number:03}_t0")
            plane(f"day/series{number:03}_t1")
        looked_at.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", counted)
            look(0)
            look(20)
        assert len(sheet()) == count // 2
        return sum(path.suffix == ".tif" for path in looked_at) / count

    assert looks(24) < 1.2 * looks(6)
