"""A night in a folder of its own, with three acquisitions, a dry run that is made up, and messages that nobody gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from listeners import serve  # noqa: F401 (a fixture)
from night_tree import all_jobs, row

from cvdm_core.config import Config, parse
from cvdm_core.nights import fitting, night, telling
from cvdm_core.nights.driver import Job
from cvdm_core.sheet import write_sheet


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(night.takeover, "end_what_was_left", lambda results, say: [])  # SLURM is asked in tests/slurm
    Path("profile").mkdir()
    Path("profile/config.yaml").write_text("cores: 2\nset-threads: {sample: 1}\n")
    made = parse(
        {"acquisitions": "a.tsv", "store": {"chunk": 256, "shard": 1024}, "sampling": {"samples": 8, "shards_per_job": 2}}, "a test"
    )
    write_sheet(made.acquisitions, {name: row(name) for name in "abc"})
    return made


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Let a dry run plan everything for a, b and c."""
    jobs = [job for name in "abc" for job in all_jobs(name)]
    monkeypatch.setattr(fitting, "planned_jobs", lambda command: jobs)
    return jobs


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Collect the messages."""
    sent: list[tuple[str, bool]] = []
    monkeypatch.setattr(telling.messages, "tell", lambda settings, subject, text, act: sent.append((text, act)) or [])
    return sent
