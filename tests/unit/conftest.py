"""What tests of several stages watch."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Inodes of the files and folders that were synced to the disk: only these are sure to be there after a power cut."""
    inodes: set[int] = set()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: inodes.add(os.fstat(descriptor).st_ino) or fsync(descriptor))
    return inodes


@pytest.fixture
def never_computes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no shard may be restored."""

    def forbid() -> None:
        from cvdm_core.restoration.shard import ShardRestorer

        monkeypatch.setattr(ShardRestorer, "restore", lambda self, shard: pytest.fail(f"shard {shard.index} was computed again"))

    return forbid
