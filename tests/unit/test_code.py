"""Which code a receipt names: a hash that changes with the package's files, and the commit where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cvdm_core.records import code
from cvdm_core.records.receipts import read_json, stage
from cvdm_core.restoration import plan
from cvdm_core.training import fit


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small package in a folder of its own, which stands for ours."""
    package = tmp_path / "checkout" / "cvdm_core"
    for name in ("model/a.py", "training/b.py", "images/c.py"):
        (package / name).parent.mkdir(parents=True)
        (package / name).write_text("x = 1\n")
    monkeypatch.setattr(code, "PACKAGE", package)
    return package


def hashes() -> tuple[str, str]:
    """Return the hash of the whole package, and of its model with a file of another folder."""
    code.code_hash.cache_clear()
    found = code.code_hash(), code.code_hash("model", "images/c.py")
    code.code_hash.cache_clear()
    return found


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_the_receipt_names_the_code_that_ran(tmp_path: Path) -> None:
    with stage(tmp_path / "a.json", "stitch", "cells", tmp_path):
        pass
    versions = read_json(tmp_path / "a.json")["versions"]
    assert versions["code"] == code.code_hash()
    assert {"cvdm", "numcodecs", "scipy", "lightning", "safetensors", "multiview-stitcher"} <= versions.keys()


def test_the_hash_changes_with_the_code_and_with_nothing_else(package: Path) -> None:
    whole, model = hashes()
    (package / "model/a.pyc").write_text("compiled")
    (package / "model/page.html").write_text("<p>")
    assert hashes() == (whole, model)
    (package / "training/b.py").write_text("x = 2\n")
    other, same = hashes()
    assert other != whole and same == model
    (package / "model/a.py").rename(package / "model/c.py")
    assert hashes()[1] != model
    renamed = hashes()[1]
    (package / "images/c.py").write_text("x = 2\n")
    assert hashes()[1] != renamed


@pytest.mark.parametrize("rooms", [plan.CODE, fit.CODE])
def test_how_an_input_is_put_on_the_grid_of_its_target_counts_as_code_that_makes_the_pixels(
    rooms: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(code.PACKAGE, tmp_path / "cvdm_core"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    code.code_hash.cache_clear()
    before = code.work_code(*rooms)
    for name in ("images/intensity.py", "images/zipped.py"):
        with open(copy / name, "a") as stream:
            stream.write("# changed\n")
        code.code_hash.cache_clear()
        assert (code.work_code(*rooms) != before) == (name == "images/intensity.py")
        before = code.work_code(*rooms)
    code.code_hash.cache_clear()


def test_the_commit_is_named_and_whether_the_code_was_changed_since(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code.commit() == {}, "no checkout"
    checkout = package.parent
    git(checkout, "init")
    assert code.commit() == {}, "nothing committed yet"
    (checkout / "config.yaml").write_text("a: 1\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    first = git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "config.yaml").write_text("a: 2\n")
    assert code.commit() == {"commit": first}, "settings are no code"
    (package / "model/a.py").write_text("x = 2\n")
    assert code.commit() == {"commit": f"{first} with changes"}
    monkeypatch.setenv("PATH", str(package))
    assert code.commit() == {}, "no git on this machine"
