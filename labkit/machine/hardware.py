"""The device, its number type, memory and disk."""

import os
import shutil
import timeit
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labkit.machine.paths import lab_home

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """The device and its number type. Memory and disk in GiB (disk: what is free where results go)."""

    device: str  # "cpu" | "cuda" | "mps"
    gpu_name: str
    gpu_memory_gb: float
    cuda: str  # the version that torch was built for; "" for a CPU build
    threads: int
    ram_gb: float
    disk_gb: float
    dtype: str  # "float32" | "bfloat16" | "float16"
    dtype_reason: str


def hardware() -> Hardware:
    """The device that torch would use, and a number type that it is fast in."""
    import psutil
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    gpu, memory = "Apple GPU" if device == "mps" else "", 0
    if device == "cuda":
        gpu, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    ram = min(psutil.virtual_memory().total, _container_memory())
    disk = shutil.disk_usage(next(folder for folder in (lab_home(), *lab_home().parents) if folder.exists())).free
    sizes = (torch.get_num_threads(), ram / GIB, disk / GIB)
    return Hardware(device, gpu, memory / GIB, torch.version.cuda or "", *sizes, *choose_dtype(device))


def choose_dtype(device: str) -> tuple[str, str]:
    """(dtype, reason) for a device. float32 on a CPU even where bfloat16 is fast: scores stay comparable."""
    import torch

    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        if major >= 8 and torch.cuda.is_bf16_supported():  # which is True for emulation as well: ask both
            return "bfloat16", f"compute capability {major}.{minor} has bfloat16 units"
        return "float16", f"compute capability {major}.{minor} has no bfloat16 units"
    if device == "mps":
        return "float32", "the safe type on an Apple GPU"
    trains = ", and training at 4 bits" if bf16_speedup() > FAST_BF16 else ""
    speed = f"bfloat16 has {bf16_speedup():.2g}x its speed here, measured (bits=16{trains})"
    return "float32", f"scores stay comparable; {speed}"


FAST_BF16 = 1.3  # a CPU with units for bfloat16 measures about 2, one without them far below 1


@cache
def bf16_speedup() -> float:
    """Measured speed of a bfloat16 matrix product over a float32 one on this CPU; 0.02 to 1 without hardware for it.

    Two or so with such hardware: what a 4-bit training run computes in is decided by it.
    """
    import torch

    def seconds(dtype: torch.dtype) -> float:  # the fastest of many: other work on the machine only ever adds
        x = torch.ones(512, 512, dtype=dtype)
        return min(timeit.repeat("x[:64] @ x", globals={"x": x}, number=5, repeat=10))

    return seconds(torch.float32) / seconds(torch.bfloat16)


def _container_memory() -> float:
    """The container's limit in bytes, which psutil does not see; infinite without one."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return float("inf")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def process_device(device: str) -> str:
    """The device of this process: with several GPUs and a process for each, the one that LOCAL_RANK names.

    A quantised model on "cuda" instead of "cuda:1" would be refused by accelerate in the second process (compare trl's
    get_kbit_device_map).
    """
    rank = os.environ.get("LOCAL_RANK", "")
    if device == "cuda" and rank.isdigit():
        return f"cuda:{rank}"
    return device
