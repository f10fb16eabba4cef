"""What a run writes about itself, and reads when it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import LanguageModel, save_adapter, save_model
from labkit.training.config import SCORES, FinetuneConfig

if TYPE_CHECKING:
    from transformers import Trainer


def write_weights(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, folder: Path) -> None:
    """The first process writes the adapter or model; with FSDP each process has a part of it to hand in."""
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        (save_model if config.full_finetune else save_adapter)(lm, folder, state)


def history_of(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses and scores by step, for a plot."""
    rows = [row for row in log if "loss" in row or "eval_loss" in row]
    kept = {"step", "loss", "learning_rate", "eval_sample", *(f"eval_{name}" for name in SCORES)}
    return [{key: value for key, value in row.items() if key in kept} for row in rows]
