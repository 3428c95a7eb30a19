"""A real SLURM of one node on this machine, in namespaces of its own: nothing outside it is changed, and nothing outlives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd", "iproute2")
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core"}
"""Commands and their packages, where accounts are kept."""
COMMANDS = ("munged", "squeue", "slurmctld", "slurmd", "ip")
NAMESPACES = ("--mount", "--pid", "--net")
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")
CGROUPS = os.environ.get("CVDM_SLURM_CGROUPS") == "1"
UNSHARE = ("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc")


class NoClusterError(Exception):
    """SLURM cannot be run here; says why."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster; `first` is the process id, seen from outside, of its first process."""

    folder: Path
    first: int

    def command(self, arguments: Sequence[str | Path], cwd: Path) -> list[str]:
        """Return a command line that runs on the cluster's node."""
        # The folder by `env`, after the namespaces are entered: nsenter's own --wd would keep this machine's view of it.
        entered = ["nsenter", f"--target={self.first}", *NAMESPACES, "--", "env", f"--chdir={cwd}"]
        return [*entered, *map(str, arguments)]

    def run(
        self, *arguments: str | Path, cwd: Path = Path("/"), env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the cluster's node and return what came of it."""
        command = self.command(arguments, cwd)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    def said(self, *arguments: str) -> str:
        """Run a SLURM command that must succeed and return its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop_controller(self) -> None:
        """End slurmctld; jobs go on, and nobody answers."""
        pid = self.said("cat", f"{self.folder}/run/slurmctld.pid").strip()
        self.said("bash", "-c", f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done")

    def start_controller(self) -> None:
        """Start slurmctld again, which reads what it knew from its files, and wait until it answers."""
        self.said("bash", "-c", "slurmctld < /dev/null > /dev/null 2>&1; until scontrol ping | grep -q UP; do sleep 0.1; done")

    def stop_accounting(self) -> None:
        """End slurmdbd; slurmctld keeps for it what happens meanwhile."""
        pid = self.said("cat", f"{self.folder}/run/slurmdbd.pid").strip()
        self.said("bash", "-c", f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done")

    def start_accounting(self) -> None:
        """Start slurmdbd again, and wait until it answers."""
        start = f"MYSQL_UNIX_PORT={self.folder}/run/mariadb.socket slurmdbd < /dev/null > /dev/null 2>&1"
        self.said("bash", "-c", f"{start}; until sacctmgr -n list cluster > /dev/null 2>&1; do sleep 0.2; done")

    def submitted(self) -> int:
        """Return how many jobs were ever submitted."""
        return max((int(number) for number in self.said("squeue", "--noheader", "--states=all", "--format=%A").split()), default=0)


def install(accounting: bool = False) -> None:
    """Install the distribution's SLURM where it is missing, with what keeps accounts if they are wanted.

    Raises
    ------
    NoClusterError
        If this is not root, or the packages cannot be had.
    """
    if os.geteuid() != 0:
        raise NoClusterError("SLURM's daemons need root, and this is not root")
    further = ACCOUNTING if accounting else {}
    packages = [*PACKAGES, *further.values()]
    if all(shutil.which(command) for command in (*COMMANDS, *further)):
        return
    if not shutil.which("apt-get"):
        raise NoClusterError(f"SLURM is not installed and there is no apt-get; install {' '.join(packages)}")
    # The packages' own services must not start: a policy of 101 forbids it.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
            command = ["apt-get", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0", *arguments]
            done = subprocess.run(
                command,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            if done.returncode:
                raise NoClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")
    except subprocess.TimeoutExpired as error:
        raise NoClusterError(f"the packages of SLURM did not come within {error.timeout:.0f} s") from None
    finally:
        if ours:
            policy.unlink()


@contextmanager
def running(folder: Path, cpus: int = 2, memory_mb: int = 12_000, account: str = "", cgroups: bool = CGROUPS) -> Iterator[Cluster]:
    """Run a cluster with its files in `folder`, and end all its processes afterwards; with an `account`, accounts are kept.

    With `cgroups` the kernel holds jobs to their memory.

    Raises
    ------
    NoClusterError
        If SLURM cannot be installed, or this machine allows no namespaces, or not the cgroups that are wanted.
    """
    install(accounting=bool(account))
    if cgroups and not os.access(MEMORY_CGROUP / "cgroup.procs", os.W_OK):
        raise NoClusterError(f"{MEMORY_CGROUP} cannot be written (cgroups of version 1, as root, outside of containers)")
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=30, check=False)
    if probe.returncode:
        raise NoClusterError(f"SLURM would have to touch this machine's own /etc/slurm: {probe.stderr.strip()}")
    script = Path(__file__).with_name("cluster.sh")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "cluster.log", "wb") as log:
        command = [*UNSHARE, "bash", script, folder, str(cpus), str(memory_mb), account, "cgroups" if cgroups else "looks"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    assert process.stdin and process.stdout
    try:
        # Ends with the word, or with the script.
        word = process.stdout.readline().strip()
        if word != b"up":
            raise RuntimeError(f"the SLURM cluster did not start:\n{(folder / 'cluster.log').read_text()}")
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        yield Cluster(folder, int(first))
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # a loading process that a test has left holds the pipe open
            process.kill()
            process.wait(timeout=60)
        process.stdout.close()
        if cgroups:
            _remove_cgroups()


def _remove_cgroups() -> None:
    """Remove the empty cgroups that the node's slurmd left: they outlive its processes."""
    for top in MEMORY_CGROUP.parent.glob("*/slurm_n1"):
        for place, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # somebody works in it
                Path(place).rmdir()
