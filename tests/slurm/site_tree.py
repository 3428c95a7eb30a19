"""A fresh copy of the tree on a cluster, in which commands run as a user types them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster
from facility import BIN, ROOT, Facility

from cvdm_core.records.receipts import read_json

PARTS = ("Snakefile", "config", "cvdm_core", "profiles", "slurm", "workflow")


@dataclass(frozen=True)
class Site:
    """The copy's folder as a facility, and the cluster on which its commands run."""

    facility: Facility
    cluster: Cluster

    @classmethod
    def fresh(cls, folder: Path, cluster: Cluster) -> Site:
        """Copy what is in the tree, with the tiny configuration of the tests."""
        folder.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir() and not (ROOT / part).is_symlink():
                shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.tsv"))
            else:
                shutil.copy2(ROOT / part, folder / part, follow_symlinks=False)
        facility = Facility(folder)
        facility.configure()
        return cls(facility, cluster)

    @property
    def folder(self) -> Path:
        return self.facility.folder

    @property
    def environment(self) -> dict[str, str]:
        # The package of the copy, as after `make env` in it, with nothing of this machine's own settings and an empty home.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SNAKEMAKE", "XDG"))}
        (self.folder / ".home").mkdir(exist_ok=True)
        own = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(self.folder), "HOME": str(self.folder / ".home")}
        return {**kept, **own, "OMP_NUM_THREADS": "1"}

    def typed(self, line: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """Run a command line in the copy's folder."""
        return self.cluster.run(*shlex.split(line), cwd=self.folder, env=self.environment, timeout=timeout)

    def started(self, line: str) -> subprocess.Popen[bytes]:
        """Start a command line in the copy's folder; what it says goes to driver.log there."""
        command = self.cluster.command(shlex.split(line), self.folder)
        with open(self.folder / "driver.log", "wb") as log:
            return subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def is_as_undisturbed(self, name: str) -> bool:
        """Whether the stores of an ingested acquisition are, byte for byte, those of an ingest that nobody disturbs."""
        done = self.typed(f"cvdm ingest --acquisition {name} --set results=undisturbed")
        assert done.returncode == 0, done.stderr
        found = [read_json(self.folder / place / name / "ingest.json")["wrote"] for place in ("results", "undisturbed")]
        stores = [{Path(path).name: checksums for path, checksums in wrote.items()} for wrote in found]
        return len(stores[0]) > 1 and stores[0] == stores[1]

    def kill_driver(self) -> None:
        """End the driver that was started last, as a power cut would; its jobs are not told."""
        # By its folder: the process that `started` returned is only the one that entered the cluster's namespaces.
        find = f"for p in $(pgrep -f 'bin/snakemake --profile'); do [ $(readlink /proc/$p/cwd) != {self.folder} ] || echo $p; done"
        pids = self.cluster.said("bash", "-c", find).split()
        # The jobs' own processes run there too, as `python -m snakemake`.
        assert pids, "no driver runs"
        self.cluster.said("kill", "-KILL", *pids)

    def times(self) -> dict[int, tuple[str, str]]:
        """Return start and end of this folder's jobs that have started, in ISO 8601, by job id."""
        listed = self.cluster.said("squeue", "--noheader", "--states=all", "--format=%A|%S|%e|%Z").splitlines()
        rows = [line.split("|", 3) for line in listed]
        return {int(job): (begin, end) for job, begin, end, folder in rows if folder == str(self.folder) and begin != "N/A"}

    def driver_said(self) -> str:
        """Return what the driver that was started last has said so far."""
        return (self.folder / "driver.log").read_text()

    def jobs(self) -> dict[int, tuple[str, str]]:
        """Return the state and the comment of this folder's jobs, finished ones too, by job id."""
        listed = self.cluster.said("squeue", "--noheader", "--states=all", "--format=%A|%T|%Z|%k")
        rows = [line.split("|", 3) for line in listed.splitlines()]
        return {int(number): (state, comment) for number, state, folder, comment in rows if folder == str(self.folder)}

    def kill_job(self, job: int) -> None:
        """End a job's own processes, as the kernel does when the node runs out of memory."""
        self.cluster.said("bash", "-c", f"kill -KILL $(scontrol listpids {job} | awk 'NR > 1 && $1 > 1 {{print $1}}')")

    def wait_for_job(self, wanted: Callable[[int, str, str], bool], seconds: float = 90) -> int:
        """Return the first job whose id, state and comment are wanted, as soon as there is one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for number, (state, comment) in self.jobs().items():
                if wanted(number, state, comment):
                    return number
            time.sleep(0.2)
        raise AssertionError(f"no such job within {seconds} s: {self.jobs()}")

    def wait_for_lines(self, file: str, count: int, seconds: float = 120) -> None:
        """Wait until a file of the copy has so many lines."""
        until = time.monotonic() + seconds
        path = self.folder / file
        while not path.exists() or path.read_text().count("\n") < count:
            assert time.monotonic() < until, f"{file} has no {count} lines within {seconds} s"
            time.sleep(0.1)


def acquired(site: Site, **splits: str) -> None:
    """Write and register an acquisition for each name, with targets for those that are trained or tested on."""
    for name, split in splits.items():
        site.facility.acquire(name, split, target=split != "predict")
    registered = site.typed("cvdm register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
