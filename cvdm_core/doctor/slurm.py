"""What the cluster says of itself, asked with SLURM's own commands."""

from __future__ import annotations

import getpass
import grp
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    """A partition; its longest time in minutes, None without a limit; its QOS, and the groups that it is kept for, if any."""

    name: str
    up: bool
    default: bool
    minutes: int | None
    qos: str = ""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cluster:
    """Configuration, partitions and nodes.

    `accounts` is None where nobody keeps accounts; `enforced`: whether their limits hold; `gpus_by_job`: whether it knows `--gpus`.
    """

    min_job_age_s: int
    partitions: Mapping[str, Partition]
    nodes: tuple[Node, ...]
    accounts: frozenset[str] | None
    enforced: bool = False
    name: str = ""
    gpus_by_job: bool = True


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
    # With --all also hidden partitions, which take jobs all the same, and the nodes that are in no other.
    partitions = [partition(line) for line in said("scontrol", "--all", "show", "partition", "--oneliner").splitlines() if line]
    shown = said("scontrol", "--all", "show", "node", "--oneliner").splitlines()
    nodes = tuple(node(line) for line in shown if line.startswith("NodeName="))
    name = config.get("ClusterName", "")
    accounts = None
    if not config.get("AccountingStorageType", "accounting_storage/none").endswith("/none"):
        accounts = frozenset(row["Account"] for row in table("associations", ("Account",), *own_associations(name)))
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    enforced = accounts is not None and bool(re.search(r"limits|safe|qos|all", config.get("AccountingStorageEnforce", "")))
    select = config.get("SelectType", "cons_tres") + config.get("SelectTypeParameters", "").lower()
    return Cluster(
        int(age[0]) if age else 0,
        {found.name: found for found in partitions},
        nodes,
        accounts,
        enforced,
        name,
        gpus_by_job="cons_tres" in select,
    )


def own_associations(cluster: str) -> tuple[str, ...]:
    """Return what narrows associations to this user's on a cluster: one database may keep the accounts of several."""
    return (f"user={getpass.getuser()}", *([f"cluster={cluster}"] if cluster else []))


def table(what: str, columns: Sequence[str], *which: str) -> list[dict[str, str]]:
    """Return a table of the accounting database.

    Raises
    ------
    UserError
        If it does not answer.
    """
    text = said("sacctmgr", "--noheader", "--parsable2", "show", what, *which, f"format={','.join(columns)}")
    return [dict(zip(columns, line.split("|"), strict=True)) for line in text.splitlines() if line]


def own_groups() -> set[str]:
    """Return the names of this user's groups; one without a name has none that a partition could be kept for."""
    found = set()
    for number in {os.getgid(), *os.getgroups()}:
        with suppress(KeyError):
            found.add(grp.getgrgid(number).gr_name)
    return found


def partition(line: str) -> Partition:
    """Read a line of `scontrol show partition --oneliner`."""
    values = _pairs(line)
    return Partition(
        name=values["PartitionName"],
        up=values.get("State") == "UP",
        default=values.get("Default") == "YES",
        minutes=minutes(values.get("MaxTime", "")),
        qos=values.get("QoS", "").replace("N/A", ""),
        groups=frozenset(values.get("AllowGroups", "ALL").split(",")) - {"ALL"},
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
