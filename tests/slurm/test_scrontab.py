"""The lines for SLURM's own cron, run by it. Debian leaves the command out: it builds from SLURM's source (`make -C src/scrontab`)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest
from facility import BIN, ROOT
from site_tree import Site
from test_nights_on_cluster import write_site_lines

from cvdm_core.records.nights import read_nights


@pytest.fixture
def cron(site: Site) -> Iterator[Site]:
    if not shutil.which("scrontab"):
        pytest.skip("LEFT OUT: there is no `scrontab`, which Debian's packages leave out")
    settings = site.cluster.folder / "etc/slurm.conf"
    before = settings.read_text()

    def restart(text: str) -> None:
        settings.write_text(text)
        site.cluster.stop_controller()
        site.cluster.start_controller()

    restart(before + "ScronParameters=enable\n")
    yield site
    site.typed("scrontab -r")
    restart(before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_lines_of_the_scrontab_run_a_night_and_wait_for_the_next_one(cron: Site) -> None:
    write_site_lines(cron, **{"set-threads": {"train": 1, "sample": 1}})  # the driver is a job itself, and has one of the two CPUs
    for name, split in {"pair": "train", "checked": "val", "new": "predict"}.items():
        cron.facility.acquire(name, split, target=split != "predict")
    assert cron.typed("cvdm register").returncode == 0
    (cron.folder / ".env").symlink_to(BIN.parent)
    (cron.folder / "logs").mkdir(exist_ok=True)
    soon = time.localtime(time.time() + 70)
    lines = (ROOT / "profiles/schedules/scrontab").read_text().replace("/srv/cvdm", str(cron.folder)).replace("mine.yaml", "config.yaml")
    assert "\n0 20 * * *" in lines
    (cron.folder / "lines").write_text(lines.replace("\n0 20 * * *", f"\n{soon.tm_min} {soon.tm_hour} * * *"))
    taken = cron.typed("scrontab lines")
    assert taken.returncode == 0, taken.stderr

    until = time.monotonic() + 1500
    while not read_nights(cron.folder / "results", 1) and time.monotonic() < until:
        time.sleep(2)

    (night,) = read_nights(cron.folder / "results", 9)
    assert (night.status, night.restored) == (0, ("new",)), (cron.folder / "logs/night.txt").read_text()
    assert "1 restored" in (cron.folder / "logs/night.txt").read_text()
    assert {state for state, _ in cron.jobs().values()} == {"COMPLETED"}
    while (waiting := cron.cluster.said("squeue", "--noheader", "--states=PENDING", "--format=%j|%r").strip()) != "cvdm-night|BeginTime":
        assert time.monotonic() < until, waiting
        time.sleep(1)
