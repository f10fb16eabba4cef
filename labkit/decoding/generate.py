"""Generation that gives each prompt what it would get alone, and a look at a step of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from labkit.decoding import own_generate
from labkit.decoding.batches import equal_length_batches, make_rows, tree_batches
from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import entropy, filter_stages, remaining
from labkit.decoding.own_filters import check_filters
from labkit.decoding.parts import n_parts, parts_of
from labkit.decoding.rows import Group, Kept, OwnFilter, Steps
from labkit.decoding.search import beams, write
from labkit.decoding.tree import Tree
from labkit.errors import LabError
from labkit.machine.threads import side_by_side
from labkit.models import LanguageModel, memory_errors
from labkit.models.families import route_of
from labkit.models.finite import check_finite
from labkit.models.packed import packed_weights
from labkit.models.token_ids import check_token_ids

if TYPE_CHECKING:
    import numpy as np


def next_token_logits(lm: LanguageModel, prompt: Sequence[int]) -> "np.ndarray":
    """Logits [V] of the token after `prompt`, in float32.

    Raises:
        LabError: an empty prompt or one that the model is too short for, logits that are not finite.
    """
    check_room(lm, [prompt], 0)
    return _last_logits(lm, prompt, 1)[0]


def _last_logits(lm: LanguageModel, tokens: Sequence[int], last: int) -> "np.ndarray":
    """Logits [last, V] after each of the `last` last tokens, in float32."""
    import torch

    ids = torch.tensor([list(tokens)], device=lm.base.device)  # [1, T]
    options = {}
    if route_of(lm.base).by_tree:  # others may not know the word
        options["logits_to_keep"] = last
    with torch.inference_mode():
        out = lm.base(ids, **options)
    every = out.logits[0]  # [last or T, V]
    logits = every[-last:].float().cpu()
    check_finite(logits, lm)
    return logits.numpy()


def generate(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    config: DecodingConfig | None = None,
    *,
    keys: Sequence[str] | None = None,
    filters: Sequence[OwnFilter] = (),
    kept: Sequence[Kept | None] = (),
    on_batch: Callable[[dict[int, list[int]]], None] | None = None,
) -> list[list[int]]:
    """New token ids for each prompt, without the stop token; in the order of `prompts`.

    In float32 a prompt gets what it would get alone: from the tree for the families of `labkit.models.families`, from
    transformers' own `generate` for all others. In half precision its neighbours can tip a near tie, and in 8 bit they
    matter by design: LLM.int8 takes columns with outliers out of a whole batch.

    Args:
        keys: a name for each prompt's random numbers; by default the prompt itself and how often it came before.
        filters: functions of your own, (scores [V], written) → scores [V], called for each prompt at each step before
            the filters of the configuration; `written` has the `index` of the prompt, the `prompt` and the `reply` so
            far. A token is forbidden by -inf.
        kept: what was read of each prompt's conversation before (`labkit.decoding.kept`), which is renewed: only what
            is new is read. It changes the speed, not the text; contrastive search and families without a tree do not
            use it.
        on_batch: called with {index: reply} when some are done, so that an interrupted run can keep them.

    Raises:
        LabError: a prompt that is empty or leaves no room for a reply, logits that are not finite, out of memory, a
            filter of your own that fails or leaves no token.
    """
    config = config or DecodingConfig()
    check_room(lm, prompts, config.max_new_tokens)
    _check_candidates(lm, config)
    check_filters(filters)
    if config.strategy == "contrastive":  # it looks back at hidden states, which are not kept
        kept = ()
    rows = make_rows(prompts, keys, config.seed, filters, kept)
    per_prompt = config.num_beams if config.strategy == "beam" else 1  # every beam is a row
    size = max(1, config.batch_size // per_prompt)
    batches = tree_batches if route_of(lm.base).by_tree else equal_length_batches
    replies: dict[int, list[int]] = {}
    with packed_weights(lm.base, per_prompt * len(rows)):
        for groups in batches(rows, size):
            with memory_errors(f"choose a batch_size below {config.batch_size}, or a smaller max_new_tokens"):
                write_batch(lm, groups, config)
            new = {row.index: row.reply for group in groups for row in group}
            replies.update(new)
            if on_batch:
                on_batch(new)
    return [replies[i] for i in range(len(prompts))]


def write_batch(lm: LanguageModel, groups: list[Group], config: DecodingConfig) -> None:
    """Let all rows of some groups write, the way that their family takes."""
    if not route_of(lm.base).by_tree:
        own_generate.write(lm, [row for group in groups for row in group], config)
        return
    nobody_waits = Event()

    def write_part(part: list[Group]) -> None:
        for _ in _tree_steps(lm, part, config):
            if nobody_waits.is_set():
                return

    parts = parts_of(groups, n_parts(lm, groups), config.max_new_tokens)
    for _ in side_by_side(write_part, parts, nobody_waits):
        pass


def _tree_steps(lm: LanguageModel, groups: list[Group], config: DecodingConfig) -> Steps:
    tree = Tree(lm, groups, contrastive=config.strategy == "contrastive")
    search = beams if config.strategy == "beam" else write
    return search(tree, config, set(lm.codec.stop_ids))


def stream(
    lm: LanguageModel,
    prompt: list[int],
    config: DecodingConfig | None = None,
    *,
    key: str | None = None,
    filters: Sequence[OwnFilter] = (),
) -> Iterator[int]:
    """The token ids of one reply as they are written, its stop token included.

    `key` names the random numbers, and `filters` are one's own, as in `generate`.

    Raises:
        LabError: as `generate`, and for beam search, which knows its first token last.
    """
    config = config or DecodingConfig()
    if config.strategy == "beam":
        raise LabError("beam search cannot stream", "it decides on a reply when all beams end", "use generate")
    check_room(lm, [prompt], config.max_new_tokens)
    _check_candidates(lm, config)
    check_filters(filters)
    keys = None if key is None else [key]
    rows = make_rows([prompt], keys, config.seed, filters)
    with packed_weights(lm.base, n_rows=1):
        if route_of(lm.base).by_tree:
            yield from _tokens_of_the_row(_tree_steps(lm, [rows], config))
        else:
            yield from own_generate.stream(lm, rows[0], config)


def _tokens_of_the_row(steps: Steps) -> Iterator[int]:
    """The tokens of a batch of one row."""
    for step in steps:
        _, token = step[0]
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
    reply = list(stream(lm, prompt, config))
    tokens = [*prompt, *reply]
    logits = _last_logits(lm, tokens, len(reply) + 1)  # [T + 1, V]: row t is before token t of the reply
    logits[: config.min_new_tokens, lm.codec.stop_ids] = -float("inf")
    draws = config.strategy == "sample"
    steps = []
    for at, token in enumerate(reply):
        context = tokens[: len(prompt) + at]
        stages = filter_stages(logits[at], config, context)
        left = remaining(logits[at], stages)  # [V]
        n_left = int((left > 0).sum())
        step = Step(
            token=token,
            candidates=n_left if draws else 1,
            probability=float(left[token]),
            entropy=entropy(left),
        )
        steps.append(step)
    return steps


def check_room(lm: LanguageModel, prompts: Sequence[list[int]], new: int) -> None:
    """Raises LabError where a prompt is no list of the model's tokens, empty, or leaves no room for `new` tokens."""
    for prompt in prompts:
        check_token_ids(lm, prompt)
    longest = max(map(len, prompts), default=1)
    if not all(map(len, prompts)):
        raise LabError("an empty prompt", "", "give at least one token, for instance codec.end")
    if longest + new > lm.context_length:
        found = f"{longest} tokens of prompt and {new} of reply"
        raise LabError(f"{lm.name} reads {lm.context_length} tokens", found, "lower max_length or max_new_tokens")


def _check_candidates(lm: LanguageModel, config: DecodingConfig) -> None:
    """Raises LabError where contrastive search should weigh more candidates than there are tokens."""
    if config.strategy != "contrastive":
        return
    n_tokens = lm.base.config.get_text_config().vocab_size
    if config.top_k > n_tokens:
        found = f"top_k={config.top_k}, and {lm.name} has {n_tokens} tokens"
        raise LabError("contrastive search weighs top_k candidates", found, "choose a top_k of about 4 to 10")
