"""Families that the tree is not proved for write through transformers' own `generate`.

A batch holds prompts of one length only, so that nothing has to be padded: a recurrent state would read the padding.
The next token is chosen here, from the filters and random numbers that the tree uses too; transformers does the rest.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

from labkit.decoding.config import DecodingConfig, transformers_options
from labkit.decoding.filters import TokenFilters, choose
from labkit.decoding.own_filters import apply_own
from labkit.decoding.rows import Row
from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.models.families import route_of
from labkit.models.finite import check_finite
from labkit.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

OnStep = Callable[[list[int]], None]  # called with the next token of every row, finished ones included

REFUSALS = (ValueError, TypeError, NotImplementedError, AttributeError, KeyError, IndexError)


def write(lm: LanguageModel, rows: Sequence[Row], config: DecodingConfig, on_step: OnStep | None = None) -> None:
    """Let rows with prompts of one length write their replies.

    Raises:
        LabError: contrastive search, logits that are not finite, a model that transformers cannot write with.
    """
    import torch

    if config.strategy == "contrastive":
        found = f"{route_of(lm.base).why_not}, and transformers has none"
        raise LabError(f"no contrastive search with {lm.name}", found, "use greedy, sample or beam")
    stop = set(lm.codec.stop_ids)
    ids = torch.tensor([row.prompt for row in rows], device=lm.base.device)  # [B, T]
    if config.strategy == "beam":
        chooser: Callable = _Checker(lm, rows, stop, config.num_beams)
        options = transformers_options(config)
    else:
        chooser = _Chooser(lm, rows, config, on_step)
        options = {"do_sample": False, "max_new_tokens": config.max_new_tokens}
    options["eos_token_id"] = sorted(stop) or None
    options["pad_token_id"] = 0  # never read again: what comes after a stop token is cut off
    mask = torch.ones_like(ids)  # [B, T]
    try:
        written = _plain(lm.base).generate(ids, attention_mask=mask, logits_processor=[chooser], **options)
    except REFUSALS as error:
        what = f"transformers cannot write with {lm.name}, a {lm.base.config.model_type!r} model"
        raise LabError(what, first_line(error), "choose another model") from error
    replies = written[:, ids.shape[1] :].tolist()
    for row, tokens in zip(rows, replies, strict=True):
        row.reply = _until_stop(tokens, stop)


def stream(lm: LanguageModel, row: Row, config: DecodingConfig) -> Iterator[int]:
    """The tokens of one reply as they are written, the stop token included.

    `generate` calls and cannot be asked, so it runs in a thread of its own, as with transformers' own streamers; it
    ends at its next token when nobody asks any more.
    """
    steps: SimpleQueue[list[int] | BaseException | None] = SimpleQueue()
    abandoned = Event()

    def hand_over(tokens: list[int]) -> None:
        if abandoned.is_set():
            raise _AbandonedError
        steps.put(tokens)

    def run() -> None:
        try:
            write(lm, [row], config, hand_over)
        except BaseException as error:  # of whatever kind: it is raised where the tokens are asked for
            steps.put(error)
        else:
            steps.put(None)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while (step := steps.get()) is not None:
            if isinstance(step, BaseException):
                raise step
            yield step[0]
    finally:
        abandoned.set()
        thread.join()


class _AbandonedError(Exception):
    """Nobody wants the rest of a reply."""


def _plain(model: "PreTrainedModel") -> "PreTrainedModel":
    """The same model without settings of its checkpoint's author: a penalty or forced tokens would change the text."""
    from transformers import GenerationConfig

    plain = copy.copy(model)  # shares all weights and layers
    plain.generation_config = GenerationConfig()
    return plain


def _until_stop(tokens: list[int], stop: set[int]) -> list[int]:
    for at, token in enumerate(tokens):
        if token in stop:
            return tokens[:at]
    return tokens


class _Checker:
    """A step of beam search in `generate`: only the caller's own filters, and it stops where logits are not finite."""

    def __init__(self, lm: LanguageModel, rows: Sequence[Row], stop: set[int], num_beams: int):
        self.lm = lm
        self.stop = stop
        self.rows = [row for row in rows for _ in range(num_beams)]  # the beams of a prompt stand together

    def __call__(self, tokens: "Tensor", scores: "Tensor") -> "Tensor":
        check_finite(scores, self.lm)
        return apply_own(scores, with_replies(self.rows, tokens, self.stop))


def with_replies(rows: Sequence[Row], tokens: "Tensor", stop: set[int]) -> list[Row]:
    """The rows with what they have written in `tokens` [B, T]; one that has ended is no longer filtered."""
    if not any(row.filters for row in rows):  # then nobody asks for them
        return list(rows)
    writing = []
    for row, ids in zip(rows, tokens.tolist(), strict=True):
        reply = ids[len(row.prompt) :]
        ended = not stop.isdisjoint(reply)
        writing.append(replace(row, reply=reply, filters=() if ended else row.filters))
    return writing


class _Chooser:
    """Chooses the next token of every row, and leaves `generate` nothing else to choose.

    It is given as a logits processor: all tokens but the chosen one get -inf.
    """

    def __init__(self, lm: LanguageModel, rows: Sequence[Row], config: DecodingConfig, on_step: OnStep | None):
        self.lm = lm
        self.rows = rows
        self.config = config
        self.stop = set(lm.codec.stop_ids)
        self.filtered = TokenFilters(config, self.stop)
        self.on_step = on_step
        self.length = 0

    def __call__(self, tokens: "Tensor", logits: "Tensor") -> "Tensor":
        """From tokens so far [B, T] and logits [B, V]: scores [B, V] that allow one token in every row."""
        import torch

        check_finite(logits, self.lm)
        self.length += 1
        writing = with_replies(self.rows, tokens, self.stop)
        scores = self.filtered(logits.float(), self.length, lambda: tokens, writing)
        chosen = choose(scores, self.rows, self.config)
        if self.on_step:
            self.on_step(chosen)
        column = torch.tensor(chosen, device=logits.device)[:, None]  # [B, 1]
        return torch.full_like(logits, -torch.inf).scatter(1, column, 0.0)
