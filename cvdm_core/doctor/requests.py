"""What the workflow will ask of the cluster: the profile, and the largest request of each rule in the true plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cvdm_core.doctor.dry_run import planned, snakemake
from cvdm_core.errors import UserError
from cvdm_core.yaml_text import load_yaml


@dataclass(frozen=True)
class Request:
    """What a job of a rule asks for; memory in megabytes, time in minutes, an empty partition is the cluster's default one.

    `gpus_by_job`: whether its GPUs are asked for with `--gpus`, for the whole job, and not for each node with `--gres`; `nodes` is 0 where
    SLURM may choose how many.
    """

    rule: str
    partition: str = ""
    account: str = ""
    qos: str = ""
    gpus: int = 0
    gpu_model: str = ""
    constraint: str = ""
    threads: int = 1
    mem_mb: int = 0
    minutes: int = 0
    gpus_by_job: bool = False
    nodes: int = 0


@dataclass(frozen=True)
class Profile:
    """What of a Snakemake profile matters to the checks."""

    file: Path
    status_command: str
    first_check_s: int
    retries: int
    jobs: int = 0


def read_profile(name: Path) -> Profile:
    """Read the profile in the folder `name`, which is where `snakemake --profile` looks first.

    Raises
    ------
    UserError
        If there is none, or it is not for SLURM.
    """
    file, content = profile_settings(name)
    if content.get("executor") != "slurm":
        raise UserError(f"{file}: this profile does not say `executor: slurm`; only profiles for SLURM are checked.")
    try:
        # 40 s and no retry are Snakemake's own defaults.
        defaults = {"slurm-init-seconds-before-status-checks": 40, "retries": 0, "jobs": 0}
        first, retries, jobs = (int(content.get(key, value)) for key, value in defaults.items())
    except (TypeError, ValueError):
        raise UserError(f"{file}: `jobs`, `retries` and `slurm-init-seconds-before-status-checks` must be whole numbers.") from None
    return Profile(file, str(content.get("slurm-status-command", "sacct")), first, retries, jobs)


def profile_settings(name: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file of the profile in the folder `name`, and what it says.

    Raises
    ------
    UserError
        If there is none, or it cannot be read.
    """
    file = name / "config.yaml"
    try:
        content = load_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        files = (Path("slurm/config.yaml"), *sorted(Path("profiles").glob("*/config.yaml")))
        there = ", ".join(str(each.parent) for each in files if each.is_file())
        do = f"write one of {there} behind --profile" if there else "run this in the workflow's folder, with --profile slurm"
        raise UserError(f"{name}: there is no such profile ({file} is not there); {do}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: this is not readable YAML ({' '.join(str(error).split())}); correct it.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: a profile holds `key: value` lines; correct it.")
    return file, content


def planned_requests(profile: Profile, configs: Sequence[Path]) -> list[Request]:
    """Return the largest request of each rule, from a dry run of the whole workflow with the profile and the configuration files.

    Raises
    ------
    UserError
        If the workflow cannot be planned.
    """
    # Without a number of cores a dry run shows one thread for every rule.
    command = [*snakemake(profile.file.parent, configs), "--dry-run", "--forceall", "--nolock", "--cores", "9999"]
    return largest(parse_plan(planned(command)))


def parse_plan(text: str) -> list[Request]:
    """Return the requests of all jobs that a dry run of Snakemake lists."""
    found = []
    for part in re.split(r"^(?=(?:local)?(?:rule|checkpoint) \w+:$)", text, flags=re.MULTILINE)[1:]:
        rule = part.partition(":")[0].split()[-1]
        values = dict(re.findall(r"(\w+)=([^,\n]*)", (re.findall(r"^ +resources: (.*)$", part, re.MULTILINE) or [""])[0]))
        if part.startswith("local") or not re.search(r"^ +output:", part, re.MULTILINE):
            continue  # targets, which never go to the queue
        threads = re.findall(r"^ +threads: (\d+)$", part, re.MULTILINE)
        found.append(_request(rule, int(threads[0]) if threads else 1, values))
    return found


def _request(rule: str, threads: int, values: dict[str, str]) -> Request:
    model, count = _gpus(values.get("gres", ""))
    cpus = _number(values, "cpus_per_task") or threads
    return Request(
        rule,
        partition=values.get("slurm_partition", ""),
        account=values.get("slurm_account", ""),
        qos=values.get("qos", ""),
        gpus=_number(values, "gpu") or count,
        gpu_model=values.get("gpu_model") or model,
        constraint=values.get("constraint", ""),
        threads=cpus,
        mem_mb=_number(values, "mem_mb_per_cpu") * cpus or _number(values, "mem_mb"),
        minutes=_number(values, "runtime"),
        gpus_by_job=_number(values, "gpu") > 0,
        nodes=_number(values, "nodes"),
    )


def _number(values: dict[str, str], key: str) -> int:
    """Return a whole number, or 0 where there is none yet (`<TBD>`)."""
    text = values.get(key, "")
    return int(text) if text.isdigit() else 0


def _gpus(gres: str) -> tuple[str, int]:
    """Return model and count of `gpu`, `gpu:2` or `gpu:h200:2`."""
    name, *rest = gres.split(":")
    if name != "gpu":
        return "", 0
    count = int(rest.pop()) if rest and rest[-1].isdigit() else 1
    return rest[0] if rest else "", count


def largest(requests: Sequence[Request]) -> list[Request]:
    """Return for each rule, partition, account and kind of node one request with the largest of its numbers."""
    merged: dict[tuple[str | int, ...], Request] = {}
    for new in requests:
        key = (new.rule, new.partition, new.account, new.qos, new.gpu_model, new.constraint, new.gpus_by_job, new.nodes)
        old = merged.get(key, new)
        numbers = {name: max(getattr(old, name), getattr(new, name)) for name in ("gpus", "threads", "mem_mb", "minutes")}
        merged[key] = replace(old, **numbers)
    return list(merged.values())
