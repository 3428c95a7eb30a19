"""`make env` with stand-ins for Python, pip and uv: when .env is made anew, and when it is left as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUDA = "torch==2.13.0 --index-url https://download.pytorch.org/whl/cu128"
STAND_IN = f"""#!/bin/sh
case "$*" in
  "-m venv --clear .env") rm -rf .env && mkdir -p .env/bin && for tool in python pip uv; do ln -s /bin/true .env/bin/$tool; done ;;
  -c*) exec {sys.executable} -c "import sys; sys.version_info = (VERSION, 0); $2" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    python(tmp_path, "3, 11")
    return tmp_path


def python(clone: Path, version: str) -> None:
    (clone / "python3.11").write_text(STAND_IN.replace("VERSION", version))
    (clone / "python3.11").chmod(0o755)


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the `make test` above this one, which names its own TORCH and flags.
    clean = {name: value for name, value in os.environ.items() if name not in ("TORCH", "PYTHON", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")}
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=clone, env={**clean, "PATH": f"{clone}:{clean['PATH']}"}, capture_output=True, text=True, check=False
    )


def test_the_build_of_torch_that_somebody_chose_stays_until_they_choose_another(clone: Path) -> None:
    assert f"installing {CUDA}" in make(clone, "env", f"TORCH={CUDA}").stdout
    assert "venv" not in make(clone, "--dry-run", "test").stdout
    os.utime(clone / "requirements.lock")
    assert f"installing {CUDA}" in make(clone, "env").stdout
    assert "installing torch==2.13.0\n" in make(clone, "env", "TORCH=torch==2.13.0").stdout
    assert "venv" not in make(clone, "--dry-run", "env").stdout


def test_another_release_of_torch_than_the_one_that_is_wanted_does_not_stay(clone: Path) -> None:
    make(clone, "env", "TORCH=torch==2.12.0")
    assert "installing torch==2.13.0\n" in make(clone, "env").stdout


def test_a_python_that_is_too_old_is_told_before_the_environment_is_touched(clone: Path) -> None:
    make(clone, "env")
    python(clone, "3, 9")
    done = make(clone, "env", f"TORCH={CUDA}")
    assert done.returncode != 0
    assert "This is Python 3.9, and 3.11 is needed; write where one is: make env PYTHON=/path/to/python3.11" in done.stderr
    assert (clone / ".env/torch").read_text() == "torch==2.13.0\n"


@pytest.mark.parametrize("own", [True, False])
def test_the_demo_writes_over_no_sheet_with_acquisitions_of_somebody(clone: Path, own: bool) -> None:
    make(clone, "env")
    (clone / ".env/bin/cvdm").write_text("#!/bin/sh\nmkdir -p demo/raw && echo simulated > demo/raw/acquisitions.tsv\n")
    (clone / ".env/bin/cvdm").chmod(0o755)
    sheet = clone / "config/acquisitions.tsv"
    before = sheet.read_text() + "mouse7\tmouse7\tpredict\t/data/mouse7.tif\n" * own
    sheet.write_text(before)
    done = make(clone, "demo/raw/acquisitions.tsv")
    assert (done.returncode == 0, sheet.read_text()) == ((False, before) if own else (True, "simulated\n")), done.stderr
    assert ("and the demo would write over it: move it to config/mine.tsv" in done.stderr) == own
    assert ("/data/mouse7.tif" in done.stdout) == own
