"""A folder that may not be written: one sentence that names it, in every command, and no traceback; afterwards the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from facility import BIN, ROOT, Facility

# Root may write everywhere, until it has given that power away.
POWERS = "-dac_override,-dac_read_search"
AS_ANYBODY = ["setpriv", f"--bounding-set={POWERS}", f"--inh-caps={POWERS}"] if os.geteuid() == 0 else []
pytestmark = pytest.mark.skipif(bool(AS_ANYBODY) and not shutil.which("setpriv"), reason="root needs setpriv (util-linux)")


@pytest.fixture
def close(facility: Facility) -> Iterator[Callable[[str], Path]]:
    closed: list[Path] = []

    def close(name: str) -> Path:
        folder = facility.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o555)
        closed.append(folder)
        return folder

    yield close
    for folder in closed:
        folder.chmod(0o755)


def typed(facility: Facility, line: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = line.split()
    command = [*AS_ANYBODY, str(BIN / program), *arguments]
    return subprocess.run(command, cwd=facility.folder, env=facility.environment, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("results", "cvdm ingest --acquisition new"),
        ("results", "cvdm index"),
        ("results", f"cvdm night --profile {ROOT}/profiles/local"),
        ("config", "cvdm register raw/another.tif"),
        ("demo", "cvdm simulate demo/raw"),
    ],
)
def test_a_closed_folder_is_named_in_one_sentence(facility: Facility, close: Callable[[str], Path], folder: str, command: str) -> None:
    shutil.copy(facility.acquire("new", "predict", target=False), facility.folder / "raw/another.tif")
    assert facility.run("cvdm", "register").returncode == 0
    before = sorted(path.name for path in close(folder).iterdir())

    done = typed(facility, command)

    assert done.returncode in (1, 2)
    said = done.stdout + done.stderr
    assert f"{folder}/" in said and "(Permission denied)" in said and "Traceback" not in said
    assert sorted(path.name for path in (facility.folder / folder).iterdir()) == before

    (facility.folder / folder).chmod(0o755)
    if "night" not in command and "simulate" not in command:  # these take minutes where they may
        assert typed(facility, command).returncode == 0
