"""The walls of the house: who imports whom, what is light, and that every list of versions says the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cvdm_core import __version__

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "zarr", "dask", "xarray", "pandas", "tifffile", "scipy", "skimage", "matplotlib", "lightning", "ome_zarr"}


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that are loaded after running `code` in a fresh interpreter."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in shown.stdout.split()}


def test_the_import_rules_hold() -> None:
    result = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_snakefile_imports_nothing_heavy() -> None:
    text = "\n".join((ROOT / f"workflow/rules/{name}.smk").read_text() for name in ("common", "resources"))
    imports = [line for line in text.splitlines() if re.match(r"(import|from) ", line) and "snakemake" not in line]
    assert len(imports) > 5
    assert not imported_by("\n".join(imports)) & HEAVY


def test_a_rule_file_holds_rules_or_python_and_never_both() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")}
    python = {name for name, text in files.items() if re.search(r"^(import|from|def|if|for) ", text, flags=re.MULTILINE)}
    rules = {name for name, text in files.items() if re.search(r"^(checkpoint|rule) ", text, flags=re.MULTILINE)}
    assert python == {"common.smk", "resources.smk", "targets.smk"}
    assert rules == files.keys() - python


def test_the_help_of_the_command_line_is_light() -> None:
    assert not imported_by("import cvdm_core.cli") & HEAVY


@pytest.mark.parametrize("room", sorted(path.parent.name for path in (ROOT / "cvdm_core").glob("*/__init__.py")))
def test_importing_a_room_loads_nothing_heavy(room: str) -> None:
    assert not imported_by(f"import cvdm_core.{room}") & HEAVY


@pytest.mark.parametrize("stage", ["acquisitions.ingest", "restoration.stitch", "quality.evaluate", "report.acquisition", "report.index"])
def test_a_stage_that_runs_no_network_does_without_torch(stage: str) -> None:
    # Seconds and 150 MB a job, and on a cluster 1 GB of files to look through on a network disk.
    assert "torch" not in imported_by(f"import cvdm_core.{stage}")


def test_the_model_needs_torch_and_numpy_only() -> None:
    names = sorted(path.stem for path in (ROOT / "cvdm_core/model").glob("*.py") if path.stem not in ("__init__", "description", "folder"))
    loaded = imported_by("\n".join(f"import cvdm_core.model.{name}" for name in names))
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch", "numpy"})
    assert not loaded & {"pydantic", "yaml", "typer"}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    return {name.lower().replace("_", "-"): version for name, version in pins}


def test_the_lock_holds_every_dependency_in_the_version_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    lock = locked()
    for requirement in wanted:
        name, exact = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:(?:==([\w.]+))|>=.*)?", requirement).groups()
        if name != "torch":
            assert name.lower() in lock, f"{name} is not in requirements.lock; run `make lock`"
            assert exact in (None, lock[name.lower()])


def test_the_lock_holds_no_torch_and_no_cuda() -> None:
    assert not [name for name in locked() if name == "torch" or name.startswith(("nvidia", "cuda", "triton"))]


def test_every_place_that_names_torch_names_the_same_version() -> None:
    places = ["pyproject.toml", "Makefile", "envs/cvdm.yaml", "envs/Containerfile"]
    versions = {version for place in places for version in re.findall(r"torch==([\w.]+)", (ROOT / place).read_text())}
    assert len(versions) == 1


def test_every_place_that_names_python_or_the_package_names_the_same_version() -> None:
    conda = yaml.safe_load((ROOT / "envs/cvdm.yaml").read_text())["dependencies"]
    assert "python=3.11" in conda
    assert "python:3.11-" in (ROOT / "envs/Containerfile").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_profile_is_used_by_itself_and_slurm_is_found_by_name() -> None:
    assert not (ROOT / "profiles/default").exists()
    assert (ROOT / "slurm").readlink() == Path("profiles/slurm")
    for profile in ("local", "slurm"):
        files = {path.name for path in (ROOT / "profiles" / profile).iterdir()}
        values = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
        assert not files & {str(value) for value in values.values()}, "such a value would become a path"
        assert "keep-incomplete" not in values
