"""Dialogues as batches with labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Corpus, Dialogue
from labkit.errors import LabError
from labkit.prompts.build import examples
from labkit.prompts.codec import TextCodec
from labkit.prompts.sequences import IGNORED, Example
from labkit.training.config import FinetuneConfig

if TYPE_CHECKING:
    import torch


def split_dialogues(corpus: Corpus, config: FinetuneConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    """(training, validation) dialogues: whole ones, drawn with the seed, and none in both.

    Raises:
        LabError: no such split, or no training dialogue is left.
    """
    train, dev = list(corpus[config.train_split]), list(corpus[config.dev_split]) if config.eval_steps else []
    Random(config.seed).shuffle(train)
    if dev and corpus[config.train_split] is corpus[config.dev_split]:
        held_out = min(config.max_dev_dialogues, len(train) // 5)
        dev, train = train[:held_out], train[held_out:]
    train = train[: config.max_train_dialogues]
    if not train:
        raise LabError(f"no training dialogues in {config.train_split!r}", corpus.name, "choose another split")
    return train, Random(config.seed).sample(dev, min(len(dev), config.max_dev_dialogues))


def _dataset(dialogues: Sequence[Dialogue], codec: TextCodec, config: FinetuneConfig) -> Any:
    """A `datasets.Dataset` with one row a training sequence: input_ids, labels, length."""
    import datasets

    options = {name: getattr(config, name) for name in ("format", "recipe", "max_length", "lexical", "train_on_source")}
    rows: list[Example] = [example for dialogue in dialogues for example in examples(dialogue, codec, **options)]
    return datasets.Dataset.from_list(
        [{"input_ids": row.input_ids, "labels": row.labels, "length": len(row.input_ids)} for row in rows]
    )


@dataclass(frozen=True)
class Collator:
    """Rows of different length → one batch, filled up on the right. The labels are IGNORED where nothing is learnt."""

    pad_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        fill = [longest - len(row["input_ids"]) for row in rows]
        ids = torch.tensor([row["input_ids"] + [self.pad_id] * n for row, n in zip(rows, fill, strict=True)])  # [B, T]
        mask = torch.tensor([[1] * (longest - n) + [0] * n for n in fill])  # [B, T]
        labels = torch.tensor([row["labels"] + [IGNORED] * n for row, n in zip(rows, fill, strict=True)])  # [B, T]
        labels[:, 0] = IGNORED  # nothing comes before the first token, so nothing predicts it
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}
