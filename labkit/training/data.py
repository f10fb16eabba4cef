"""Dialogues as batches with labels, in an order that the seed and the epoch decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from labkit.corpora.search import VenueDatabase
from labkit.corpora.types import Corpus, Dialogue
from labkit.errors import LabError
from labkit.prompts.build import examples
from labkit.prompts.codec import TextCodec
from labkit.prompts.sequences import IGNORED
from labkit.training.config import FinetuneConfig

if TYPE_CHECKING:
    import datasets
    import torch

Row = dict[str, list[int]]


def split_dialogues(corpus: Corpus, config: FinetuneConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    """(training, validation) dialogues: whole ones, drawn with the seed, and none in both.

    Raises:
        LabError: no such split, or no training dialogue is left.
    """
    train = list(corpus[config.train_split])
    dev = list(corpus[config.dev_split]) if config.eval_steps else []
    Random(config.seed).shuffle(train)
    if dev and corpus[config.train_split] is corpus[config.dev_split]:
        held_out = min(config.max_dev_dialogues, len(train) // 5)
        dev = train[:held_out]
        train = train[held_out:]
    train = train[: config.max_train_dialogues]
    if not train:
        raise LabError(f"no training dialogues in {config.train_split!r}", corpus.name, "choose another split")
    n_dev = min(len(dev), config.max_dev_dialogues)
    return train, Random(config.seed).sample(dev, n_dev)


def dataset_of(
    dialogues: Sequence[Dialogue], codec: TextCodec, config: FinetuneConfig, database: VenueDatabase | None = None
) -> "datasets.Dataset":
    """One row a training sequence: input_ids, labels, length. The `db` format looks states up in `database`."""
    import datasets

    rows = []
    for dialogue in dialogues:
        sequences = examples(
            dialogue,
            codec,
            format=config.format,
            recipe=config.recipe,
            max_length=config.max_length,
            lexical=config.lexical,
            train_on_source=config.train_on_source,
            database=database,
        )
        for example in sequences:
            row = {"input_ids": example.input_ids, "labels": example.labels, "length": len(example.input_ids)}
            rows.append(row)
    return datasets.Dataset.from_list(rows)


@dataclass(frozen=True)
class Collator:
    """Rows of different length → one batch, filled up on the right. The labels are IGNORED where nothing is learnt."""

    pad_id: int

    def __call__(self, rows: list[Row]) -> dict[str, "torch.Tensor"]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)  # T
        ids, mask, labels = [], [], []
        for row in rows:
            n_real = len(row["input_ids"])
            n_fill = longest - n_real
            ids.append(row["input_ids"] + [self.pad_id] * n_fill)
            mask.append([1] * n_real + [0] * n_fill)
            labels.append(row["labels"] + [IGNORED] * n_fill)
        batch = {
            "input_ids": torch.tensor(ids),  # [B, T]
            "attention_mask": torch.tensor(mask),  # [B, T]
            "labels": torch.tensor(labels),  # [B, T]
        }
        batch["labels"][:, 0] = IGNORED  # nothing comes before the first token, so nothing predicts it
        return batch


class EpochOrder:
    """The order of the rows in an epoch: a function of the seed and the epoch, and of nothing else.

    Trainer's own samplers draw from torch's global generator, so that a run which went on in its second epoch saw
    another order than one that nobody stopped. With `lengths`, rows of similar length stand together.
    """

    def __init__(self, n_rows: int, seed: int, *, lengths: Sequence[int] | None = None, rows_per_step: int = 1):
        self.n_rows = n_rows
        self.seed = seed
        self.lengths = lengths
        self.rows_per_step = rows_per_step
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        import torch
        from transformers.trainer_pt_utils import get_length_grouped_indices

        mixed = Random(f"{self.seed}/{self.epoch}").getrandbits(63)
        generator = torch.Generator().manual_seed(mixed)
        if self.lengths is None:
            order = torch.randperm(self.n_rows, generator=generator).tolist()
        else:
            order = get_length_grouped_indices(self.lengths, self.rows_per_step, generator=generator)
        return iter(order)
