"""The machine in figures: device and its number type, memory, disk, processor."""

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from labkit.machine.device import (
    FAST_BF16,
    best_device,
    bf16_speedup,
    choose_dtype,
    has_float64,
    process_device,
)
from labkit.machine.paths import exists, lab_home

__all__ = [
    "FAST_BF16",
    "GIB",
    "Hardware",
    "bf16_speedup",
    "choose_dtype",
    "hardware",
    "has_float64",
    "process_device",
    "processor_name",
    "seed_everything",
]

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

    device = best_device()
    gpu_name, gpu_memory = _gpu(device)
    dtype, dtype_reason = choose_dtype(device)
    memory = min(psutil.virtual_memory().total, _container_memory())
    return Hardware(
        device=device,
        gpu_name=gpu_name,
        gpu_memory_gb=gpu_memory / GIB,
        cuda=torch.version.cuda or "",
        threads=torch.get_num_threads(),
        ram_gb=memory / GIB,
        disk_gb=_free_disk(lab_home()) / GIB,
        dtype=dtype,
        dtype_reason=dtype_reason,
    )


def _gpu(device: str) -> tuple[str, int]:
    """(name, bytes of memory) of this process's GPU; an Apple GPU has the machine's memory, and none of its own."""
    import torch

    if device == "mps":
        return "Apple GPU", 0
    if device != "cuda":
        return "", 0
    number = process_device(device).partition(":")[2]
    index = int(number or 0)
    return torch.cuda.get_device_name(index), torch.cuda.get_device_properties(index).total_memory


def _free_disk(folder: Path) -> int:
    """Free bytes where `folder` is, or will be."""
    for place in (folder, *folder.parents):
        if exists(place):
            return shutil.disk_usage(place).free
    return 0


def _container_memory() -> float:
    """The container's limit in bytes, which psutil does not see; infinite without one."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return float("inf")


def processor_name() -> str:
    """What the processor calls itself; platform's word for it where there is no /proc/cpuinfo (no Linux)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
