"""The checks: what is asked for against what the cluster grants, each with what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cvdm_core.config import Config
from cvdm_core.doctor.finding import Finding
from cvdm_core.doctor.limits import Accounting, ask_limits, beyond
from cvdm_core.doctor.requests import Profile, Request, planned_requests, read_profile
from cvdm_core.doctor.slurm import Cluster, Node, ask, missing_commands, own_groups
from cvdm_core.doctor.surroundings import check_surroundings, not_seen
from cvdm_core.errors import UserError


def examine(config: Config, configs: Sequence[Path], profile_folder: Path) -> Iterator[Finding]:
    """Check a profile against the cluster on which this runs, and yield what was found; `configs` are the files of `config`.

    Raises
    ------
    UserError
        If there is no SLURM here, it does not answer, or profile or workflow cannot be read.
    """
    profile = read_profile(profile_folder)
    missing = missing_commands()
    if missing:
        raise UserError(
            f"SLURM's {', '.join(missing)} cannot be found on this machine; run this on a login node of the cluster, "
            "if need be after `module load slurm`, or use --profile profiles/local without a cluster."
        )
    cluster = ask()
    yield Finding("ok", f"SLURM answers: {len(cluster.nodes)} nodes, {len(cluster.partitions)} partitions")
    yield check_status_queries(profile, cluster)
    requests = planned_requests(profile, configs)
    if not requests:
        yield Finding("warn", "the sample sheet plans no job, so requests were not checked; run `cvdm register` first")
    for request in requests:
        yield from check_request(profile, request, cluster)
        yield from check_way_of_gpus(profile, request, cluster)
    yield from check_gpus_of_training(config, requests, profile)
    if cluster.enforced:
        yield from check_limits(profile, requests, ask_limits(cluster))
    else:
        why = "it keeps no accounts" if cluster.accounts is None else "AccountingStorageEnforce says so"
        yield Finding("note", f"limits of accounts and QOS do not hold on this cluster ({why})")
    yield from check_surroundings(config)
    yield from not_seen()


def check_status_queries(profile: Profile, cluster: Cluster) -> Finding:
    """Check that a finished job stays visible until Snakemake has looked."""
    if profile.status_command != "squeue":
        return Finding("warn", f"{profile.file}: with sacct a cancelled job is never noticed; write `slurm-status-command: squeue`")
    age, needed = cluster.min_job_age_s, 3 * profile.first_check_s
    if age >= needed:
        return Finding("ok", f"squeue shows finished jobs for {age} s, {needed} s are needed")
    key = "slurm-init-seconds-before-status-checks"
    return Finding(
        "fail",
        f"squeue shows finished jobs for {age} s only (MinJobAge), and Snakemake needs {needed} s; "
        f"write `{key}: {max(1, age // 3)}` into {profile.file}, or ask for a MinJobAge of {needed} s",
    )


def check_limits(profile: Profile, requests: Sequence[Request], accounting: Accounting) -> Iterator[Finding]:
    """Check the number of jobs in the queue, and each rule's largest request, against the limits of account and QOS."""
    failed = False
    every = [limits for request in requests for limits in accounting.of(request)]
    for limits in dict.fromkeys(every):
        if limits.submitted is not None and profile.jobs > limits.submitted:
            failed = True
            yield Finding(
                "fail",
                f"{limits.owner} lets you have {limits.submitted} jobs in the queue, and the profile sends {profile.jobs}; "
                f"write `jobs: {limits.submitted}` into {profile.file}",
            )
    for request in requests:
        for limits in accounting.of(request):
            for problem in beyond(request, limits):
                failed = True
                yield Finding(
                    "fail",
                    f"{request.rule}: {problem}; ask for less under set-resources in {profile.file}, or for another QOS or partition",
                )
            attempts = profile.retries + 1
            last = replace(request, mem_mb=request.mem_mb * attempts, minutes=request.minutes * attempts)
            for problem in set(beyond(last, limits)) - set(beyond(request, limits)):
                yield Finding("warn", f"{request.rule}: in attempt {attempts} {problem}: it would be refused, or wait for ever")
    if not failed:
        yield Finding("ok", "no request is beyond the limits of your accounts and QOS")


def check_gpus_of_training(config: Config, requests: Sequence[Request], profile: Profile) -> Iterator[Finding]:
    """Check that training asks for as many GPUs as it uses."""
    devices = config.training.devices
    for request in requests:
        if request.rule == "train" and 0 < request.gpus != devices:
            yield Finding(
                "fail" if request.gpus < devices else "warn",
                f"train: it asks for {request.gpus} GPUs and uses {devices}; write the same number as `gpu` under set-resources: train in "
                f"{profile.file} and as training.devices in the configuration",
            )


def check_way_of_gpus(profile: Profile, request: Request, cluster: Cluster) -> Iterator[Finding]:
    """Check that the cluster takes GPUs in the way in which they are asked for, and gives those of one node."""
    if request.gpus_by_job and not cluster.gpus_by_job:
        asked = [f"`gpu: {request.gpus}`", *([f"`gpu_model: {request.gpu_model}`"] if request.gpu_model else [])]
        gres = ":".join(filter(None, ("gpu", request.gpu_model, str(request.gpus))))
        yield Finding(
            "fail",
            f'{request.rule}: this cluster does not take --gpus (its SelectType is not cons_tres); write `gres: "{gres}"` in place of '
            f"{' and '.join(asked)} under set-resources: {request.rule} in {profile.file}",
        )
    elif request.gpus_by_job and request.gpus > 1 and request.nodes != 1:
        yield Finding(
            "fail",
            f"{request.rule}: SLURM may give its {request.gpus} GPUs on several nodes, and it uses those of one; write `nodes: 1` beside "
            f"`gpu: {request.gpus}` under set-resources: {request.rule} in {profile.file}",
        )


def check_request(profile: Profile, request: Request, cluster: Cluster) -> Iterator[Finding]:
    """Check partition, account and sizes of a rule's largest request."""
    rule, file = request.rule, profile.file
    if cluster.accounts is not None and request.account and request.account not in cluster.accounts:
        known = ", ".join(sorted(cluster.accounts)) or "none"
        yield Finding("fail", f"{rule}: you have no account {request.account!r}; write one of yours ({known}) as slurm_account into {file}")
    default = next((found.name for found in cluster.partitions.values() if found.default), "")
    name = request.partition or default
    partition = cluster.partitions.get(name)
    if partition is None:
        known = ", ".join(sorted(cluster.partitions))
        asked = f"there is no partition {name!r}" if name else "the cluster has no default partition"
        yield Finding("fail", f"{rule}: {asked}; write one of {known} as slurm_partition into {file}")
        return
    if not partition.up:
        yield Finding("fail", f"{rule}: the partition {name} is not up; choose another as slurm_partition in {file}, or wait")
        return
    if partition.groups and not partition.groups & own_groups():
        groups = ", ".join(sorted(partition.groups))
        yield Finding("fail", f"{rule}: the partition {name} is only for the groups {groups}; choose another as slurm_partition in {file}")
        return
    nodes = [node for node in cluster.nodes if name in node.partitions]
    problem = misfit(request, nodes, partition.minutes)
    if problem:
        yield Finding("fail", f"{rule}: {problem} in the partition {name}; {advice(request, problem)} in {file}")
        return
    gpus = f", {request.gpus} GPU {request.gpu_model}".rstrip() if request.gpus else ""
    asked = f"{request.threads} CPUs, {request.mem_mb} MB, {request.minutes} min{gpus}"
    if not any(node.usable for node in nodes if not misfit(request, [node], None)):
        yield Finding("warn", f"{rule}: all nodes that could grant {asked} in the partition {name} are down or drained; jobs will wait")
        return
    yield Finding("ok", f"{rule}: {asked} in the partition {name}")
    if not is_simple(request.constraint):
        yield Finding("note", f"{rule}: the constraint {request.constraint!r} was not compared with the nodes' features")
    attempts = profile.retries + 1
    last = replace(request, mem_mb=request.mem_mb * attempts, minutes=request.minutes * attempts)
    problem = misfit(last, nodes, partition.minutes)
    if problem:
        yield Finding(
            "warn", f"{rule}: attempt {attempts} asks for {attempts} times the memory and time, and {problem}: it would be refused"
        )


def misfit(request: Request, nodes: Sequence[Node], limit: int | None) -> str:
    """Say what of a request no node has, or return nothing; `limit` is the partition's longest time in minutes."""
    if limit is not None and request.minutes > limit:
        return f"{request.minutes} min are more than the limit of {limit} min"
    features = frozenset(filter(None, request.constraint.replace("&", ",").split(",")))
    simple = is_simple(request.constraint)
    left = [node for node in nodes if not simple or features <= node.features]
    if not left:
        return f"no node has the feature {request.constraint!r}" if features else "there is no node"
    steps = [
        ([node for node in left if node.gpus_of(request.gpu_model) >= request.gpus], f"{request.gpus} GPU {request.gpu_model}".rstrip()),
        ([node for node in left if node.cpus >= request.threads], f"{request.threads} CPUs"),
        ([node for node in left if node.mem_mb >= request.mem_mb], f"{request.mem_mb} MB of memory"),
    ]
    for fitting, what in steps:
        if not fitting:
            return f"no node has {what}"
    fits_all = set.intersection(*({node.name for node in fitting} for fitting, _ in steps))
    return "" if fits_all else f"no node has {' and '.join(what for _, what in steps)} together"


def is_simple(constraint: str) -> bool:
    """Whether a constraint is features joined with `&`, which is all that is compared with the nodes."""
    return not any(sign in constraint for sign in "|[](*!")


def advice(request: Request, problem: str) -> str:
    """Say which line of the profile mends a misfit."""
    if " min are more" in problem:
        return f"choose a partition with a longer limit, or write a smaller runtime under set-resources: {request.rule}"
    if "GPU" in problem and "together" not in problem:
        return f"choose the GPUs' partition and a model that it has, or write `gpu: 0` under set-resources: {request.rule} to do without,"
    if "CPUs" in problem and "together" not in problem:
        return f"choose another partition, or write `set-threads: {{{request.rule}: N}}`"
    return f"choose another partition, or ask for less under set-resources: {request.rule}"
