"""Where and how precisely the network runs. Decided once, at the edge, and handed in."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext

import torch

from cvdm_core.errors import DeviceError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # names and numbers of glibc's malloc.h


GIVEN_BY = "CUDA_VISIBLE_DEVICES"
"""SLURM sets it in each job that was given GPUs, of AMD too; unlike SLURM's own variables it reaches the programs of Snakemake's jobs."""


def given_gpus() -> int:
    """Return how many GPUs this process was given, by number or by name; 0 where nobody says so."""
    names = os.environ.get(GIVEN_BY, "").split(",")
    return sum(1 for name in names if name.strip().isdecimal() or name.strip().startswith(("GPU-", "MIG-")))


def choose_device() -> torch.device:
    """Return the first CUDA (or ROCm) device, else the CPU.

    Raises
    ------
    DeviceError
        If this process was given GPUs, and torch finds fewer: a night on a CPU in place of a GPU would help nobody.
    """
    given = given_gpus()
    if given > (found := torch.cuda.device_count() if torch.cuda.is_available() else 0):
        built = "" if torch.version.cuda or torch.version.hip else " (this build of torch is for CPUs: `make env TORCH=...` takes another)"
        raise DeviceError(
            f"{platform.node()}: this process was given {given} GPUs ({GIVEN_BY}={os.environ[GIVEN_BY]}), and torch finds {found}{built}; "
            "have the node looked at, or do without GPUs (docs/cluster.md)."
        )
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype in which convolutions run.

    `auto` takes bfloat16 only where the hardware multiplies in it: a CPU without AVX-512-BF16 or AMX converts back and forth and is nine
    times slower than in float32 (measured on AVX2).

    Raises
    ------
    ValueError
        If `name` is none of "auto", "float32", "bfloat16".
    """
    if name in ("float32", "bfloat16"):
        return torch.float32 if name == "float32" else torch.bfloat16
    if name != "auto":
        raise ValueError(f"precision {name!r} is none of auto, float32, bfloat16")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        native = bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which the network is called to restore; on a CPU, float32 is what it is without."""
    if dtype != torch.float32:
        return torch.autocast(device.type, dtype=dtype)
    return repeatable() if device.type == "cuda" else nullcontext()


def repeatable() -> AbstractContextManager[object]:
    """Return the context in which cuDNN adds in the same order each time, and in which float32 means float32.

    Unless told otherwise, PyTorch lets it choose other algorithms, and convolve in TF32 (10 bits of mantissa). On a CPU it changes nothing.
    """
    flags: AbstractContextManager[object] = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    return flags


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next tensor instead of giving it back to the system.

    By default every large tensor is mapped anew and its pages are zeroed by the kernel again: on a CPU that was 20 to
    40 % of the time of a step (benchmarks/allocation.py). Does nothing where the C library has no `mallopt` (macOS, musl).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**28)
