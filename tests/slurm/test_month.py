"""A month of nights on a real SLURM: nothing is lost, nothing is done twice at a time, and every failure is named.

Hours on two cores; `CVDM_MONTH_NIGHTS` and `CVDM_MONTH_ACQUISITIONS` make it shorter. With `CVDM_MONTH_FOLDER` everything is kept in that
folder, and a month that was cut off, with its whole cluster, goes on there. What was seen stands in build/month.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cluster import NoClusterError, running
from facility import ROOT, Facility
from month import DAMAGED_SHARE, LIVE, Diary, Kind, Troubles, acquire, overlaps
from site_tree import Site

from cvdm_core.records.nights import read_nights
from cvdm_core.sheet import read_sheet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(24 * 3600)]

NIGHTS = int(os.environ.get("CVDM_MONTH_NIGHTS", "30"))
EACH = int(os.environ.get("CVDM_MONTH_ACQUISITIONS", "40"))
NIGHT = "cvdm night --profile slurm"
DAMAGES: tuple[Kind, Kind] = ("cut", "rotten")
JOBS_AT_ONCE = 4  # more than cores: a job of a few seconds waits for a third of them
CALM_NIGHTS = 3  # after the last trouble everything must be done within these


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A site on a cluster of its own, as it was left, or fresh."""
    folder = Path(os.environ.get("CVDM_MONTH_FOLDER", tmp_path))
    try:
        with running(folder / "cluster", cpus=JOBS_AT_ONCE) as cluster:
            ready = (folder / "diary.json").exists()
            yield Site(Facility(folder / "site"), cluster) if ready else settled(Site.fresh(folder / "site", cluster))
    except NoClusterError as error:
        pytest.skip(f"LEFT OUT, nothing was tried on a SLURM: {error}")


def settled(site: Site) -> Site:
    """Set up a site without GPUs, with an inbox, and looked at often because its jobs are short."""
    site.facility.configure(inbox={"folder": "inbox", "quiet_minutes": 0.001}, sampling={"shards_per_job": 100})
    (site.folder / "inbox").mkdir()
    profile = site.folder / "profiles/slurm/config.yaml"
    text = re.sub(r"^    gpu: 1\b", "    gpu: 0", profile.read_text(), flags=re.MULTILINE).replace("status-checks: 20", "status-checks: 5")
    profile.write_text(text + "set-threads: {train: 2, sample: 1}\n")
    site.facility.acquire("pair", "train")
    site.facility.acquire("checked", "val")
    registered = site.typed("cvdm register")
    assert registered.returncode == 0, registered.stderr
    return site


def ledger(lab: Site) -> dict[str, str]:
    """Return the last state of each acquisition that arrived."""
    lines = (lab.folder / "config/acquisitions.inbox.jsonl").read_text().splitlines()
    return {entry["name"]: entry["state"] for entry in map(json.loads, lines)}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def sleep_through(lab: Site, diary: Diary, troubled: bool = True) -> None:
    """Live through a night to its end, and keep what was seen of it in the diary and in build/month.json."""
    diary.begun += 1
    diary.save()
    began = time.monotonic()
    lab.typed("cvdm register --inbox inbox")  # the first of the two looks between which an acquisition is quiet
    time.sleep(0.2)
    troubles = Troubles(lab, np.random.default_rng(diary.begun), mean_seconds=60) if troubled else None
    try:
        diary.statuses.append(lab.started(NIGHT).wait(timeout=7200))
    finally:
        if troubles:
            troubles.end()
            diary.caused += troubles.caused
    diary.hours += (time.monotonic() - began) / 3600
    diary.pages += (lab.folder / "results/index.html").read_text()
    diary.save()
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/month.json").write_text(json.dumps(summary(lab, diary), indent=1) + "\n")


def summary(lab: Site, diary: Diary) -> dict[str, object]:
    states = Counter(state for state, _ in lab.jobs().values())
    return {
        "nights": len(diary.statuses),
        "nights cut off": diary.begun - len(diary.statuses),
        "acquisitions": len(diary.kinds),
        "damaged": dict(Counter(kind for kind in diary.kinds.values() if kind != "good")),
        "troubles": dict(Counter(name for name, _ in diary.caused)),
        "jobs": states.total(),
        "jobs by state": dict(states),
        "nights by exit status": dict(Counter(diary.statuses)),
        "states at the end": dict(Counter(ledger(lab).values())),
        "hours": round(diary.hours, 2),
    }


def arrive(lab: Site, night: int, diary: Diary) -> None:
    """Let the acquisitions of a night arrive that have not."""
    for number in range(EACH):
        name = f"n{night:02}_{number:02}"
        if name in diary.kinds:
            continue
        generator = np.random.default_rng((2026, night, number))
        # The two kinds in turn: a file that says so itself, and one that looks well until it is decoded.
        damaged = generator.random() < DAMAGED_SHARE or (night, number) in ((0, 0), (NIGHTS - 1, EACH - 1))
        turn = sum(kind != "good" for kind in diary.kinds.values()) % 2
        diary.kinds[name] = DAMAGES[turn] if damaged else "good"
        acquire(lab.folder / f"inbox/{name}.ome.tif", generator, diary.kinds[name])


def test_a_month_of_nights_loses_nothing_and_names_every_failure(lab: Site) -> None:
    diary = Diary.opened(lab.folder.parent / "diary.json")
    while len(diary.statuses) < NIGHTS:
        arrive(lab, len(diary.statuses), diary)
        sleep_through(lab, diary)
        assert not overlaps(lab)

    raw = hashes(lab.folder / "inbox")
    good = {name for name, kind in diary.kinds.items() if kind == "good"}
    for _ in range(CALM_NIGHTS):
        if all(ledger(lab)[name] == "reported" for name in good):
            break
        sleep_through(lab, diary, troubled=False)

    states = lab.jobs()
    # Nothing is lost: every good acquisition has its report, and every file is as its receipt says; the raw files are as they were.
    assert {name: ledger(lab)[name] for name in good} == dict.fromkeys(good, "reported"), summary(lab, diary)
    for name in good:
        assert (lab.folder / f"results/{name}/tiny/report.json").is_file()
    verified = lab.typed("cvdm verify", timeout=3600)
    assert verified.returncode == 0, verified.stdout
    assert raw == hashes(lab.folder / "inbox")
    # Nothing is done twice at a time, and nothing is left behind.
    assert not overlaps(lab)
    assert not [job for job, (state, _) in lab.jobs().items() if state in LIVE]
    assert not list((lab.folder / "results/.running").glob("*"))
    assert not list((lab.folder / "results").rglob("*.partial*"))
    # Every failure is named: what is damaged in the ledger and on the page, what was killed with its job's number on a page.
    said = (lab.folder / "results/index.html").read_text() + lab.driver_said()
    for name, kind in diary.kinds.items():
        if kind != "good":
            assert ledger(lab)[name] == "failed", (name, kind)
            assert name in said, (name, kind)
            assert (name in read_sheet(lab.facility.sheet)) == (kind == "rotten")
    # Of what is damaged the page says that, and not how an earlier attempt ended.
    hit = [job for name, job in diary.caused if name in ("scancel", "kill") and any(acquisition in states[job][1] for acquisition in good)]
    ended_badly = {job for job in hit if states[job][0] in ("CANCELLED", "FAILED")}
    assert not {job for job in ended_badly if f"job {job}" not in diary.pages}
    # A night that was cut off may have been recorded, or not.
    assert len(diary.statuses) <= len(read_nights(lab.folder / "results", 1000)) <= diary.begun
    # A last night has nothing to do.
    before = len(lab.jobs())
    sleep_through(lab, diary, troubled=False)
    assert len(lab.jobs()) == before
