"""A month of nights on a real SLURM: nothing is lost, nothing is done twice at a time, and every failure is named.

Hours on two cores; `CVDM_MONTH_NIGHTS` and `CVDM_MONTH_ACQUISITIONS` make it shorter. What was seen stands in build/month.json.
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
from facility import ROOT
from month import DAMAGED_SHARE, LIVE, Kind, Troubles, acquire, overlaps
from site_tree import Site

from cvdm_core.records.nights import read_nights
from cvdm_core.sheet import read_sheet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(24 * 3600)]

NIGHTS = int(os.environ.get("CVDM_MONTH_NIGHTS", "30"))
EACH = int(os.environ.get("CVDM_MONTH_ACQUISITIONS", "40"))
NIGHT = "cvdm night --profile slurm"
CALM_NIGHTS = 3  # after the last trouble everything must be done within these


@pytest.fixture
def lab(site: Site) -> Iterator[Site]:
    """A site without GPUs, with an inbox, on a cluster that forgets no job and is looked at often because its jobs are short."""
    site.facility.configure(inbox={"folder": "inbox", "quiet_minutes": 0.001}, sampling={"shards_per_job": 100})
    (site.folder / "inbox").mkdir()
    profile = site.folder / "profiles/slurm/config.yaml"
    text = re.sub(r"^    gpu: 1\b", "    gpu: 0", profile.read_text(), flags=re.MULTILINE).replace("status-checks: 20", "status-checks: 5")
    profile.write_text(text + "set-threads: {train: 2, sample: 1}\n")
    settings = site.cluster.folder / "etc/slurm.conf"
    before = settings.read_text()
    settings.write_text(before.replace("MinJobAge=600", "MinJobAge=200000"))
    site.cluster.said("scontrol", "reconfigure")
    yield site
    settings.write_text(before)
    site.cluster.said("scontrol", "reconfigure")


def ledger(lab: Site) -> dict[str, str]:
    """Return the last state of each acquisition that arrived."""
    lines = (lab.folder / "config/acquisitions.inbox.jsonl").read_text().splitlines()
    return {entry["name"]: entry["state"] for entry in map(json.loads, lines)}


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def sleep_through(lab: Site) -> int:
    """Run a night to its end, and return its exit status."""
    lab.typed("cvdm register --inbox inbox")  # the first of the two looks between which an acquisition is quiet
    time.sleep(0.2)
    driver = lab.started(NIGHT)
    return driver.wait(timeout=7200)


def tell(lab: Site, kinds: dict[str, Kind], caused: list[tuple[str, int]], statuses: list[int], began: float) -> dict[str, object]:
    """Write what was seen so far to build/month.json, after each night, and return it."""
    states = Counter(state for state, _ in lab.jobs().values())
    summary: dict[str, object] = {
        "nights": len(statuses),
        "acquisitions": len(kinds),
        "damaged": dict(Counter(kind for kind in kinds.values() if kind != "good")),
        "troubles": dict(Counter(name for name, _ in caused)),
        "jobs": states.total(),
        "jobs by state": dict(states),
        "nights by exit status": dict(Counter(statuses)),
        "states at the end": dict(Counter(ledger(lab).values())),
        "hours": round((time.monotonic() - began) / 3600, 2),
    }
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/month.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def test_a_month_of_nights_loses_nothing_and_names_every_failure(lab: Site) -> None:
    generator = np.random.default_rng(2026)
    lab.facility.acquire("pair", "train")
    lab.facility.acquire("checked", "val")
    kinds: dict[str, Kind] = {}
    statuses: list[int] = []
    caused: list[tuple[str, int]] = []
    pages = ""
    index = lab.folder / "results/index.html"
    assert lab.typed("cvdm register").returncode == 0
    began = time.monotonic()

    for night in range(NIGHTS):
        for number in range(EACH):
            name = f"n{night:02}_{number:02}"
            # The two kinds in turn: a file that says so itself, and one that looks well until it is decoded.
            damaged = generator.random() < DAMAGED_SHARE or (night, number) in ((0, 0), (NIGHTS - 1, EACH - 1))
            kinds[name] = (("cut", "rotten")[sum(kind != "good" for kind in kinds.values()) % 2]) if damaged else "good"  # type: ignore[assignment]
            acquire(lab.folder / f"inbox/{name}.ome.tif", generator, kinds[name])
        troubles = Troubles(lab, np.random.default_rng(night), mean_seconds=60)
        try:
            statuses.append(sleep_through(lab))
        finally:
            troubles.end()
        caused += troubles.caused
        pages += index.read_text()
        tell(lab, kinds, caused, statuses, began)
        assert not overlaps(lab)

    raw = hashes(lab.folder / "inbox")
    good = {name for name, kind in kinds.items() if kind == "good"}
    for _ in range(CALM_NIGHTS):
        if all(ledger(lab)[name] == "reported" for name in good):
            break
        statuses.append(sleep_through(lab))
        pages += index.read_text()

    states = lab.jobs()
    summary = tell(lab, kinds, caused, statuses, began)

    # Nothing is lost: every good acquisition has its report, and every file is as its receipt says; the raw files are as they were.
    assert {name: ledger(lab)[name] for name in good} == dict.fromkeys(good, "reported"), summary
    for name in good:
        assert (lab.folder / f"results/{name}/tiny/report.json").is_file()
    verified = lab.typed("cvdm verify", timeout=1200)
    assert verified.returncode == 0, verified.stdout
    assert raw == hashes(lab.folder / "inbox")
    # Nothing is done twice at a time, and nothing is left behind.
    assert not overlaps(lab)
    assert not [job for job, (state, _) in lab.jobs().items() if state in LIVE]
    assert not list((lab.folder / "results/.running").glob("*"))
    assert not list((lab.folder / "results").rglob("*.partial*"))
    # Every failure is named: what is damaged in the ledger and on the page, what was killed with its job's number on a page.
    for name, kind in kinds.items():
        if kind != "good":
            assert ledger(lab)[name] == "failed", (name, kind)
            assert name in index.read_text() or name in (lab.folder / "driver.log").read_text(), (name, kind)
            assert (name in read_sheet(lab.facility.sheet)) == (kind == "rotten")
    # Of what is damaged the page says that, and not how an earlier attempt ended.
    hit = [job for name, job in caused if name in ("scancel", "kill") and any(acquisition in states[job][1] for acquisition in good)]
    ended_badly = {job for job in hit if states[job][0] in ("CANCELLED", "FAILED")}
    assert not {job for job in ended_badly if f"job {job}" not in pages}
    assert len(read_nights(lab.folder / "results", 1000)) == len(statuses)
    # A last night has nothing to do.
    before = len(lab.jobs())
    sleep_through(lab)
    assert len(lab.jobs()) == before
