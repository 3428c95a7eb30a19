"""Facilities for the tests: an empty one for each test, and one in which everything has run once."""

from __future__ import annotations

import fcntl
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
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Facility:
    """A facility after `rule all`, one for all workers; read it or copy it, and never change it."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    made = Facility(shared / "finished/facility")
    done = shared / "finished-done"
    with open(shared / "finished-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert done.exists() or not made.folder.exists(), "another worker could not make the facility; its error says why"
        if not done.exists():
            _run_everything(made)
            done.touch()
    return made


def _run_everything(facility: Facility) -> None:
    facility.configure()
    facility.acquire("pair-1", "train")
    facility.acquire("pair-2", "val")
    facility.acquire("held-out", "test")
    facility.acquire("new", "predict", target=False)
    registered = facility.run("cvdm", "register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    result = facility.snakemake()
    assert result.returncode == 0, result.stdout + result.stderr
