"""What the doctor asks a cluster for, and its verdict. A function answers in the words of SLURM's commands."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cvdm_core.doctor import slurm
from cvdm_core.doctor.checks import check_limits, check_request, check_way_of_gpus
from cvdm_core.doctor.limits import ask_limits
from cvdm_core.doctor.requests import Profile, Request, parse_plan
from cvdm_core.doctor.slurm import Cluster

PROFILE = Profile(Path("slurm/config.yaml"), "squeue", 20, retries=0, jobs=10)
SETTINGS = {
    "AccountingStorageEnforce": "associations,limits,qos",
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "ClusterName": "here",
    "MinJobAge": "300 sec",
    "SelectType": "select/cons_tres",
}
OPEN = "PartitionName=cpu AllowGroups=ALL Default=YES QoS=N/A MaxTime=1-00:00:00 State=UP"
HIDDEN = "PartitionName=gpu AllowGroups=ALL Default=NO QoS=night Hidden=YES MaxTime=1-00:00:00 State=UP"
NODES = {
    OPEN: "NodeName=n1 CPUTot=8 Gres=(null) RealMemory=64000 State=IDLE Partitions=cpu",
    HIDDEN: "NodeName=n2 CPUTot=8 Gres=gpu:4 RealMemory=64000 State=IDLE Partitions=gpu",
}
LAB_HERE = {"Cluster": "here", "Account": "lab", "MaxSubmitJobs": "100"}
LAB_THERE = {"Cluster": "there", "Account": "lab", "MaxWall": "00:01:00"}
ABROAD = {"Cluster": "there", "Account": "abroad"}
QOS = {"normal": {}, "night": {"MaxWall": "00:30:00", "MaxTRESPU": "gres/gpu=1"}}

Ask = Callable[..., Cluster]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks a cluster: of the settings above with changes, and with an open partition."""

    def ask(opened: str = OPEN, **changes: str) -> Cluster:
        def said(*command: str) -> str:
            if "config" in command:
                return "\n".join(f"{key:<23} = {value}" for key, value in {**SETTINGS, **changes}.items())
            shown = [opened, *([HIDDEN] if "--all" in command else [])]
            if "partition" in command:
                return "\n".join(shown)
            if "node" in command:
                return "\n".join(NODES[OPEN if line == opened else line] for line in shown)
            columns = command[-1].removeprefix("format=").split(",")
            if "qos" in command:
                rows = [{"Name": name, **limits} for name, limits in QOS.items()]
            else:
                rows = [row for row in (LAB_HERE, LAB_THERE, ABROAD) if f"cluster={row['Cluster']}" in command]
            return "\n".join("|".join(row.get(column, "") for column in columns) for row in rows)

        monkeypatch.setattr(slurm, "said", said)
        return slurm.ask()

    return ask


def verdict(cluster: Cluster, request: Request) -> list[str]:
    found = [*check_request(PROFILE, request, cluster), *check_way_of_gpus(PROFILE, request, cluster)]
    found += check_limits(PROFILE, [request], ask_limits(cluster))
    return [f"{each.level} {each.text}" for each in found]


def test_of_a_database_for_several_clusters_only_this_ones_accounts_hold(asked: Ask) -> None:
    cluster = asked()
    assert cluster.accounts == {"lab"}
    assert verdict(cluster, Request("train", account="lab", minutes=60)) == [
        "ok train: 1 CPUs, 0 MB, 60 min in the partition cpu",
        "ok no request is beyond the limits of your accounts and QOS",
    ]


def test_a_hidden_partition_and_its_nodes_are_seen(asked: Ask) -> None:
    found = verdict(asked(), Request("train", partition="gpu", gpus=1))
    assert found[0] == "ok train: 1 CPUs, 0 MB, 0 min, 1 GPU in the partition gpu"


def test_a_partition_of_other_groups_is_a_failure(asked: Ask) -> None:
    own = grp.getgrgid(os.getgid()).gr_name
    for groups, level in ((f"nobody-here,{own}", "ok"), ("nobody-here", "fail")):
        found = verdict(asked(OPEN.replace("AllowGroups=ALL", f"AllowGroups={groups}")), Request("train"))
        assert found[0].startswith(f"{level} train: "), found
    assert found[0].startswith("fail train: the partition cpu is only for the groups nobody-here")


def test_the_limits_of_a_partitions_qos_hold(asked: Ask) -> None:
    found = verdict(asked(), Request("train", partition="gpu", minutes=31, gpus=2))
    assert [line for line in found if "train: 31 min are more than the 30 of the QOS night of the partition (runtime)" in line], found
    assert [line for line in found if "gres/gpu=2 is more than the 1 of the QOS night of the partition (gpu)" in line], found
    default = asked(OPEN.replace("QoS=N/A", "QoS=night"))
    assert [line for line in verdict(default, Request("train", minutes=31)) if "31 min are more than the 30 of the QOS night" in line]


@pytest.mark.parametrize(
    ("settings", "takes"),
    [
        ({"SelectType": "select/cons_tres"}, True),
        ({"SelectType": "select/cray_aries", "SelectTypeParameters": "OTHER_CONS_TRES,CR_CPU"}, True),
        ({"SelectType": "select/linear"}, False),
        ({"SelectType": "select/cons_res", "SelectTypeParameters": "CR_CPU_MEMORY"}, False),
    ],
)
def test_where_the_cluster_does_not_take_gpus_for_a_job_the_doctor_says_what_to_write(
    asked: Ask, settings: dict[str, str], takes: bool
) -> None:
    cluster = asked(**settings)
    by_job = Request("train", partition="gpu", gpus=1, gpu_model="h200", gpus_by_job=True)
    found = [line for line in verdict(cluster, by_job) if "does not take --gpus" in line]
    assert (not found) is takes
    assert takes or 'write `gres: "gpu:h200:1"` in place of `gpu: 1` and `gpu_model: h200` under set-resources: train in' in found[0]
    assert not [line for line in verdict(cluster, Request("train", partition="gpu", gpus=1)) if "--gpus" in line]


@pytest.mark.parametrize(
    ("resources", "fails"),
    [
        ("gpu=4", True),
        ("gpu=4, nodes=2", True),
        ("gpu=4, nodes=1", False),
        ("gpu=1", False),
        ("gres=gpu:4", False),  # for each node
    ],
)
def test_several_gpus_that_need_not_be_on_one_node_are_a_failure(asked: Ask, resources: str, fails: bool) -> None:
    (request,) = parse_plan(f"rule train:\n    output: x.json\n    resources: {resources}, slurm_partition=gpu\n")
    found = verdict(asked(), request)
    assert any(line.startswith("fail train: SLURM may give its 4 GPUs on several nodes") for line in found) is fails, found
