"""Generation that gives each prompt what it would get alone, and a look at a step of it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.decoding.batches import _batches, _rows
from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import entropy, filter_stages, remaining
from labkit.decoding.search import _beams, _write
from labkit.decoding.tree import _Group, _Steps, _Tree
from labkit.errors import LabError
from labkit.models import LanguageModel, memory_errors

if TYPE_CHECKING:
    import numpy as np


def next_token_logits(lm: LanguageModel, prompt: Sequence[int]) -> "np.ndarray":
    """Logits [V] of the token after `prompt`, in float32."""
    import torch

    check_room(lm, [list(prompt)], 0)
    with torch.inference_mode():
        return lm.base(torch.tensor([list(prompt)], device=lm.base.device)).logits[0, -1].float().cpu().numpy()


def generate(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    config: DecodingConfig | None = None,
    *,
    keys: Sequence[str] | None = None,
    on_batch: Callable[[dict[int, list[int]]], None] | None = None,
) -> list[list[int]]:
    """New token ids for each prompt, without the stop token; in the order of `prompts`.

    In float32 a prompt gets what it would get alone. In half precision its neighbours can tip a near tie, and in 8 bit
    they matter by design: LLM.int8 takes columns with outliers out of a whole batch.

    Args:
        keys: a name for each prompt's random numbers; by default the prompt itself and how often it came before.
        on_batch: called with {index: reply} when some are done, so that an interrupted run can keep them.

    Raises:
        LabError: a prompt that is empty or leaves no room for a reply, out of memory.
    """
    config = config or DecodingConfig()
    check_room(lm, prompts, config.max_new_tokens)
    replies: dict[int, list[int]] = {}
    beams = config.num_beams if config.strategy == "beam" else 1  # every beam is a row
    for groups in _batches(_rows(prompts, keys, config.seed), max(1, config.batch_size // beams)):
        with memory_errors(f"choose a batch_size below {config.batch_size}, or a smaller max_new_tokens"):
            deque(_steps(lm, groups, config), maxlen=0)
        new = {row.index: row.reply for group in groups for row in group}
        replies |= new
        if on_batch:
            on_batch(new)
    return [replies[i] for i in range(len(prompts))]


def stream(lm: LanguageModel, prompt: list[int], config: DecodingConfig | None = None) -> Iterator[int]:
    """The token ids of one reply as they are written, its stop token included.

    Raises:
        LabError: as `generate`, and for beam search, which knows its first token last.
    """
    config = config or DecodingConfig()
    if config.strategy == "beam":
        raise LabError("beam search cannot stream", "it decides on a reply when all beams end", "use generate")
    check_room(lm, [prompt], config.max_new_tokens)
    for ((_, token),) in _steps(lm, [_rows([prompt], None, config.seed)], config):
        yield token


@dataclass(frozen=True)
class Step:
    """How one token of a reply was chosen."""

    token: int
    candidates: int  # tokens that the filters left; 1 where nothing is drawn
    probability: float  # of the token among them
    entropy: float  # bits, of what the filters left


def reply_steps(lm: LanguageModel, prompt: list[int], config: DecodingConfig) -> list[Step]:
    """Write one reply and say how each token came about; the stop token is the last step."""
    import torch

    reply, steps = list(stream(lm, prompt, config)), []
    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *reply]], device=lm.base.device)
        logits = lm.base(ids, logits_to_keep=len(reply) + 1).logits[0, :-1].float().cpu()  # [T, V]
        logits[: config.min_new_tokens, lm.codec.stop_ids] = -float("inf")
    for at, token in enumerate(reply):
        left = remaining(logits[at].numpy(), filter_stages(logits[at], config, [*prompt, *reply[:at]]))
        candidates = int((left > 0).sum()) if config.strategy == "sample" else 1
        steps.append(Step(token, candidates, float(left[token]), entropy(left)))
    return steps


def _steps(lm: LanguageModel, groups: list[_Group], config: DecodingConfig) -> _Steps:
    write = _beams if config.strategy == "beam" else _write
    return write(_Tree(lm, groups, config.strategy == "contrastive"), config, set(lm.codec.stop_ids))


def check_room(lm: LanguageModel, prompts: Sequence[list[int]], new: int) -> None:
    """Raises LabError where a prompt is empty, or longer than leaves room for `new` tokens."""
    longest = max(map(len, prompts), default=1)
    if not all(prompts):
        raise LabError("an empty prompt", "", "give at least one token, for instance codec.end")
    if longest + new > lm.context_length:
        found = f"{longest} tokens of prompt and {new} of reply"
        raise LabError(f"{lm.name} reads {lm.context_length} tokens", found, "lower max_length or max_new_tokens")
