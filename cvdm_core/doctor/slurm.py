"""What the cluster says of itself, asked with SLURM's own commands."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from cvdm_core.cluster.commands import said

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
USABLE = {"IDLE", "MIXED", "ALLOCATED", "COMPLETING", "RESERVED"}
OUT = {"DRAIN", "FAIL", "MAINT", "NOT_RESPONDING"}


@dataclass(frozen=True)
class Node:
    """A node; memory in megabytes; `gpus` counts by model, with the model "" where SLURM names none."""

    name: str
    state: str
    partitions: tuple[str, ...]
    cpus: int
    mem_mb: int
    gpus: Mapping[str, int]
    features: frozenset[str]

    @property
    def usable(self) -> bool:
        """Whether it takes jobs, now or when it is free."""
        base, *flags = self.state.split("+")
        return base in USABLE and not OUT.intersection(flags)

    def gpus_of(self, model: str) -> int:
        """Return how many GPUs of a model there are; of any where `model` is empty."""
        return self.gpus.get(model, 0) if model else sum(self.gpus.values())


@dataclass(frozen=True)
class Partition:
    """A partition; its longest time in minutes, None without a limit."""

    name: str
    up: bool
    default: bool
    minutes: int | None


@dataclass(frozen=True)
class Cluster:
    """Configuration, partitions and nodes; `accounts` is None where nobody keeps accounts; `enforced`: whether their limits hold."""

    min_job_age_s: int
    partitions: Mapping[str, Partition]
    nodes: tuple[Node, ...]
    accounts: frozenset[str] | None
    enforced: bool = False


def missing_commands() -> list[str]:
    """Return SLURM's commands that are not on the PATH."""
    return [command for command in COMMANDS if not shutil.which(command)]


def ask() -> Cluster:
    """Ask the cluster.

    Raises
    ------
    UserError
        If it does not answer.
    """
    config = dict(re.findall(r"^(\w+) *= (.*)$", said("scontrol", "show", "config"), re.MULTILINE))
    partitions = [partition(line) for line in said("scontrol", "show", "partition", "--oneliner").splitlines() if line]
    nodes = tuple(node(line) for line in said("scontrol", "show", "node", "--oneliner").splitlines() if line.startswith("NodeName="))
    accounts = None
    if not config.get("AccountingStorageType", "accounting_storage/none").endswith("/none"):
        asked = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}", "format=account")
        accounts = frozenset(said(*asked).split())
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    enforced = accounts is not None and bool(re.search(r"limits|safe|qos|all", config.get("AccountingStorageEnforce", "")))
    return Cluster(int(age[0]) if age else 0, {found.name: found for found in partitions}, nodes, accounts, enforced)


def partition(line: str) -> Partition:
    """Read a line of `scontrol show partition --oneliner`."""
    values = _pairs(line)
    return Partition(
        values["PartitionName"], values.get("State") == "UP", values.get("Default") == "YES", minutes(values.get("MaxTime", ""))
    )


def node(line: str) -> Node:
    """Read a line of `scontrol show node --oneliner`."""
    values = _pairs(line)
    gpus: dict[str, int] = {}
    for model, count in re.findall(r"(?:^|,)gpu(?::([^:,(]+))??(?::(\d+))?(?=[,(]|$)", values.get("Gres", "")):
        gpus[model] = gpus.get(model, 0) + int(count or 1)
    return Node(
        name=values["NodeName"],
        state=values.get("State", "UNKNOWN"),
        partitions=tuple(values.get("Partitions", "").split(",")),
        cpus=int(values.get("CPUTot", 0)),
        mem_mb=int(values.get("RealMemory", 0)),
        gpus=gpus,
        features=frozenset(values.get("ActiveFeatures", "").split(",")),
    )


def _pairs(line: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S*)", line))


def minutes(text: str) -> int | None:
    """Turn a time of SLURM (`1-00:00:00`, `12:00:00`, `30:00`, `UNLIMITED`) into minutes; None is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, mins, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + mins
