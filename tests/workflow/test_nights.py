"""`cvdm night` and `snakemake nightly` with a real Snakemake: what arrives is restored once, in order, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from facility import BIN, ROOT, TINY, Facility

from cvdm_core.config import merge
from cvdm_core.records.nights import read_nights
from cvdm_core.records.throughput import Pace, as_json
from cvdm_core.sheet import read_sheet, write_sheet

NIGHT = ("night", "--profile", "profiles/local")


@pytest.fixture
def lab(finished: Facility, tmp_path: Path) -> Facility:
    """The finished facility with an inbox, as its users have it: the workflow's files in the working directory."""
    copy = finished.copy(tmp_path / "lab")
    for name in ("Snakefile", "workflow", "profiles"):
        (copy.folder / name).symlink_to(ROOT / name)
    (copy.folder / "inbox").mkdir()
    inbox = {"inbox": {"folder": "inbox", "quiet_minutes": 0.001}}
    (copy.folder / "config/config.yaml").write_text(yaml.safe_dump(merge(TINY, inbox)))
    return copy


def arrive(lab: Facility, *names: str) -> None:
    """Let acquisitions arrive and be quiet."""
    for name in names:
        shutil.copy(lab.folder / "raw/new.tif", lab.folder / f"inbox/{name}.tif")
    looked = lab.run("cvdm", "register", "--inbox", "inbox")
    assert looked.returncode == 0 and f"{len(names)} arriving" in looked.stdout, looked.stdout + looked.stderr
    time.sleep(0.1)


def states(lab: Facility) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (lab.folder / "config/acquisitions.inbox.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found.setdefault(entry["name"], []).append(entry["state"])
    return found


def images(lab: Facility, *names: str) -> dict[str, int]:
    """Return when each file of restored images was written."""
    folders = [lab.folder / f"results/{name}/tiny/restored.ome.zarr" for name in names]
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_a_night_restores_what_fits_and_the_next_ones_the_rest_then_nothing(lab: Facility) -> None:
    arrive(lab, "one", "two")
    # A block takes 2,500 s, two run side by side: one acquisition fits into 0.9 of an hour, two do not.
    pace = {"": {"a device": Pace(9, 10.0, 0.0)}}
    measured = dict.fromkeys(("ingest", "stitch", "evaluate", "report"), pace) | {"sample": {"tiny": {"a device": Pace(9, 2500.0, 0.0)}}}
    throughput = lab.folder / "results/throughput.json"
    throughput.write_text(json.dumps({"paces": as_json(measured), "read_until": 0.0, "jobs": []}))
    by = time.strftime("%H:%M", time.localtime(time.time() + 3660))

    first = lab.run("cvdm", *NIGHT, "--by", by)

    assert first.returncode == 0, first.stdout + first.stderr
    night = read_nights(lab.folder / "results", 1)[0]
    assert (night.registered, night.restored, list(night.deferred)) == (("one", "two"), ("one",), ["two"])
    assert "two: it did not fit before" in first.stdout and "1 of 2 acquisitions" in first.stdout
    assert states(lab)["one"][-3:] == ["ingested", "restored", "reported"] and states(lab)["two"][-1] == "registered"
    index = (lab.folder / "results/index.html").read_text()
    assert "1 deferred by the latest night" in index and "it did not fit before" in index
    assert not (lab.folder / "results/two").exists()

    # What was deferred runs next; this time the night is killed while the workflow runs, which goes on and ends by itself.
    process = subprocess.Popen([BIN / "cvdm", *NIGHT], cwd=lab.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lab.folder / "results/two/ingest.json")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lab.folder / "results/two/tiny/report.json")
    wait_for_end_of_snakemake(lab)
    before = images(lab, "one", "two", "new")

    third = lab.run("cvdm", *NIGHT)

    assert third.returncode == 1, third.stdout + third.stderr
    assert "was killed; it was about to run the workflow" in third.stdout and "nothing to restore" in third.stdout
    assert states(lab)["two"].count("reported") == 1 and states(lab)["two"][-1] == "reported"
    assert lab.run("cvdm", *NIGHT).returncode == 0
    assert images(lab, "one", "two", "new") == before
    assert [len(night.restored) for night in read_nights(lab.folder / "results", 9)] == [0, 0, 1]


def wait_for(path: Path, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come within {seconds} s"
        time.sleep(0.1)


def wait_for_end_of_snakemake(lab: Facility) -> None:
    """Wait until no process works in the lab's folder."""
    until = time.monotonic() + 120

    def inside(process: Path) -> bool:
        try:
            return (process / "cwd").resolve() == lab.folder.resolve()
        except OSError:
            return False

    while any(inside(process) for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_snakemake_nightly_registers_what_arrived_but_a_dry_run_does_not(lab: Facility) -> None:
    arrive(lab, "one")
    assert "one" not in lab.planned("nightly") and "one" not in read_sheet(lab.sheet)
    done = lab.snakemake("nightly", "--until", "ingest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one" in read_sheet(lab.sheet) and (lab.folder / "results/one/ingest.json").is_file()
    # The jobs read the same Snakefile, and only the driver registers.
    assert states(lab)["one"] == ["arriving", "complete", "registered"]


def test_the_most_urgent_is_started_first_then_the_oldest(facility: Facility) -> None:
    for name in ("old", "newer", "newest"):
        facility.acquire(name, "predict", target=False)
    assert facility.run("cvdm", "register").returncode == 0
    rows = read_sheet(facility.sheet)
    write_sheet(facility.sheet, {**rows, "newest": rows["newest"].model_copy(update={"urgent": 3})})
    done = facility.snakemake("ingest_all", "--cores", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    written = {name: (facility.folder / f"results/{name}/ingest.json").stat().st_mtime_ns for name in rows}
    assert sorted(written, key=written.__getitem__) == ["newest", "old", "newer"]


def test_the_line_of_the_crontab_runs_as_cron_runs_it(lab: Facility) -> None:
    lines = (ROOT / "profiles/schedules/crontab").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line[:1].isupper())
    commands = [line.split(maxsplit=5)[5] for line in lines if line[:1] in "0*"]
    assert len(commands) == 2 and not any("%" in command for command in commands)  # cron makes it a new line
    (lab.folder / ".env").symlink_to(BIN.parent)
    # As cron: no HOME that can be used, no more than the crontab's own variables, another working directory. (PYTHONPATH only where the
    # package under test is not the one that is installed.)
    environment = {"PATH": settings["PATH"], **{key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}}
    for command in commands:
        places = {
            "/srv/cvdm": str(lab.folder),
            "/data/inbox": "inbox",
            "mine.yaml": "config.yaml",
            "--profile slurm": "--profile profiles/local",
        }
        for ours, theirs in places.items():
            command = command.replace(ours, theirs)
        done = subprocess.run(
            [settings["SHELL"], "-c", command], cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        said = "".join(path.read_text() for path in sorted((lab.folder / "logs").glob("*.txt")))
        assert done.returncode == 0, done.stdout + done.stderr + said
    assert "inbox: nothing." in said and "nothing to restore." in said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="LEFT OUT: there is no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    schedules = ROOT / "profiles/schedules"
    for unit in ("cvdm-night.service", "cvdm-night.timer"):
        text = (schedules / unit).read_text().replace("/srv/cvdm/.env/bin/cvdm", "/bin/true").replace("/srv/cvdm", "/tmp")
        (tmp_path / unit).write_text(text.replace("User=cvdm", "User=root"))
    units = [str(tmp_path / unit) for unit in ("cvdm-night.service", "cvdm-night.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "cvdm-night" not in done.stderr, done.stdout + done.stderr
    when = (schedules / "cvdm-night.timer").read_text().partition("OnCalendar=")[2].partition("\n")[0]
    told = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, timeout=60, check=True)
    assert "20:00:00" in told.stdout
