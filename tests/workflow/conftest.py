"""Facilities for the tests: an empty one for each test, and one in which everything has run once."""

from __future__ import annotations

from pathlib import Path

import pytest
from facility import Facility


@pytest.fixture
def facility(tmp_path: Path) -> Facility:
    """A facility with its configuration and nothing acquired."""
    made = Facility(tmp_path / "facility")
    made.configure()
    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """A facility after `rule all`; read it or copy it, and never change it."""
    made = Facility(tmp_path_factory.mktemp("finished") / "facility")
    made.configure()
    made.acquire("pair-1", "train")
    made.acquire("pair-2", "val")
    made.acquire("held-out", "test")
    made.acquire("new", "predict", target=False)
    registered = made.run("cvdm", "register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    result = made.snakemake()
    assert result.returncode == 0, result.stdout + result.stderr
    return made
