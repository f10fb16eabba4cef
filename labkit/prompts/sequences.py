"""What a model reads: prompts, and examples with labels, as token ids."""

from dataclasses import dataclass
from itertools import accumulate

from labkit.prompts.codec import TextCodec
from labkit.prompts.format import Exchange

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


def _tokens(exchange: Exchange, codec: TextCodec, train_on_source: bool = False) -> tuple[list[int], list[int]]:
    """(ids, labels) of one exchange."""
    pieces = [(codec.encode(segment.text), segment.target or train_on_source) for segment in exchange]
    ids = [token for piece, _ in pieces for token in piece]
    labels = [token if target else IGNORED for piece, target in pieces for token in piece]
    return ids, labels


def _latest(pieces: list[list[int]], room: int) -> list[list[int]]:
    """The longest tail of `pieces` with at most `room` tokens; the last piece is always kept."""
    sizes = accumulate(len(piece) for piece in reversed(pieces))  # of the last one, the last two …
    return pieces[-max(1, sum(size <= room for size in sizes)) :]
