"""What Snakemake makes of the configuration and the sheet, without running a job."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dry_runs import dry_run
from facility import BIN, LOCAL, ROOT, Facility, jobs_in

from cvdm_core.config import load
from cvdm_core.records.throughput import throughput_file
from cvdm_core.sheet import Acquisition, read_sheet, write_sheet
from cvdm_core.workload import STAGES_OF

EXAMPLES = sorted(path.relative_to(ROOT) for path in (ROOT / "config").rglob("*.yaml"))
LIES_OVER = {"w2s_regression.yaml": "w2s.yaml"}


def registered(name: str, split: str, size: int = 256, **values: object) -> Acquisition:
    measured = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": size, "size_x": size, "dtype": "uint16", "pixel_size_um": 0.1}
    row = {"acquisition": name, "specimen": name, "split": split, "input": f"raw/{name}.tif", **measured, **values}
    return Acquisition.model_validate({**row, "target": "" if split == "predict" else f"raw/{name}_target.tif"})


def sheet_of(*rows: Acquisition) -> dict[str, Acquisition]:
    return {row.acquisition: row for row in rows}


def test_snakemake_lint_finds_nothing(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("b", "predict")))
    result = facility.run("snakemake", "--snakefile", f"{ROOT}/Snakefile", "--lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_snakefmt_would_change_nothing() -> None:
    subprocess.run([BIN / "snakefmt", "--check", "Snakefile", "workflow"], cwd=ROOT, check=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_configuration_of_the_repository_can_be_planned(facility: Facility, example: Path) -> None:
    shutil.copytree(ROOT / "config", facility.folder / "config", dirs_exist_ok=True)
    files = [str(example.with_name(below)) for below in [LIES_OVER.get(example.name)] if below] + [str(example)]
    config = load([facility.folder / file for file in files])
    rows = sheet_of(registered("a", "train"), registered("b", "val"), registered("c", "test"), registered("d", "predict"))
    write_sheet(facility.folder / config.acquisitions, rows)
    plan = facility.planned("--configfile", *files)
    assert plan["train"] == 1
    assert plan["finish"] == sum(row.split in config.restore for row in rows.values())


def test_the_folder_of_the_workflow_may_have_a_space_in_its_path(facility: Facility) -> None:
    lab = Facility(facility.folder.rename(facility.folder.with_name("our lab")))
    shutil.copy(ROOT / "Snakefile", lab.folder)
    shutil.copytree(ROOT / "workflow", lab.folder / "workflow")
    write_sheet(lab.sheet, sheet_of(registered("a", "train")))
    assert jobs_in(dry_run(lab.folder, [], lab.environment)) == {"ingest": 1, "train": 1}


def test_both_profiles_are_understood_under_the_names_the_documentation_gives(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("b", "predict")))
    for link in ("profiles", "slurm"):
        (facility.folder / link).symlink_to(ROOT / link)
    for profile in ("slurm", "profiles/local"):
        result = facility.dry_run("--profile", profile)
        assert result.returncode == 0, result.stdout + result.stderr


def test_jobs_follow_from_the_sizes_in_the_sheet(facility: Facility) -> None:
    facility.configure(store={"chunk": 256, "shard": 1024}, sampling={"shards_per_job": 4})
    # Restored to 2048 x 2048 and 5000 x 5000: 4 and 25 shards a plane, of 2 channels each in the second.
    write_sheet(
        facility.sheet, sheet_of(registered("a", "train"), registered("b", "test", 1024), registered("c", "predict", 2500, size_c=2))
    )
    assert facility.planned() == {"ingest": 3, "train": 1, "sample": 1 + 13, "finish": 2}
    assert facility.planned().keys() == STAGES_OF.keys()


def test_a_row_that_is_not_measured_is_left_out(facility: Facility) -> None:
    unmeasured = Acquisition(acquisition="later", specimen="later", split="predict", input="raw/later.tif")
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("b", "predict"), unmeasured))
    assert facility.planned()["ingest"] == 2


def test_without_training_pairs_a_model_that_is_there_is_used(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("b", "predict")))
    receipt = facility.folder / "models/tiny/train.json"
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    assert facility.planned() == {"ingest": 1, "sample": 32, "finish": 1}


def test_a_training_pair_whose_line_is_broken_trains_no_model_anew_without_it(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("c", "train", note="broken"), registered("b", "predict")))
    facility.sheet.write_text(facility.sheet.read_text().replace("\tbroken\t1\t", "\tbroken\tone\t"))
    assert facility.planned()["train"] == 1  # without a model, `cvdm train` says what is to be done
    receipt = facility.folder / "models/tiny/train.json"
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    assert facility.planned() == {"ingest": 1, "sample": 32, "finish": 1}
    said = facility.dry_run()
    assert "line 3: size_t = 'one' is not usable" in said.stdout + said.stderr


def test_without_training_pairs_and_without_a_model_one_sentence_says_so(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("b", "predict")))
    result = facility.dry_run(*LOCAL)
    assert result.returncode != 0
    assert "there is no trained model in models/tiny" in result.stdout + result.stderr


def test_an_empty_sheet_is_no_error(facility: Facility) -> None:
    write_sheet(facility.sheet, {})
    assert facility.planned() == {}


def requests(facility: Facility) -> dict[str, dict[str, int]]:
    """Return the resources of the largest job of each rule, as a dry run of everything shows them."""
    listed = facility.dry_run()
    assert listed.returncode == 0, listed.stdout + listed.stderr
    jobs = re.findall(r"^rule (\w+):$.*?^ +resources: (.*?)$", listed.stdout + listed.stderr, flags=re.MULTILINE | re.DOTALL)
    found: dict[str, dict[str, int]] = {}
    for rule, resources in jobs:
        for name, value in re.findall(r"(\w+)=(\d+)", resources):
            found.setdefault(rule, {})[name] = max(int(value), found.get(rule, {}).get(name, 0))
    return found


def measure(facility: Facility, **stages: dict[str, float]) -> None:
    """Leave a throughput that was measured."""
    usual = {"jobs": 5, "start_seconds": 0.0, "seconds_per_megapixel": 1.0, "slow": 1.0, "memory_mb": 100.0}
    models = {"train": "tiny", "sample": "tiny"}
    paces = {stage: {models.get(stage, ""): {"a device": {**usual, **pace}}} for stage, pace in stages.items()}
    path = throughput_file(facility.folder / "results")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"paces": paces}))


def test_time_grows_with_the_image_and_no_rule_names_retries(facility: Facility) -> None:
    facility.configure(sampling={"shards_per_job": 1_000_000})
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("b", "predict", 256)))
    small = requests(facility)
    write_sheet(facility.sheet, sheet_of(registered("a", "train"), registered("b", "predict", 16_384)))
    large = requests(facility)
    assert all(large[rule]["runtime"] > small[rule]["runtime"] > 0 for rule in ("ingest", "sample", "finish"))
    assert not [rules for rules in (ROOT / "workflow/rules").glob("*.smk") if "retries:" in rules.read_text()]


def test_what_was_measured_on_the_devices_at_hand_is_what_is_asked_for(facility: Facility) -> None:
    facility.configure(sampling={"shards_per_job": 1_000_000})
    write_sheet(facility.sheet, sheet_of(registered("a", "train", 4096), registered("b", "predict", 4096)))
    unmeasured = requests(facility)
    slow, fast = {"seconds_per_megapixel": 10.0, "memory_mb": 8000.0}, {"jobs": 1, "seconds_per_megapixel": 0.01}
    measure(facility, ingest=slow, train=fast)
    measured = requests(facility)
    # 16.8 megapixels and a target of 67, 10 s each, and half as much again.
    assert measured["ingest"]["runtime"] == 5 + 1.5 * 83.9 * 10 // 60
    assert measured["ingest"]["mem_mb"] == 10_250
    assert measured["train"] == {**unmeasured["train"], "runtime": 5}  # less memory than was reckoned changes nothing
    assert measured["sample"] == unmeasured["sample"]
    measure(facility, ingest={**slow, "jobs": 4})  # fewer jobs than can be trusted
    assert requests(facility) == unmeasured
    throughput_file(facility.folder / "results").write_text("damaged")
    assert requests(facility) == unmeasured


@pytest.mark.parametrize("name", ["../evil", "a'b", "$(touch pwned)", "<script>"])
def test_a_hostile_name_is_left_out_with_its_line(facility: Facility, name: str) -> None:
    write_sheet(facility.sheet, sheet_of(registered("good", "train")))
    text = facility.sheet.read_text().splitlines()
    facility.sheet.write_text("\n".join([*text, text[-1].replace("good", name, 1)]) + "\n")
    result = facility.dry_run()
    assert jobs_in(result) == {"ingest": 1, "train": 1}
    assert "left out: config/acquisitions.tsv, line 3: acquisition = " in result.stdout + result.stderr
    assert not (facility.folder / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sampling: {stepz: 3}", "there is no key 'sampling.stepz'"),
        ("sampling: {steps: 0}", "sampling.steps = 0 is not usable"),
        ("sampling: [", "this is not readable YAML"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(facility: Facility, text: str, sentence: str) -> None:
    write_sheet(facility.sheet, {})
    (facility.folder / "config/config.yaml").write_text(text)
    result = facility.dry_run(*LOCAL)
    assert result.returncode != 0
    assert sentence in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_an_acquisition_that_is_not_in_the_sheet_is_named(facility: Facility) -> None:
    write_sheet(facility.sheet, sheet_of(registered("a", "train")))
    result = facility.dry_run(*LOCAL, "results/b/ingest.json")
    assert result.returncode != 0
    assert "there is no registered acquisition 'b'" in result.stdout + result.stderr


def test_a_file_with_a_hostile_path_stays_out_of_the_shell(facility: Facility) -> None:
    hostile = "raw/$(touch pwned) '<script>.tif"
    facility.acquire("a", "predict", target=False, file=Path(hostile).name)
    assert facility.run("cvdm", "register").returncode == 0
    assert read_sheet(facility.sheet)["a"].input == hostile
    result = facility.dry_run("-p", "results/a/ingest.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "touch" not in (result.stdout + result.stderr).partition("Shell command:")[2]
