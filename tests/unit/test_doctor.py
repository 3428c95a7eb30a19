"""What the doctor reads from SLURM and from a dry run, on lines of clusters that are not at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cvdm_core.config import Config
from cvdm_core.doctor.checks import check_gpus_of_training, check_limits, check_request, misfit
from cvdm_core.doctor.limits import accounting
from cvdm_core.doctor.requests import Profile, Request, largest, parse_plan, planned_requests, read_profile
from cvdm_core.doctor.slurm import Cluster, Node, Partition, minutes, node, partition
from cvdm_core.doctor.surroundings import check_lock, check_space, check_wrappers, check_writable
from cvdm_core.errors import UserError
from cvdm_core.sheet import Acquisition, write_sheet

ROOT = Path(__file__).parents[2]
PROFILE = Profile(Path("slurm/config.yaml"), "squeue", 20, retries=2)
PLAN = """
rule ingest:
    input: raw/a.tif
    output: x.json
    resources: tmpdir=/tmp, disk_mb=<TBD>, mem_mb=2000, mem=2 GB, runtime=5
rule ingest:
    output: x.json
    resources: tmpdir=/tmp, mem_mb=1000, runtime=90, slurm_partition=long
rule ingest:
    output: x.json
    resources: tmpdir=/tmp, mem_mb=1500, runtime=9
rule train:
    threads: 8
    output: x.json
    resources: mem_mb=<TBD>, runtime=30, gres=gpu:h200:2, slurm_account=lab
rule all:
    input: x.json
    resources: mem_mb=2000, runtime=60
"""


def a_node(**values: object) -> Node:
    line = {"NodeName": "n1", "CPUTot": 8, "RealMemory": 64000, "State": "IDLE", "Partitions": "cpu,gpu", **values}
    return node(" ".join(f"{key}={value}" for key, value in line.items()))


def test_a_plan_gives_the_largest_request_of_each_rule_and_partition() -> None:
    assert largest(parse_plan(PLAN)) == [
        Request("ingest", mem_mb=2000, minutes=9),
        Request("ingest", partition="long", mem_mb=1000, minutes=90),
        Request("train", account="lab", gpus=2, gpu_model="h200", threads=8, minutes=30),
    ]


def test_the_plan_is_that_of_the_configuration_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one than config/config.yaml, which has the demo's sheet."""
    monkeypatch.chdir(tmp_path)
    measured = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": 64, "size_x": 64, "dtype": "uint16", "pixel_size_um": 0.1}
    pairs = {
        split: Acquisition(acquisition=split, specimen=split, split=split, input="a.tif", target="b.tif", **measured)
        for split in ("train", "val")
    }
    for name, rows in (("config", {}), ("mine", pairs)):
        write_sheet(f"{name}.tsv", rows)
        Path("config").mkdir(exist_ok=True)
        Path(f"config/{name}.yaml").write_text(f"acquisitions: {name}.tsv\n")
    Path("profile").mkdir()
    Path("profile/config.yaml").write_text(f"snakefile: {ROOT}/Snakefile\n")
    profile = replace(PROFILE, file=Path("profile/config.yaml"))
    assert planned_requests(profile, [Path("config/config.yaml")]) == []
    assert {request.rule for request in planned_requests(profile, [Path("config/mine.yaml")])} == {"ingest", "train", "sample", "finish"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-00:00:00", 1440), ("12:30:00", 750), ("30:00", 30), ("2-12:00:00", 3600), ("UNLIMITED", None), ("NONE", None)],
)
def test_times_of_slurm(text: str, expected: int | None) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:h200:4(S:0-1)", {"h200": 4}),
        ("gpu:2", {"": 2}),
        ("gpu:a100:4,gpu:v100:2,mps:400", {"a100": 4, "v100": 2}),
        ("nvme:1,gpu:a100_1g.5gb:7", {"a100_1g.5gb": 7}),
        ("mps:100", {}),
        ("(null)", {}),
    ],
)
def test_gpus_of_a_node(gres: str, expected: dict[str, int]) -> None:
    assert a_node(Gres=gres).gpus == expected


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        ("IDLE", True),
        ("MIXED", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("IDLE+DRAIN", False),
        ("DOWN*", False),
        ("IDLE*", False),
        ("ALLOCATED+NOT_RESPONDING", False),
    ],
)
def test_whether_a_node_takes_jobs(state: str, usable: bool) -> None:
    assert a_node(State=state).usable is usable


def test_no_single_node_has_all_that_different_nodes_have() -> None:
    nodes = [a_node(Gres="gpu:1", RealMemory=1000), a_node(NodeName="n2")]
    assert misfit(Request("train", gpus=1, mem_mb=9000), nodes, None) == "no node has 1 GPU and 1 CPUs and 9000 MB of memory together"
    assert not misfit(Request("train", gpus=1, mem_mb=900), nodes, None)


def lines(request: Request, the_node: Node, accounts: frozenset[str] | None = None) -> list[str]:
    cluster = Cluster(600, {"cpu": Partition("cpu", up=True, default=True, minutes=100)}, (the_node,), accounts)
    return [f"{found.level} {found.text}" for found in check_request(PROFILE, request, cluster)]


def test_a_retry_that_would_be_refused_is_a_warning() -> None:
    assert lines(Request("train", mem_mb=100, minutes=40), a_node()) == [
        "ok train: 1 CPUs, 100 MB, 40 min in the partition cpu",
        "warn train: attempt 3 asks for 3 times the memory and time, and 120 min are more than the limit of 100 min: it would be refused",
    ]


def test_drained_nodes_are_a_warning_and_an_unknown_account_a_failure() -> None:
    found = lines(Request("train", account="lap"), a_node(State="IDLE+DRAIN"), frozenset({"lab"}))
    assert found[0].startswith("fail train: you have no account 'lap'; write one of yours (lab)")
    assert found[1].startswith("warn train: all nodes that could grant")


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "new" / "results").level == "ok"
    assert check_writable(Path("/proc/nowhere")).level == "fail"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no such profile"),
        ("executor: [", "not readable YAML"),
        ("executor: slurm\nset-resources: {train: {gpu: 1}}\nset-resources: {}", "the key 'set-resources' stands twice"),
        ("cores: 2", "does not say `executor: slurm`"),
        ("executor: slurm\nretries: many", "must be whole numbers"),
    ],
)
def test_a_profile_that_cannot_be_checked_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_profile(tmp_path)


def test_a_partition_without_limit_and_one_that_is_down() -> None:
    assert partition("PartitionName=a MaxTime=UNLIMITED State=UP Default=YES") == Partition("a", True, True, None)
    assert not partition("PartitionName=a MaxTime=1:00:00 State=DRAIN Default=NO").up


ASSOCIATIONS = [
    {
        "Account": "lab", "Partition": "", "DefaultQOS": "short", "MaxSubmitJobs": "40", "GrpSubmitJobs": "200",
        "MaxWall": "1-00:00:00", "MaxTRES": "cpu=16,mem=64G,gres/gpu=1",
    },
    {
        "Account": "other", "Partition": "", "DefaultQOS": "", "MaxSubmitJobs": "1", "GrpSubmitJobs": "",
        "MaxWall": "00:01:00", "MaxTRES": "",
    },
]  # fmt: skip
QOS = [
    {"Name": "short", "MaxSubmitJobsPU": "", "MaxSubmitJobsPA": "", "MaxWall": "00:30:00", "MaxTRES": "", "MaxTRESPU": "gres/gpu:h200=1"},
    {"Name": "long", "MaxSubmitJobsPU": "30", "MaxSubmitJobsPA": "", "MaxWall": "", "MaxTRES": "", "MaxTRESPU": ""},
]


def limited(request: Request, jobs: int = 10, retries: int = 0) -> list[str]:
    profile = Profile(Path("slurm/config.yaml"), "squeue", 20, retries, jobs)
    return [f"{found.level} {found.text}" for found in check_limits(profile, [request], accounting(ASSOCIATIONS, QOS))]


def test_requests_within_the_limits_of_account_and_qos_are_ok() -> None:
    fits = Request("train", account="lab", gpus=1, gpu_model="h200", threads=16, mem_mb=65536, minutes=30)
    assert limited(fits) == ["ok no request is beyond the limits of your accounts and QOS"]


@pytest.mark.parametrize(
    ("values", "jobs", "sentence"),
    [
        ({"minutes": 31}, 10, "train: 31 min are more than the 30 of the QOS short (runtime)"),
        ({"minutes": 1441, "qos": "long"}, 10, "train: 1441 min are more than the 1440 of the account lab (runtime)"),
        ({"threads": 17}, 10, "cpu=17 is more than the 16 of the account lab (threads)"),
        ({"mem_mb": 65537}, 10, "mem=65537 is more than the 65536 of the account lab (mem_mb)"),
        ({"gpus": 2}, 10, "gres/gpu=2 is more than the 1 of the account lab (gpu)"),
        ({"gpus": 2, "gpu_model": "h200"}, 10, "gres/gpu:h200=2 is more than the 1 of the QOS short (gpu)"),
        ({}, 50, "the account lab lets you have 40 jobs in the queue, and the profile sends 50; write `jobs: 40`"),
        ({"qos": "long"}, 31, "the QOS long lets you have 30 jobs"),
    ],
)
def test_what_account_or_qos_do_not_allow_is_a_failure_that_names_them(values: dict[str, object], jobs: int, sentence: str) -> None:
    found = limited(Request("train", account="lab", **values), jobs)  # type: ignore[arg-type]
    assert [line for line in found if line.startswith("fail") and sentence in line], found


def test_a_last_attempt_beyond_the_limits_is_a_warning() -> None:
    (first, *_) = limited(Request("ingest", account="lab", minutes=12), retries=2)
    assert (
        first == "warn ingest: in attempt 3 36 min are more than the 30 of the QOS short (runtime): it would be refused, or wait for ever"
    )


@pytest.mark.parametrize(("gpus", "devices", "levels"), [(1, 1, []), (0, 4, []), (1, 2, ["fail"]), (4, 2, ["warn"])])
def test_training_asks_for_the_gpus_that_it_uses(gpus: int, devices: int, levels: list[str]) -> None:
    config = Config.model_validate({"training": {"devices": devices}})
    assert [found.level for found in check_gpus_of_training(config, [Request("train", gpus=gpus)], PROFILE)] == levels


def test_space_is_compared_with_what_is_still_to_be_made(tmp_path: Path) -> None:
    def config(size: int) -> Config:
        row = Acquisition(
            acquisition="a", specimen="a", split="predict", input="a.tif", size_t=1, size_c=1, size_z=1, size_y=size, size_x=size
        )
        write_sheet(tmp_path / "sheet.tsv", {"a": row})
        return Config(acquisitions=str(tmp_path / "sheet.tsv"), results=str(tmp_path / "results"))

    assert check_space(config(1000)).level == "ok"
    assert check_space(config(10_000_000)).level == "warn"


def test_wrappers_that_lost_their_permission_are_a_failure(tmp_path: Path) -> None:
    assert check_wrappers(ROOT / "workflow/slurm").level == "ok"
    (tmp_path / "squeue").write_text("")
    assert check_wrappers(tmp_path).level == "fail"


def test_locks_are_tried_and_nothing_is_left(tmp_path: Path) -> None:
    assert check_lock(tmp_path / "results").level == "ok"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mounted", "mend"),
    [
        ("lustre rw,flock,lazystatfs", ""),
        ("lustre rw,localflock,lazystatfs", "ask for the mount option `flock` in place of `localflock`"),
        ("nfs4 rw,vers=4.2,local_lock=none,addr=10.0.0.1", ""),
        ("nfs rw,vers=3,local_lock=posix", ""),
        ("nfs rw,vers=3,local_lock=flock", "`local_lock=none` in place of `local_lock=flock`"),
        ("nfs rw,vers=3,nolock,local_lock=all", "`lock` in place of `nolock`"),
        ("beegfs rw,cfgFile={tmp}/local.conf", "ask for `tuneUseGlobalFileLocks = true` in {tmp}/local.conf on all machines"),
        ("beegfs rw,cfgFile={tmp}/global.conf", ""),
        ("beegfs rw,cfgFile={tmp}/none.conf", "ask for `tuneUseGlobalFileLocks = true`"),
    ],
)
def test_locks_that_hold_on_one_machine_only_are_a_warning(tmp_path: Path, mounted: str, mend: str) -> None:
    (tmp_path / "local.conf").write_text("# tuneUseGlobalFileLocks = true\ntuneUseGlobalFileLocks     = false\n")
    (tmp_path / "global.conf").write_text("tuneUseGlobalFileLocks     = true\n")
    shared = tmp_path / "the lab"
    shared.mkdir()
    (tmp_path / "link").symlink_to(shared)
    escaped = str(shared).replace(" ", r"\040")
    lines = ["/dev/sda1 / ext4 rw 0 0", f"auto {escaped} autofs rw,nolock 0 0", f"server:/lab {escaped} {mounted.format(tmp=tmp_path)} 0 0"]
    (tmp_path / "mounts").write_text("\n".join(lines) + "\n")
    found = check_lock(tmp_path / "link" / "results", tmp_path / "mounts")
    assert found.level == ("warn" if mend else "ok")
    assert mend.format(tmp=tmp_path) in found.text
    assert not mend or (str(shared) in found.text and "start drivers on one machine only" in found.text)
    assert check_lock(tmp_path, tmp_path / "mounts").level == "ok"
