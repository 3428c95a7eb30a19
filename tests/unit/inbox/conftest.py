"""Each test of the inbox runs in a folder of its own with an empty inbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inbox_folder import Look, raw
from register_folder import CONFIG

from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.config import Config


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("inbox").mkdir()
    return tmp_path


@pytest.fixture
def look() -> Iterator[Look]:
    """Look at the inbox so many minutes after the test began; check that no raw file was touched."""
    begin = time.time() + 60  # after the files' times, whatever their resolution

    def at(minutes: float, config: Config = CONFIG) -> bool:
        before = raw()
        act = bool(register_inbox(config, "inbox", clock=lambda: begin + 60 * minutes))
        assert raw() == before
        return act

    yield at
