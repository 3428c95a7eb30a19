"""The whole way on tiny images, and what runs again after a change."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from facility import ROOT, Facility, jobs_in

from cvdm_core.acquisitions.progress import note_arrival
from cvdm_core.config import load
from cvdm_core.images import open_image
from cvdm_core.records.receipts import read_json
from cvdm_core.records.throughput import throughput_file
from cvdm_core.sheet import read_sheet, write_sheet

RESTORED = ("held-out", "new")
SAMPLED = {"sample": 4, "finish": 2}


def test_rule_all_leaves_images_metrics_pages_and_an_index(finished: Facility) -> None:
    results = finished.folder / "results"
    for name in RESTORED:
        restored = open_image(results / name / "tiny/restored.ome.zarr")
        assert restored.shape == (1, 1, 1, 128, 128)
        assert (results / name / "tiny/report.html").stat().st_size > 10_000
        assert not pd.read_csv(results / name / "tiny/metrics.tsv", sep="\t").empty
    index = (results / "index.html").read_text()
    assert all(name in index for name in RESTORED)
    assert not list((results / ".failures").glob("*")) if (results / ".failures").exists() else True


def test_a_second_run_does_nothing(finished: Facility, tmp_path: Path) -> None:
    result = finished.copy(tmp_path / "facility").snakemake()
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout + result.stderr


def test_verify_finds_what_the_receipts_say(finished: Facility, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "facility")
    assert copy.snakemake("verify").returncode == 0
    model = copy.folder / "models/tiny/weights.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    result = copy.snakemake("verify")
    assert result.returncode != 0
    assert "weights.safetensors" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("changes", "runs_again"),
    [
        ({"model": {"denoiser": {"base_channels": 12}}}, {"train": 1, **SAMPLED}),
        ({"training": {"steps": 21}}, {"train": 1, **SAMPLED}),
        ({"training": {"workers": 1}}, {}),
        ({"sampling": {"steps": 3}}, SAMPLED),
        ({"store": {"output_dtype": "uint16"}}, SAMPLED),
        ({"store": {"compressor": "lz4"}}, {"ingest": 4, "train": 1, **SAMPLED}),
        ({"evaluation": {"richardson_lucy_iterations": 3}}, {"finish": 2}),
        ({"model": {"name": "other"}}, {"train": 1, **SAMPLED}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_a_changed_setting_runs_again_exactly_what_depends_on_it(
    finished: Facility, tmp_path: Path, changes: dict[str, object], runs_again: dict[str, int]
) -> None:
    copy = finished.copy(tmp_path / "facility")
    copy.configure(**changes)
    assert copy.planned() == runs_again


def test_a_night_in_which_one_acquisition_is_new_plans_only_that_one(finished: Facility, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "facility")
    copy.acquire("tonight", "predict", target=False)
    assert copy.run("cvdm", "register").returncode == 0
    assert copy.planned() == {"ingest": 1, "sample": 2, "finish": 1}


def test_a_new_arrival_under_an_old_name_is_ingested_again_though_nothing_else_tells_it(
    finished: Facility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = finished.copy(tmp_path / "facility")
    monkeypatch.chdir(copy.folder)
    config, row = load([copy.folder / "config/config.yaml"]), read_sheet(copy.sheet)["new"]
    note_arrival(config, row)
    assert copy.planned() == {}
    raw, times = Path(row.input), Path(row.input).stat()
    pixels = raw.read_bytes()
    raw.write_bytes(pixels[:-2] + bytes(255 - byte for byte in pixels[-2:]))
    os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert copy.planned() == {}
    note_arrival(config, row)
    assert copy.planned() == {"ingest": 1, "sample": 2, "finish": 1}


def test_the_measured_throughput_is_kept_and_a_change_of_it_runs_nothing_again(finished: Facility, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "facility")
    path = throughput_file(copy.folder / "results")
    measured = json.loads(path.read_text())
    assert {line[0] for line in measured["jobs"]} == {"ingest", "train", "sample", "stitch", "evaluate", "report"}
    for devices in measured["paces"].values():
        for paces in devices.values():
            for pace in paces.values():
                pace |= {"jobs": 50, "seconds_per_megapixel": 1e6, "memory_mb": 50_000.0}
    path.write_text(json.dumps(measured))
    assert copy.planned() == {}


def test_a_setting_on_the_command_line_counts_like_one_in_the_file(finished: Facility) -> None:
    assert finished.planned("--config", "sampling={steps: 3}") == SAMPLED


def test_the_name_of_the_configuration_file_does_not_matter(finished: Facility, tmp_path: Path) -> None:
    other = tmp_path / "it's another.yaml"
    other.write_bytes((finished.folder / "config/config.yaml").read_bytes())
    assert finished.planned("--configfile", str(other)) == {}


def test_a_changed_package_version_runs_everything_again(finished: Facility, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import cvdm_core\ncvdm_core.__version__ = '99.0'\n")
    planned = finished.run("snakemake", "--snakefile", f"{ROOT}/Snakefile", "--dry-run", PYTHONPATH=str(tmp_path))
    assert jobs_in(planned) == {"ingest": 4, "train": 1, **SAMPLED}


@pytest.mark.parametrize(
    ("changes", "runs_again"),
    [
        ({"note": "seen by Anna"}, {"finish": 1}),
        ({"samples": 1}, {name: SAMPLED[name] // 2 for name in SAMPLED}),
        ({"urgent": 9}, {}),
    ],
    ids=str,
)
def test_a_changed_cell_of_the_sheet_runs_again_exactly_what_depends_on_it(
    finished: Facility, tmp_path: Path, changes: dict[str, object], runs_again: dict[str, int]
) -> None:
    copy = finished.copy(tmp_path / "facility")
    rows = read_sheet(copy.sheet)
    write_sheet(copy.sheet, {**rows, "new": rows["new"].model_copy(update=changes)})
    assert copy.planned() == runs_again


def test_a_published_image_is_kept_where_only_its_measures_change_and_where_measuring_fails(finished: Facility, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "facility")
    place = copy.folder / "results/new/tiny"
    page, store = "results/new/tiny/report.json", place / "restored.ome.zarr"
    written = {file: file.stat().st_mtime_ns for file in store.rglob("*") if file.is_file()}
    copy.configure(evaluation={"richardson_lucy_iterations": 3})

    (place / "curves.nc").unlink()
    (place / "curves.nc").mkdir()  # what evaluate writes cannot be put there
    failed = copy.snakemake(page)
    assert failed.returncode != 0
    assert (place / "stitch.json").is_file() and not (place / "report.html").exists()
    assert "curves.nc" in (copy.folder / "logs/new/tiny/finish.log").read_text()

    (place / "curves.nc").rmdir()
    assert copy.snakemake(page).returncode == 0
    assert (place / "report.html").is_file()
    assert {file: file.stat().st_mtime_ns for file in store.rglob("*") if file.is_file()} == written


def test_the_report_of_snakemake_holds_the_pages_with_captions(finished: Facility, tmp_path: Path) -> None:
    result = finished.run("snakemake", "--snakefile", f"{ROOT}/Snakefile", "--report", str(tmp_path / "report.zip"))
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = archive.namelist()
        text = "".join(archive.read(name).decode() for name in names if name.endswith((".html", ".js")))
    assert sum(name.endswith("report.html") and "data" in name for name in names) >= len(RESTORED)
    assert "standard deviation side by side" in text


def test_a_damaged_and_a_missing_file_cost_only_their_own_acquisitions(finished: Facility, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "facility")
    damaged = copy.acquire("damaged", "predict", target=False)
    missing = copy.acquire("missing", "predict", target=False)
    copy.acquire("late", "predict", target=False, file="$(touch pwned) '<b>.tif")
    assert copy.run("cvdm", "register").returncode == 0
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    missing.unlink()

    result = copy.snakemake()

    assert result.returncode != 0
    results = copy.folder / "results"
    assert read_json(results / "late/tiny/report.json")["stage"] == "report"
    index = (results / "index.html").read_text()
    assert read_sheet(copy.sheet).keys() >= {"damaged", "missing", "late"}
    assert "raw/damaged.tif" in index
    assert "raw/missing.tif" in index
    assert "<b>.tif" not in index
    assert not (copy.folder / "pwned").exists()
    log = (copy.folder / "logs/damaged/ingest.log").read_text()
    first, *_, last = log.splitlines()
    assert first.startswith("cvdm ingest: damaged on ") and ", attempt 1, process " in first
    assert "\ncvdm ingest: used " in log
    assert last.startswith("cvdm: raw/damaged.tif") and "Traceback" not in log
