"""Limits of accounts and QOS, where the cluster keeps accounts and enforces them: a job beyond them waits for ever or is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cvdm_core.doctor.requests import Request
from cvdm_core.doctor.slurm import Cluster, minutes, own_associations, table

OF_ACCOUNTS = ("Account", "Partition", "DefaultQOS", "MaxSubmitJobs", "GrpSubmitJobs", "MaxWall", "MaxTRES")
OF_QOS = ("Name", "MaxSubmitJobsPU", "MaxSubmitJobsPA", "MaxWall", "MaxTRES", "MaxTRESPU")
MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class Limits:
    """What an account or a QOS allows.

    Parameters
    ----------
    owner
        Words that name it.
    submitted
        Jobs that one may have in the queue; None without a limit.
    minutes
        Longest time of a job; None without a limit.
    resources
        Most of a job, by SLURM's names (`cpu`, `mem` in megabytes, `gres/gpu`).
    """

    owner: str
    submitted: int | None
    minutes: int | None
    resources: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True)
class Accounting:
    """All limits that hold for this user: of an account (in a partition, or in any: ""), its default QOS, and of each QOS.

    `partition_qos` has the QOS of each partition, and of the default one under "".
    """

    accounts: Mapping[tuple[str, str], Limits]
    default_qos: Mapping[tuple[str, str], str]
    qos: Mapping[str, Limits]
    partition_qos: Mapping[str, str] = field(default_factory=dict)

    def of(self, request: Request) -> list[Limits]:
        """Return the limits that hold for a request; one without an account is taken to go to any of them."""
        found = []
        for (account, partition), limits in self.accounts.items():
            if request.account in ("", account) and partition in ("", request.partition):
                found.append(limits)
                if (name := request.qos or self.default_qos[account, partition]) in self.qos:
                    found.append(self.qos[name])
        if (name := self.partition_qos.get(request.partition, "")) in self.qos:
            found.append(replace(self.qos[name], owner=f"the QOS {name} of the partition"))
        return list(dict.fromkeys(found))


def ask_limits(cluster: Cluster) -> Accounting:
    """Ask the accounting database of a cluster.

    Raises
    ------
    UserError
        If it does not answer.
    """
    partitions = cluster.partitions.values()
    partition_qos = {each.name: each.qos for each in partitions}
    partition_qos[""] = next((each.qos for each in partitions if each.default), "")
    return accounting(table("associations", OF_ACCOUNTS, *own_associations(cluster.name)), table("qos", OF_QOS), partition_qos)


def accounting(
    associations: Sequence[Mapping[str, str]], qos: Sequence[Mapping[str, str]], partition_qos: Mapping[str, str] | None = None
) -> Accounting:
    """Make sense of the rows of `sacctmgr`."""
    accounts = {(row["Account"], row["Partition"]): _limits(f"the account {row['Account']}", row, OF_ACCOUNTS) for row in associations}
    defaults = {(row["Account"], row["Partition"]): row["DefaultQOS"] or "normal" for row in associations}
    return Accounting(accounts, defaults, {row["Name"]: _limits(f"the QOS {row['Name']}", row, OF_QOS) for row in qos}, partition_qos or {})


def _limits(owner: str, row: Mapping[str, str], columns: Sequence[str]) -> Limits:
    counts = [int(row[name]) for name in columns if "Submit" in name and row[name].isdigit()]
    resources: dict[str, float] = {}
    for name in columns:
        if "TRES" in name:
            for key, value in _resources(row[name]).items():
                resources[key] = min(value, resources.get(key, value))
    return Limits(owner, min(counts, default=None), minutes(row["MaxWall"]), resources)


def _resources(text: str) -> dict[str, float]:
    """Read `cpu=8,mem=64G,gres/gpu=2,gres/gpu:h200=1`; memory in megabytes."""
    found = re.findall(r"([\w/:.-]+)=(\d+(?:\.\d+)?)([KMGT]?)", text)
    return {key: float(number) * (MEGABYTES[unit or "M"] if key == "mem" else 1) for key, number, unit in found}


def beyond(request: Request, limits: Limits) -> Iterator[str]:
    """Say what of a request is more than the limits allow, and under which key of the profile it stands."""
    if limits.minutes is not None and request.minutes > limits.minutes:
        yield f"{request.minutes} min are more than the {limits.minutes} of {limits.owner} (runtime)"
    asked = {"cpu": (request.threads, "threads"), "mem": (request.mem_mb, "mem_mb"), "gres/gpu": (request.gpus, "gpu")}
    asked[f"gres/gpu:{request.gpu_model}"] = (request.gpus, "gpu")
    for name, (amount, key) in asked.items():
        if name in limits.resources and amount > limits.resources[name]:
            yield f"{name}={amount} is more than the {limits.resources[name]:.0f} of {limits.owner} ({key})"
