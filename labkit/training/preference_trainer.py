"""transformers' Trainer on pairs of replies. Importing this module imports torch and transformers."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import torch

from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.models.likelihood import log_probabilities
from labkit.prompts.sequences import IGNORED
from labkit.training.config import FinetuneConfig, PreferenceLoss
from labkit.training.data import Collator
from labkit.training.trainer import TargetTrainer, make_trainer

Pair = dict[str, list[int] | list[float]]  # a row of the data set
Batch = dict[str, torch.Tensor]


class PreferenceTrainer(TargetTrainer):
    """Trainer with a loss on the log-probabilities of chosen and rejected replies."""

    loss: PreferenceLoss  # these two are set by make_preference_trainer
    beta: float

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        inputs = dict(inputs)
        reference = inputs.pop("reference")  # [B, 2] chosen, rejected
        self.target_tokens = self.target_tokens + (inputs["labels"][:, 1:] != IGNORED).sum()
        found = log_probabilities(model, **inputs)  # [2B] chosen and rejected in turn
        chosen, rejected = found[::2], found[1::2]  # [B]
        loss = self.loss(chosen, rejected, reference[:, 0], reference[:, 1], self.beta)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            found_instead = f"{type(loss).__name__} {getattr(loss, 'shape', '')}"
            raise LabError("the loss is no single number with a gradient", found_instead, "return the mean over pairs")
        return loss.reshape(())


class PairCollator:
    """Pairs → one batch: chosen and rejected in turn, [2B, T], and the reference's log-probabilities [B, 2]."""

    def __init__(self, pad_id: int):
        self.collate = Collator(pad_id)

    def __call__(self, pairs: Sequence[Pair]) -> Batch:
        rows = []
        for pair in pairs:
            rows.append({"input_ids": pair["chosen_ids"], "labels": pair["chosen_labels"]})
            rows.append({"input_ids": pair["rejected_ids"], "labels": pair["rejected_labels"]})
        batch = self.collate(rows)
        batch["reference"] = torch.tensor([pair["reference"] for pair in pairs])  # [B, 2]
        return batch


def make_preference_trainer(
    lm: LanguageModel,
    pairs: datasets.Dataset,
    config: FinetuneConfig,
    *,
    out: Path,
    step_type: str,
    loss: PreferenceLoss,
    beta: float,
) -> PreferenceTrainer:
    """A Trainer for `lm` as it is, on the rows of `labkit.training.preferences`."""
    trainer = make_trainer(
        lm,
        pairs,
        pairs.select([]),
        config,
        out=out,
        step_type=step_type,
        score=dict,
        kind=PreferenceTrainer,
    )
    trainer.data_collator = PairCollator(lm.codec.pad_id)
    trainer.model_accepts_loss_kwargs = False  # the loss is a mean over pairs: Trainer divides by the passes of a step
    trainer.in_parts = False  # the loss is one of chosen and rejected together
    trainer.loss = loss
    trainer.beta = beta
    return trainer
