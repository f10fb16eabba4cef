"""What a model reads: prompts, and examples with labels, as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from labkit.prompts.codec import TextCodec
from labkit.prompts.format import Segment

IGNORED = -100  # the label of tokens without a loss (torch.nn.CrossEntropyLoss.ignore_index)


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence. `labels` are IGNORED where there is no loss; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]
    dialogue_id: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model goes on from to answer one user turn."""

    input_ids: list[int]
    dialogue_id: str
    turn: int  # index of the bot turn among the bot turns of its dialogue


class Piece(NamedTuple):
    """Some segments as token ids, with a label for each."""

    ids: list[int]
    labels: list[int]


def tokenised(segments: Sequence[Segment], codec: TextCodec, train_on_source: bool = False) -> Piece:
    """The ids of some segments, and as labels the same ids where there is a loss."""
    ids: list[int] = []
    labels: list[int] = []
    for segment in segments:
        tokens = codec.encode(segment.text)
        has_loss = segment.target or (train_on_source and not segment.looked_up)
        ids.extend(tokens)
        labels.extend(tokens if has_loss else [IGNORED] * len(tokens))
    return Piece(ids, labels)


def tokens_of(segments: Sequence[Segment], codec: TextCodec) -> list[int]:
    """The ids of some segments, one after the other."""
    return tokenised(segments, codec).ids
