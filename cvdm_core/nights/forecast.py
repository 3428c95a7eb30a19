"""How long the planned jobs will take, and how many run side by side: what `planning` plans with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cvdm_core.config import Config
from cvdm_core.doctor.requests import profile_settings
from cvdm_core.doctor.slurm import ask
from cvdm_core.errors import UserError
from cvdm_core.images.tiles import n_blocks
from cvdm_core.nights.driver import Job
from cvdm_core.nights.planning import BETWEEN_JOBS_S, FEWEST_SAMPLES, Capacity, Work
from cvdm_core.records.throughput import Throughput, expected_seconds
from cvdm_core.routing import Router
from cvdm_core.sheet import Acquisition
from cvdm_core.workload import STAGES_OF, block_megapixels, megapixels, training_megapixels


class Unmeasured(Exception):
    """Nothing was measured yet of a stage, so nothing can be planned; says which."""


def in_order(rows: Mapping[str, Acquisition], failing: Collection[str]) -> list[Acquisition]:
    """Return the rows as time is given to them: the most urgent first, then the oldest, which stand first in the sheet.

    Those that are `failing` come last of their urgency. The workflow itself starts in the order of the sheet what has got time.
    """
    return sorted(rows.values(), key=lambda row: (-row.urgent, row.acquisition in failing))


def forecast(
    config: Config,
    rows: Mapping[str, Acquisition],
    jobs: Sequence[Job],
    throughput: Throughput,
    between: float,
    failing: Collection[str] = (),
) -> list[Work]:
    """Return what is to be done for each acquisition that jobs are planned for, in the order in which time is given to them.

    Parameters
    ----------
    rows
        Acquisitions to restore.
    jobs
        From `planned_jobs`.
    throughput
        From `read_throughput`.
    between
        Seconds that each job costs beside its work.
    failing
        From `outcome.failing`.

    Raises
    ------
    Unmeasured
        If a planned stage was never measured.
    """
    planned = Counter((job.acquisition, job.rule) for job in jobs)
    names = {job.acquisition for job in jobs}
    router = Router(config)
    return [_work(router, row, planned, throughput, between) for row in in_order(rows, failing) if row.acquisition in names]


def _work(router: Router, row: Acquisition, planned: Mapping[tuple[str, str], int], throughput: Throughput, between: float) -> Work:
    own = router.configuration(row)
    name, model = row.acquisition, own.model.name
    blocks = planned.get((name, "sample"), 0)

    def seconds(rule: str) -> float:
        stages = ((stage, "" if stage == "ingest" else model) for stage in STAGES_OF[rule])
        return between + sum(_expected(throughput, stage, megapixels(own, row, stage), of) for stage, of in stages)

    def block_seconds(row: Acquisition, samples: int) -> float:
        fewer = router.configuration(row.model_copy(update={"samples": samples}))
        return between + _expected(throughput, "sample", block_megapixels(fewer, row), model)

    if blocks:
        block_seconds(row, own.sampling.samples)  # says at once what was not measured
    # Blocks that are there already were made with the number of samples that stands now.
    whole = blocks == n_blocks(row.restored_shape(own.model.scale), own.store.shard, own.sampling.shards_per_job)
    reducible = whole and own.model.objective == "diffusion"
    return Work(
        name,
        before=seconds("ingest") if planned.get((name, "ingest")) else 0.0,
        after=seconds("finish") if planned.get((name, "finish")) else 0.0,
        blocks=blocks,
        block_seconds=partial(block_seconds, row),
        samples=own.sampling.samples,
        fewest=min(own.sampling.samples, FEWEST_SAMPLES) if reducible else own.sampling.samples,
    )


def _expected(throughput: Throughput, stage: str, amount: float, model: str) -> float:
    seconds = expected_seconds(throughput, stage, amount, model)
    if seconds is None:
        raise Unmeasured(stage)
    return seconds


def capacity(config: Config, profile: Path, jobs: Sequence[Job], throughput: Throughput) -> tuple[Capacity, float, str]:
    """Return how many jobs run side by side, the seconds that each costs beside its work, and a remark about what was counted.

    Raises
    ------
    UserError
        If the profile cannot be read.
    Unmeasured
        If the model is trained first, and training was never measured.
    """
    _, settings = profile_settings(profile)
    training = [job for job in jobs if job.rule == "train"]
    since = _expected(throughput, "train", training_megapixels(config), config.model.name) if training else 0.0
    if settings.get("executor") != "slurm":
        threads = max((job.threads for job in jobs if job.rule == "sample"), default=1)
        threads = int(_section(settings, "set-threads").get("sample", threads))
        places = max(1, _number(settings, "cores") // threads)
        return Capacity(places, sampling_from=since), 0.0, f"{places} jobs at a time: the profile's cores by the threads of sampling"
    places = _number(settings, "jobs")
    try:
        gpus = _gpus(settings)
    except UserError as error:
        return Capacity(places, places, since), BETWEEN_JOBS_S, f"{places} jobs at a time; how many GPUs there are is not known: {error}"
    if gpus is None:
        return Capacity(places, places, since), BETWEEN_JOBS_S, f"{places} jobs at a time"
    sampling = max(1, min(places, gpus))
    return Capacity(places, sampling, since), BETWEEN_JOBS_S, f"{places} jobs at a time, {sampling} of them on GPUs"


def _gpus(settings: Mapping[str, Any]) -> int | None:
    """Return how many GPUs the cluster has for sampling, as far as its nodes are in order; None where sampling asks for none."""
    defaults, own = _section(settings, "default-resources"), _section(_section(settings, "set-resources"), "sample")
    if not own.get("gpu") and not str(own.get("gres", "")).startswith("gpu"):
        return None
    cluster = ask()
    named = own.get("slurm_partition") or defaults.get("slurm_partition")
    partition = named or next((name for name, found in cluster.partitions.items() if found.default), "")
    model = str(own.get("gpu_model", ""))
    return sum(node.gpus_of(model) for node in cluster.nodes if node.usable and partition in node.partitions)


def _section(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = settings.get(key)
    return found if isinstance(found, dict) else {}


def _number(settings: Mapping[str, Any], key: str) -> int:
    found = settings.get(key, 1)
    return max(1, found) if isinstance(found, int) else 1
