"""From receipts to the measured throughput: one writer, `cvdm index`, at the end of a run.

The newest jobs of each stage and model are kept in the file itself, so that results may be moved away, and so that only receipts that
are new since the last time are read.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.files import write_file
from cvdm_core.records.receipts import read_json
from cvdm_core.records.throughput import Pace, Throughput, as_json, throughput_file

NEWEST = 100  # jobs of a stage and model that count: a night or two, so that another GPU or a slower disk is soon noticed
SPREAD = 2.0  # the largest job over the smallest, from which a line can tell the start from the pixels
SLOW = 0.95  # one job in twenty is slower than what is asked for, before the margin
SLOWEST = 3.0  # times the typical job; whatever is slower had an accident, and its next attempt gets twice the time
ODD = 0.98  # one job in fifty may need a second attempt for its memory
OVERLAP_S = 3600  # receipts so much older than the newest one known are looked at again: clocks of nodes differ


class Job(NamedTuple):
    """One finished job, as the file keeps it: a line of plain values."""

    stage: str
    model: str
    device: str
    subject: str
    started: str
    megapixels: float
    seconds: float
    memory_mb: float


def update_throughput(config: Config) -> Path:
    """Add what the receipts of finished jobs say to `<results>/throughput.json`, and return its path.

    A damaged file is made anew from all receipts; a damaged receipt is passed over (verify names it).
    """
    path = throughput_file(config.results)
    known, read_until = _known(path)
    jobs, newest = set(known), read_until
    for place in _receipts(config):
        try:
            written = place.stat().st_mtime
            if written > read_until - OVERLAP_S and (job := _job(place)):
                jobs.add(job)
        except (OSError, UserError):
            continue
        newest = max(newest, written)
    kept = _newest(jobs)
    paces = json.dumps(as_json(fit_all(kept)), indent=1, sort_keys=True)
    lines = ",\n".join(json.dumps(job) for job in kept)
    write_file(path, f'{{"paces": {paces},\n"read_until": {newest},\n"jobs": [\n{lines}\n]}}\n')
    return path


def _known(path: Path) -> tuple[list[Job], float]:
    """Return the jobs in the file and the time up to which receipts were read; nothing and 0 where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [_checked(*values) for values in content["jobs"]], float(content["read_until"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], 0.0


def _checked(*values: Any) -> Job:
    texts, numbers = values[:5], values[5:]
    if not all(isinstance(text, str) for text in texts) or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError("this is no measured job")
    return Job(*texts, *map(float, numbers))


def _receipts(config: Config) -> Iterator[Path]:
    results = Path(config.results)
    yield from Path(config.models).glob("*/train.json")
    yield from results.glob("*/ingest.json")
    for pattern in ("stitch.json", "evaluate.json", "report.json", "blocks/*.json"):
        yield from results.glob(f"*/*/{pattern}")


def _job(path: Path) -> Job | None:
    """Return what a receipt measured; None where it did not, because it found its work done or is older than these measurements."""
    content = read_json(path)
    try:
        stage, usage = str(content["stage"]), content["usage"]
        model = {"train": path.parent.name, "sample": path.parent.parent.name}.get(stage, "")
        subject = f"{content['subject']}/{path.stem}"
        numbers = (usage["megapixels"], content["seconds"], usage["peak_memory_mb"])
        job = _checked(stage, model, str(usage["device"]), subject, str(content["started"]), *numbers)
    except (KeyError, TypeError, ValueError):
        return None
    return job if job.megapixels > 0 and job.seconds > 0 else None


def _newest(jobs: set[Job]) -> list[Job]:
    """Return the newest jobs of each stage and model, in order."""
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.started):
        groups[job.stage, job.model].append(job)
    return [job for key in sorted(groups) for job in groups[key][-NEWEST:]]


def fit_all(jobs: Sequence[Job]) -> Throughput:
    """Return the pace of each stage, model and device."""
    groups: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[job.stage, job.model, job.device].append(job)
    paces: dict[str, dict[str, dict[str, Pace]]] = {}
    for (stage, model, device), measured in groups.items():
        paces.setdefault(stage, {}).setdefault(model, {})[device] = fit(measured)
    return paces


def fit(jobs: Sequence[Job]) -> Pace:
    """Return the pace of jobs: the line of the median slope between any two (Theil-Sen), which three accidents in ten do not move.

    Where all jobs are of about one size, no line can be told from them, and time grows with the pixels.
    """
    sizes = [job.megapixels for job in jobs]
    slope, start = median(job.seconds / job.megapixels for job in jobs), 0.0
    if max(sizes) >= SPREAD * min(sizes):
        steep = [(b.seconds - a.seconds) / (b.megapixels - a.megapixels) for a, b in combinations(jobs, 2) if a.megapixels != b.megapixels]
        slope = max(0.0, median(steep))
        start = max(0.0, median(job.seconds - slope * job.megapixels for job in jobs))
    typical = Pace(len(jobs), start, slope)
    ratios = sorted(job.seconds / max(typical.seconds(job.megapixels), 1e-9) for job in jobs)
    slow = min(SLOWEST, max(1.0, _quantile(ratios, SLOW)))
    return Pace(len(jobs), start, slope, slow, _quantile(sorted(job.memory_mb for job in jobs), ODD))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]
