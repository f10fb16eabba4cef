"""What would fit, where a run does not."""

from collections.abc import Iterator
from dataclasses import replace

from labkit.errors import LabError
from labkit.machine.hardware import GIB, hardware
from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig
from labkit.training.embeddings import trains_embeddings
from labkit.training.memory_plan import plan_memory
from labkit.training.precision import computes_in

TAKEN = 5e8  # bytes that Python, or CUDA, takes itself
CLEARLY_LESS = 0.9  # of the plan that did not fit: a plan is no measurement
SHORTEST = 256  # tokens; below it, dialogues are cut into pieces of few turns

Change = dict[str, int | bool]


def smaller(lm: LanguageModel, config: FinetuneConfig) -> str:
    """The smallest change whose memory plan fits this device, and is clearly below the plan of what did not fit."""
    hw = hardware()
    room = ((hw.gpu_memory_gb or hw.ram_gb) * GIB - TAKEN) / 1e6  # MB
    try:
        planned = planned_megabytes(lm, config)
    except LabError:  # there is no plan for every architecture, and this is the end of another error
        return "choose a smaller batch_size or max_length, or gradient_checkpointing=True"
    for change in _cheaper(config, lm.bits, _rows_at_once(lm, config)):
        megabytes = planned_megabytes(lm, replace(config, **change))
        if megabytes < min(room, CLEARLY_LESS * planned):
            changed = ", ".join(f"{name}={value}" for name, value in change.items())
            return f"{changed}: planned {megabytes:,.0f} MB, where {planned:,.0f} MB did not fit"
    return "choose a smaller model"


def _cheaper(config: FinetuneConfig, bits: int, rows: int) -> Iterator[Change]:
    """Changes that take ever less memory; each keeps those before it, the first ones change the least.

    `rows` of a batch are in memory at once.
    """
    change: Change = {}
    while rows > 1:  # the same steps in more passes
        rows //= 2
        passes = config.batch_size * config.gradient_accumulation_steps // rows
        change = {"batch_size": rows, "gradient_accumulation_steps": passes}
        yield change
    if not config.gradient_checkpointing:
        change = {**change, "gradient_checkpointing": True}
        yield change
    length = config.max_length
    while length > SHORTEST:
        length = max(SHORTEST, length // 2)
        change = {**change, "max_length": length}
        yield change
    if bits > 4:
        change = {**change, "bits": 4}
        if config.full_finetune:
            change["full_finetune"] = False
        yield change


def planned_megabytes(lm: LanguageModel, config: FinetuneConfig) -> float:
    """Megabytes of a step, by the memory plan."""
    parts = plan_memory(
        lm.model.config,
        bits=config.bits or lm.bits,
        dtype=lm.dtype,
        batch=_rows_at_once(lm, config),
        length=config.max_length,
        optim=config.optim,
        double_quant=config.double_quant,
        full_finetune=config.full_finetune,
        train_embeddings=trains_embeddings(lm, config),
        gradient_checkpointing=config.gradient_checkpointing,
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        r=config.lora_r,
        alpha=config.lora_alpha,
        modules=config.lora_modules,
    )
    return sum(parts.values())


def _rows_at_once(lm: LanguageModel, config: FinetuneConfig) -> int:
    from labkit.training.parts import rows_at_once

    return rows_at_once(lm, config, computes_in(lm))
