"""What would fit, where a run does not."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from labkit.errors import LabError
from labkit.machine.hardware import GIB, hardware
from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig
from labkit.training.loop import _trains_embeddings
from labkit.training.memory_plan import plan_memory


def _check_fit(lm: LanguageModel, config: FinetuneConfig) -> None:
    if config.max_length > lm.context_length:
        found = f"{lm.name} was made for {lm.context_length}"
        raise LabError(f"max_length={config.max_length} is too long", found, f"max_length={lm.context_length}")
    if config.full_finetune and lm.bits < 16:
        raise LabError("quantised weights cannot be trained in full", f"bits={lm.bits}", "choose bits=16 or 32")


def _smaller(lm: LanguageModel, config: FinetuneConfig) -> str:
    """The smallest change whose memory plan fits this device, and is clearly below the plan of what did not fit."""
    hw = hardware()
    device = ((hw.gpu_memory_gb or hw.ram_gb) * GIB - 5e8) / 1e6  # without what Python or CUDA take themselves
    try:
        planned = _planned(lm, config)
    except LabError:  # there is no plan for every architecture, and this is the end of another error
        return "choose a smaller batch_size or max_length, or gradient_checkpointing=True"
    for change in _cheaper(config, lm.bits):
        if (smaller := _planned(lm, replace(config, **change))) < min(device, 0.9 * planned):
            changed = ", ".join(f"{name}={value}" for name, value in change.items())
            return f"{changed}: planned {smaller:,.0f} MB, where {planned:,.0f} MB did not fit"
    return "choose a smaller model"


def _cheaper(config: FinetuneConfig, bits: int) -> Iterator[dict[str, Any]]:
    """Changes that take ever less memory; each keeps those before it, the first ones change the least."""
    change: dict[str, Any] = {}
    rows, length = config.batch_size, config.max_length
    while rows > 1:  # the same steps in more passes
        rows //= 2
        passes = config.batch_size * config.gradient_accumulation_steps // rows
        yield (change := {"batch_size": rows, "gradient_accumulation_steps": passes})
    if not config.gradient_checkpointing:
        yield (change := {**change, "gradient_checkpointing": True})
    while length > 256:
        length = max(256, length // 2)
        yield (change := {**change, "max_length": length})
    if bits > 4:
        yield {**change, "bits": 4, **({"full_finetune": False} if config.full_finetune else {})}


def _planned(lm: LanguageModel, config: FinetuneConfig) -> float:
    """Megabytes of a step, by the memory plan."""
    same = ("optim", "double_quant", "full_finetune", "gradient_checkpointing", "use_dora", "use_rslora")
    options = {name: getattr(config, name) for name in same}
    options |= {name: getattr(config, f"lora_{name}") for name in ("r", "alpha", "modules")}
    options |= {"batch": config.batch_size, "length": config.max_length, "bits": config.bits or lm.bits}
    options |= {"dtype": lm.dtype, "train_embeddings": _trains_embeddings(lm, config)}
    return sum(plan_memory(lm.model.config, **options).values())
