"""Each fault in a published store is found: by `verify`, which names the file, and by `validate`, which names the shard or key."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from store_faults import FAULTS, FURTHER, Fault
from store_tree import fill, pixels, settings

from cvdm_core.errors import UserError
from cvdm_core.images.omezarr_metadata import write_ome_xml
from cvdm_core.images.publishing import publish
from cvdm_core.images.validation import images, validate
from cvdm_core.records.receipts import stage
from cvdm_core.records.verify import folder_checksums, verify

FORMATS = ("0.5", "0.4")
STORE = Path("results/cells/restored.ome.zarr")
PLANTED = [(version, name) for name, fault in (FAULTS | FURTHER).items() for version in FORMATS if version in fault.formats]
TURNS = 10


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each format a folder with a published store and its receipt, paths relative to the folder."""
    folders = {}
    for version in FORMATS:
        folders[version] = tmp_path_factory.mktemp("published")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folders[version])
            with stage("results/cells/stitch.json", "stitch", "cells", "results") as receipt:
                partial = STORE.with_name("partial")
                fill(partial, pixels((1, 1, 1, 40, 20)), settings(format=version))
                fill(partial, pixels((1, 1, 1, 40, 20), "float32"), settings(format=version), "std")
                write_ome_xml(partial, "<OME/>")
                publish(partial, STORE)
                receipt.wrote = {str(STORE): folder_checksums(STORE)}
    return folders


@pytest.fixture
def place(published: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> Path:
    shutil.copytree(published[version], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check() -> list[str]:
    return verify([Path("results")], validate)


@pytest.mark.parametrize("version", FORMATS)
def test_a_sound_store_has_no_problems(place: Path) -> None:
    assert len(FAULTS) == 21
    assert check() == []
    assert images(STORE) == ["", "std"]


@pytest.mark.parametrize(("version", "name"), PLANTED)
def test_the_fault_is_found_and_named(place: Path, version: str, name: str) -> None:
    fault: Fault = (FAULTS | FURTHER)[name]
    chunks = "c/" if version == "0.5" else ""
    fault.plant(STORE)
    with pytest.raises(UserError) as caught:
        validate(STORE)
    sentence = str(caught.value)
    assert fault.says.replace("CHUNKS/", chunks) in sentence.removeprefix(str(STORE))
    assert str(STORE) in sentence
    assert "\n" not in sentence
    problems = check()
    assert any(f"{STORE}: {fault.changed_file(version)} " in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
    if "GROUP" in fault.file or "ARRAY" in fault.file:
        assert sentence in problems or len(problems) == 1, "the key is named too"


@pytest.mark.parametrize("version", FORMATS)
def test_a_faulty_store_with_a_receipt_of_its_own_is_found(place: Path) -> None:
    """What a faulty writer leaves: every checksum is right."""
    (FAULTS | FURTHER)["factor 3"].plant(STORE)
    with stage("results/cells/stitch.json", "stitch", "cells", "results") as receipt:
        receipt.wrote = {str(STORE): folder_checksums(STORE)}
    assert verify([Path("results")]) == []
    (problem,) = check()
    assert "level 1 has the scale" in problem


def _flip(path: Path, at: int, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("version", FORMATS)
def test_one_flipped_bit_in_any_file_is_found(place: Path) -> None:
    """In the first byte of every file, in its last one (a shard's index is there), and at random places in between."""
    files = sorted(path for path in STORE.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    chance = random.Random(0)
    for turn in range(TURNS):
        for path, content in contents.items():
            _flip(path, {0: 0, 1: len(content) - 1}.get(turn, chance.randrange(len(content))), chance)
        named = {problem.removeprefix(f"{STORE}: ").split(" has changed")[0] for problem in verify([Path("results")])}
        assert named == {path.relative_to(STORE).as_posix() for path in files}
        for path, content in contents.items():
            path.write_bytes(content)
    assert check() == []


@pytest.mark.parametrize("version", FORMATS)
def test_metadata_with_a_flipped_bit_gives_a_sentence_and_never_a_traceback(place: Path) -> None:
    chance = random.Random(1)
    names = ("zarr.json", "1/zarr.json", "std/0/zarr.json") if (STORE / "zarr.json").exists() else (".zattrs", "1/.zarray", "std/0/.zarray")
    for name in names * 6:
        path = STORE / name
        whole = path.read_bytes()
        at = chance.randrange(len(whole))
        _flip(path, at, chance)
        assert any(name in problem for problem in check()), (name, at)
        path.write_bytes(whole)
