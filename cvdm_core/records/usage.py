"""What a job runs on and how much it used: the first and the last lines of its log, and a part of its receipt."""

from __future__ import annotations

import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvdm_core.records.receipts import Receipt

USE_GPU = ("train", "sample")
"""Stages that run on a GPU where there is one; the others do not look, because that alone would take memory of the GPU."""
ASK_SECONDS = 10  # for an answer of SLURM; without one the job goes on and does not know how often it was restarted


@contextmanager
def measured(receipt: Receipt, versions: Mapping[str, str]) -> Iterator[None]:
    """Say what the stage runs on, and when it ends, well or not, what it used; fill `receipt.job` and `receipt.usage`.

    `receipt.usage` holds `seconds`, `cpu_seconds` (with those of finished child processes), `peak_memory_mb` (of this process),
    `peak_gpu_memory_mb` (None without a GPU), `device`, and with the `megapixels` that the stage put there `megapixels_per_second` (0 and
    None where it found its work done).
    """
    device = find_device(receipt.stage)
    receipt.job = find_job()
    begin, cpu_begin = time.perf_counter(), _cpu_seconds()
    for line in _header(receipt, device, versions):
        _say(receipt.stage, line)
    try:
        yield
    finally:
        seconds = time.perf_counter() - begin
        megapixels = receipt.usage.get("megapixels", 0.0)
        receipt.usage = {
            "device": device.name,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(_cpu_seconds() - cpu_begin, 3),
            "peak_memory_mb": round(_peak_memory_mb(), 1),
            "peak_gpu_memory_mb": device.peak_memory_mb(),
            "megapixels": round(megapixels, 6),
            "megapixels_per_second": round(megapixels / seconds, 6) if megapixels and seconds else None,
        }
        _say(receipt.stage, f"used {_in_words(receipt.usage)}")


@dataclass(frozen=True)
class Device:
    """What the pixels of a stage are computed on: `name` of the GPU or of the processor, `text` about it for the log."""

    name: str
    text: str
    is_gpu: bool = False

    def peak_memory_mb(self) -> float | None:
        """Return the most memory that torch held on the GPUs, in megabytes; None without one."""
        if not self.is_gpu:
            return None
        cuda = sys.modules["torch"].cuda
        held: int = sum(cuda.max_memory_reserved(number) for number in range(cuda.device_count()))
        return round(held / 2**20, 1)


def find_device(stage: str) -> Device:
    """Return what a stage runs on. Torch is only asked where the stage has imported it already."""
    torch = sys.modules.get("torch")
    if torch is None or stage not in USE_GPU or not torch.cuda.is_available():
        return Device(_processor(), "none")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    runtime = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return Device(names[0], f"{', '.join(names)}, {gib:.0f} GiB, {_driver()}, {runtime}", is_gpu=True)


def find_job() -> dict[str, Any]:
    """Return host, SLURM's job id and how often it restarted the job (None outside SLURM), and Snakemake's attempt (None by hand)."""
    job = os.environ.get("SLURM_JOB_ID")
    attempt = os.environ.get("CVDM_ATTEMPT", "")
    return {
        "host": platform.node(),
        "slurm_job_id": job,
        "restart_count": _restarts(job) if job else None,
        "attempt": int(attempt) if attempt.isdecimal() else None,
    }


def _restarts(job: str) -> int | None:
    # SLURM_RESTART_COUNT is taken away by Snakemake's job step.
    try:
        command = ["scontrol", "show", "job", "--oneliner", job]
        said = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bRestarts=(\d+)", said)
    return int(found[1]) if found else None


def _header(receipt: Receipt, device: Device, versions: Mapping[str, str]) -> list[str]:
    job = receipt.job
    where = [f"on {job['host']}"]
    if job["slurm_job_id"]:
        restarts = "?" if job["restart_count"] is None else job["restart_count"]
        where.append(f"SLURM job {job['slurm_job_id']}, restarted {restarts} times")
    if job["attempt"]:
        where.append(f"attempt {job['attempt']}")
    torch = sys.modules.get("torch")
    threads = f", {torch.get_num_threads()} threads" if torch and receipt.stage in USE_GPU else ""
    return [
        f"{receipt.subject} {', '.join(where)}, process {os.getpid()}",
        f"CPU {_processor()}, {_cores()} of {os.cpu_count()} cores allowed{threads}; GPU {device.text}",
        "versions " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"command {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
    ]


def _in_words(usage: Mapping[str, Any]) -> str:
    gpu = "" if usage["peak_gpu_memory_mb"] is None else f", {usage['peak_gpu_memory_mb']:.0f} MB of GPU memory"
    rate = usage["megapixels_per_second"]
    pace = f"; {usage['megapixels']:.4g} megapixels, {rate:.3g} a second" if rate else ""
    times = f"{usage['seconds']:.1f} s, {usage['cpu_seconds']:.1f} CPU s"
    return f"{times}, at its peak {usage['peak_memory_mb']:.0f} MB of memory{gpu}{pace}"


def _say(stage: str, text: str) -> None:
    print(f"cvdm {stage}: {text}", file=sys.stderr, flush=True)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _driver() -> str:
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    except OSError:  # a GPU of another make, or a container that hides it
        found = None
    return f"driver {found[1]}" if found else "driver unknown"


def _cpu_seconds() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _peak_memory_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
