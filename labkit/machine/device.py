"""What is asked of a device: which one is this process's, what it computes in, how its memory errors read."""

import os
import timeit
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FAST_BF16 = 1.3  # a CPU with units for bfloat16 measures about 2, one without them far below 1
HOPELESS = 0.2  # a bfloat16 product that much slower is timed once, not fifty times
FULL = (  # in the text of a RuntimeError; accelerate knows most of these words, and more, but not all
    "out of memory",  # CUDA, HIP, XPU and MPS, with "error:" before it or without
    "not enough memory",  # torch's allocator on a CPU
    "can't allocate memory",
    "could not create a primitive",  # oneDNN's word for it
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def best_device() -> str:
    """The kind of device that torch would use: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def device_kind(device: str) -> str:
    """The device without its number: "cuda" for "cuda:1"."""
    return device.partition(":")[0]


def process_device(device: str) -> str:
    """The device of this process: with several GPUs and a process for each, the one that LOCAL_RANK names.

    A quantised model on "cuda" instead of "cuda:1" would be refused by accelerate in the second process (compare trl's
    get_kbit_device_map). Where a batch system shows each process its own GPU only, that one has the number 0.
    """
    rank = os.environ.get("LOCAL_RANK", "")
    if device != "cuda" or not rank.isdecimal():
        return device
    return f"cuda:{int(rank) % _visible_gpus()}"


def _visible_gpus() -> int:
    import torch

    return torch.cuda.device_count() or int(os.environ.get("LOCAL_RANK", "0")) + 1


# --- number types -----------------------------------------------------------------------------------------------------


def choose_dtype(device: str) -> tuple[str, str]:
    """(dtype, reason) for a device. float32 on a CPU even where bfloat16 is fast: scores stay comparable."""
    kind = device_kind(device)
    if kind == "cuda":
        return _gpu_dtype(device)
    if kind == "mps":
        return "float32", "the safe type on an Apple GPU"
    return "float32", f"scores stay comparable; {_bf16_in_words()}"


def _gpu_dtype(device: str) -> tuple[str, str]:
    import torch

    number = process_device(device).partition(":")[2]
    gpu = [int(number)] if number else []  # none: torch's current device
    major, minor = torch.cuda.get_device_capability(*gpu)
    if major >= 8 and torch.cuda.is_bf16_supported():  # which is True for emulation as well: ask both
        return "bfloat16", f"compute capability {major}.{minor} has bfloat16 units"
    return "float16", f"compute capability {major}.{minor} has no bfloat16 units"


def _bf16_in_words() -> str:
    speedup = bf16_speedup()
    use = "bits=16"
    if speedup > FAST_BF16:
        use += ", and training wide models at 4 bits"
    return f"bfloat16 has {speedup:.2g}x its speed here, measured ({use})"


def has_float64(device: str) -> bool:
    """Whether a device computes in float64; an Apple GPU does not (pytorch issue 122602)."""
    return device_kind(device) != "mps"


@cache
def bf16_speedup() -> float:
    """Measured speed of a bfloat16 matrix product over a float32 one on this CPU; 0.02 to 1 without hardware for it.

    Two or so with such hardware: what a 4-bit training run computes in is decided by it.
    """
    import torch

    in_float32 = _fastest(_product(torch.float32), times=50)
    product = _product(torch.bfloat16)
    first_tries = _fastest(product, times=2)
    if in_float32 / first_tries < HOPELESS:
        return in_float32 / first_tries
    return in_float32 / _fastest(product, times=50)


def _product(dtype: "torch.dtype") -> Callable[[], object]:
    import torch

    left = torch.ones(64, 512, dtype=dtype)
    right = torch.ones(512, 512, dtype=dtype)
    return lambda: left @ right


def _fastest(call: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of many calls: other work on the machine only ever adds."""
    return min(timeit.repeat(call, number=1, repeat=times))


# --- memory -----------------------------------------------------------------------------------------------------------


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a GPU, an Apple GPU or the machine is full."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return any(sign in text for sign in FULL) or should_reduce_batch_size(error)


def free_memory() -> None:
    """Give back what nothing holds any more, on whatever device there is (accelerate knows CUDA, MPS, XPU, NPU …).

    Call it after the error is let go: its traceback holds tensors.
    """
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)
