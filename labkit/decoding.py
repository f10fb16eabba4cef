"""Decoding: batched generation that gives each prompt what it would get alone, and a look at the next token.

Prompts that share a beginning (all turns of a dialogue do, when the history is gold) are read once: the longest one,
the trunk, fills a key-value cache, and the rows that branch off it write together, each leaving at its stop token.
"""

import gc
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.corpora.types import Dialogue, Predictions, State
from labkit.errors import LabError, OutOfMemory
from labkit.models import LanguageModel, memory_errors
from labkit.prompts import parse_state, prompts, state_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STRATEGIES = ("greedy", "sample", "beam", "contrastive")
FILTERS = {  # setting -> value that switches it off, in the order they are applied
    "repetition_penalty": 1.0,  # in every strategy; those below in sampling only
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
}
RANGES = {"top_p": "(0, 1]", "typical_p": "(0, 1]", "min_p": "[0, 1)", "penalty_alpha": "[0, 1]", "top_k": "[0, inf)"}
RANGES |= {"max_new_tokens": "[1, inf)", "batch_size": "[1, inf)", "repetition_penalty": "(0, inf)"}
RANGES |= {"min_new_tokens": "[0, inf)"}
STATE_TOKENS = 192  # room for a belief state, which is longer than a reply; rows leave at its newline
_Asked = dict[str, list[list[int]]]  # {Dialogue.key: prompts}


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class DecodingConfig:
    """How replies are chosen from what the model predicts.

    Raises:
        LabError: settings that make no sense, alone or together.
    """

    strategy: str = _option("greedy", "greedy, sample, beam or contrastive (Su et al. 2022)")
    max_new_tokens: int = _option(64, "longest reply, in tokens")
    temperature: float = _option(1.0, "sample: logits are divided by it; below 1 sharper, above 1 flatter")
    top_k: int = _option(0, "sample: keep the k likeliest tokens (0: all); contrastive: candidates (0: 4)")
    top_p: float = _option(1.0, "sample: keep the fewest tokens whose probabilities reach p (Holtzman et al. 2020)")
    min_p: float = _option(0.0, "sample: keep tokens with at least this share of the likeliest one's probability")
    typical_p: float = _option(1.0, "sample: keep the tokens of most typical surprise, up to p (Meister et al. 2023)")
    repetition_penalty: float = _option(1.0, "above 1: tokens of prompt and reply get less likely (Keskar et al. 2019)")
    num_beams: int = _option(4, "beam: hypotheses kept")
    penalty_alpha: float = _option(0.6, "contrastive: weight of the penalty for similarity to the context")
    min_new_tokens: int = _option(0, "shortest reply, in tokens: before it, no token that ends a reply is allowed")
    seed: int = _option(42, "sample: same seed, same text, whatever the batch")
    batch_size: int = _option(64, "rows decoded together; changes the speed, not the text")

    def __post_init__(self) -> None:
        for wrong, found, action in self._checks():
            if wrong:
                raise LabError("these decoding settings make no sense", found, action)

    def _checks(self) -> Iterator[tuple[bool, str, str]]:
        yield self.strategy not in STRATEGIES, f"strategy={self.strategy!r}", f"choose one of {', '.join(STRATEGIES)}"
        cold = "dividing by temperature 0 is not defined; its limit is greedy"
        yield self.temperature <= 0, cold, "use strategy='greedy', or a temperature above 0"
        for name, interval in RANGES.items():
            value, (low, high) = getattr(self, name), map(float, interval[1:-1].split(","))
            open_end = (value == low and interval[0] == "(") or (value == high and interval[-1] == ")")
            yield open_end or not low <= value <= high, f"{name}={value}", f"choose a number in {interval}"
        short = f"min_new_tokens={self.min_new_tokens} is above max_new_tokens={self.max_new_tokens}"
        yield self.min_new_tokens > self.max_new_tokens, short, "raise max_new_tokens, or lower min_new_tokens"
        one = {"beam": self.num_beams < 2, "contrastive": self.top_k == 1}.get(self.strategy, False)
        yield one, f"{self.strategy} search with 1 candidate is greedy search", "use strategy='greedy', or 2 or more"
        kept = {"sample": set(FILTERS), "contrastive": {"top_k"}}.get(self.strategy, set()) | {"repetition_penalty"}
        vain = [name for name, off in FILTERS.items() if name not in kept and getattr(self, name) != off]
        yield bool(vain), f"{', '.join(vain)} would have no effect on {self.strategy}", "use strategy='sample'"


def transformers_options(config: DecodingConfig) -> dict[str, Any]:
    """What transformers' own `generate` has to be given for the same.

    Every filter is named, since some are on there by default: top_k is 50. Samples are drawn from another generator, so
    the distribution is the same and the text is not.

    Raises:
        LabError: contrastive search, which transformers 5 no longer has.
    """
    if config.strategy == "contrastive":
        raise LabError("transformers 5 has no contrastive search", "", "use labkit.generate")
    names = {"sample": list(FILTERS), "beam": ["repetition_penalty", "num_beams"]}
    used = ["max_new_tokens", *names.get(config.strategy, ["repetition_penalty"])]
    used += ["min_new_tokens"] if config.min_new_tokens else []
    return {"do_sample": config.strategy == "sample", **{name: getattr(config, name) for name in used}}


def transformers_call(config: DecodingConfig) -> str:
    """The same as Python to paste: `lm` is the loaded model, `ids` and `mask` a left-padded batch [B, T]."""
    try:
        given = ", ".join(f"{name}={value!r}" for name, value in transformers_options(config).items())
    except LabError as error:
        return f"# {error}"
    seed = f"torch.manual_seed({config.seed})\n" * (config.strategy == "sample")
    return f"{seed}lm.base.generate(ids, attention_mask=mask, eos_token_id=lm.codec.stop_ids, {given})"


# --- filters ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """What one filter does to the next-token distribution."""

    name: str
    value: float
    kept: "np.ndarray"  # [V] bool
    removed: float  # probability mass that this filter took away, of what the filter before it had left
    probabilities: "np.ndarray"  # [V] after it, summing to 1


def _filters(config: DecodingConfig) -> dict[str, Any]:
    """transformers' own filter for each setting that is on, in the order of FILTERS."""
    from transformers.generation import logits_process

    warpers = [f"{kind}LogitsWarper" for kind in ("Temperature", "TopK", "TopP", "MinP", "Typical")]
    kinds = dict(zip(FILTERS, ["RepetitionPenaltyLogitsProcessor", *warpers], strict=True))
    names = FILTERS if config.strategy == "sample" else ["repetition_penalty"]
    values = {name: getattr(config, name) for name in names if getattr(config, name) != FILTERS[name]}
    return {name: getattr(logits_process, kinds[name])(value) for name, value in values.items()}


def filter_stages(logits: "np.ndarray", config: DecodingConfig, context: Sequence[int] = ()) -> list[Stage]:
    """What every filter of a sampling `config` cuts, in order, from logits [V]; the model is not needed.

    `context` holds the tokens that the repetition penalty is for.
    """
    import torch

    scores = torch.as_tensor(logits, dtype=torch.float32)[None]  # [1, V]
    seen = torch.tensor([list(context)], dtype=torch.long)  # [1, T]
    stages, before = [], scores.softmax(-1)
    for name, apply in _filters(config).items():
        scores = apply(seen, scores)
        kept, after = scores > -torch.inf, scores.softmax(-1)  # [1, V]
        removed = float(before[~kept].sum())
        stages.append(Stage(name, getattr(config, name), kept[0].numpy(), removed, after[0].numpy()))
        before = after
    return stages


def remaining(logits: "np.ndarray", stages: Sequence[Stage]) -> "np.ndarray":
    """Probabilities [V] after all stages; the softmax of the logits [V] where there are none."""
    import numpy as np

    weights = np.exp(logits - logits.max())
    return stages[-1].probabilities if stages else weights / weights.sum()


def entropy(probabilities: "np.ndarray") -> float:
    """Bits: 0 for one possible token, k for an even choice between 2^k."""
    import numpy as np

    some = probabilities[probabilities > 0].astype(float)
    return float(abs((some * np.log2(some)).sum()))


def next_token_logits(lm: LanguageModel, prompt: Sequence[int]) -> "np.ndarray":
    """Logits [V] of the token after `prompt`, in float32."""
    import torch

    check_room(lm, [list(prompt)], 0)
    with torch.inference_mode():
        return lm.base(torch.tensor([list(prompt)], device=lm.base.device)).logits[0, -1].float().cpu().numpy()


# --- rows that write together -----------------------------------------------------------------------------------------


@dataclass
class _Row:
    """One prompt on its way to a reply."""

    index: int
    prompt: list[int]
    draw: random.Random
    reply: list[int] = field(default_factory=list)


_Group = list[_Row]  # rows that share a beginning; the prompt of the first, the longest, is their trunk
_Steps = Iterator[list[tuple[_Row, int]]]  # (row, token) of every row still writing, step by step


class _Tree:
    """B rows in R slots on each of D trunks; a row is a branch that sees its part of the trunk, and itself.

    The rows of a trunk are columns of one sequence, with explicit positions and a mask that keeps them apart, so that a
    trunk is neither stored nor gone through once for every row (compare tree attention; Cai et al. 2024, "Medusa").
    """

    def __init__(self, lm: LanguageModel, groups: list[_Group], contrastive: bool):
        import torch
        from transformers import DynamicCache

        self.model, self.device, self.cache = lm.base, lm.base.device, DynamicCache()
        self.rows = [row for group in groups for row in group]
        ends = self._tensor([len(group[0].prompt) for group in groups])
        column = torch.arange(int(ends.max()), device=self.device)
        ids = [group[0].prompt + [lm.codec.pad_id] * (len(column) - len(group[0].prompt)) for group in groups]  # [D, L]
        read = {"attention_mask": (column < ends[:, None]).long(), "past_key_values": self.cache, "use_cache": True}
        with torch.inference_mode():  # base_model: the output head is not needed on the history
            out = self.model.base_model(self._tensor(ids), **read)
        self.context = _unit(out.last_hidden_state) if contrastive else None  # [D, C, H] of every column of the cache
        self._place(groups)
        self.position = self._tensor([_shared(group[0].prompt, row.prompt) for group in groups for row in group])  # [B]
        self.visible = column < self._slots(self.position[:, None], 0).mT  # [D, R, C] columns that a row sees

    def _tensor(self, values: Sequence) -> "Tensor":
        import torch

        return torch.tensor(values, device=self.device)

    def _place(self, branches: list[list]) -> None:
        """The rows of each trunk take its first slots."""
        self.n_trunks, self.n_slots = len(branches), max(map(len, branches))  # D, R
        slots = [d * self.n_slots + r for d, branch in enumerate(branches) for r in range(len(branch))]
        self.slot = self._tensor(slots)  # [B]

    def _slots(self, values: "Tensor", fill: int) -> "Tensor":
        """Values [B, S] of the rows as [D, S, R], `fill` in slots without a row."""
        placed = values.new_full((self.n_trunks * self.n_slots, values.shape[1]), fill)
        placed[self.slot] = values
        return placed.unflatten(0, (self.n_trunks, self.n_slots)).mT

    def _own(self, real: "Tensor") -> "Tensor":
        """[D, R, S, R] which of the `real` [B, S] new tokens are of a slot's own row."""
        slot = self._tensor(range(self.n_slots))
        return self._slots(real, False)[:, None] & (slot == slot[:, None])[:, None]

    def read_prompts(self) -> "Tensor":
        """Read what the trunks do not hold of the rows' prompts; logits [B, V] after them."""
        return self.read([row.prompt[at:] for row, at in zip(self.rows, self.position.tolist(), strict=True)])

    def read(self, tokens: list[list[int]]) -> "Tensor":
        """Read each row's next tokens; logits [B, V] after them."""
        width = max(map(len, tokens))
        ids = self._tensor([[0] * (width - len(row)) + row for row in tokens])  # [B, S], right-aligned
        real = self._tensor([[False] * (width - len(row)) + [True] * len(row) for row in tokens])
        logits, context = self._forward(ids, real, real.new_ones(width, width).tril(), keep=1)
        self._settle(real, context)
        return logits[:, 0]

    def contrast(self, scores: "Tensor", k: int, alpha: float) -> tuple[list[int], "Tensor"]:
        """Contrastive search (Su et al. 2022): of the k likeliest next tokens v, the one with the highest
        (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), h being last hidden states and j the tokens before v.

        Candidates are read side by side at one position; those not chosen stay hidden. Returns the tokens and the
        logits [B, V] after them.
        """
        probability, candidates = scores.softmax(-1).topk(k)  # [B, k]
        alone = self._tensor(range(k)) == self._tensor(range(k))[:, None]
        logits, context = self._forward(candidates, candidates >= 0, alone, keep=k)  # [B, k, V], [D, k * R, H]
        cosine = (context @ self.context.mT).unflatten(1, (k, self.n_slots))  # [D, k, R, C]
        penalty = cosine.masked_fill(~self.visible[:, None], -1).amax(-1).mT.flatten(0, 1)[self.slot]  # [B, k]
        best = ((1 - alpha) * probability - alpha * penalty).argmax(-1, keepdim=True)  # [B, 1]
        self._settle(alone[best[:, 0]], context)
        return candidates.gather(1, best)[:, 0].tolist(), logits.take_along_dim(best[..., None], 1)[:, 0]

    def _forward(self, ids: "Tensor", real: "Tensor", sees: "Tensor", keep: int) -> tuple["Tensor", "Tensor | None"]:
        """Logits [B, keep, V] after the last `keep` of tokens [B, S]; unit hidden states [D, S * R, H] for `contrast`.

        A token sees what its row sees, itself, and those of the row's new tokens that are `real` and that `sees` [S, S]
        allows. Columns are ordered by token, then slot.
        """
        import torch

        new = (sees[:, None, :, None] & self._own(real)[:, None]).flatten(3).flatten(1, 2)  # [D, S * R, S * R]
        new = new | torch.eye(new.shape[-1], dtype=torch.bool, device=self.device)
        seen = torch.cat([self.visible.repeat(1, ids.shape[1], 1), new], dim=-1)[:, None]  # [D, 1, S * R, C + S * R]
        if self.model.config._attn_implementation != "sdpa":  # which takes yes and no; the others add numbers to scores
            seen = torch.zeros(seen.shape, device=self.device).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        position = self.position[:, None] + (real[:, None] & sees).sum(-1).clamp(min=1) - 1  # [B, S]
        where = {"position_ids": self._slots(position, 0).flatten(1), "attention_mask": seen}
        where |= {"past_key_values": self.cache, "use_cache": True, "logits_to_keep": keep * self.n_slots}
        with torch.inference_mode():
            out = self.model(self._slots(ids, 0).flatten(1), **where, output_hidden_states=self.context is not None)
        logits = out.logits.unflatten(1, (keep, self.n_slots)).transpose(1, 2).flatten(0, 1)[self.slot]
        return logits, None if self.context is None else _unit(out.hidden_states[-1])

    def _settle(self, real: "Tensor", context: "Tensor | None") -> None:
        """From now on each row sees those of the tokens just read that are `real` [B, S]."""
        import torch

        self.visible = torch.cat([self.visible, self._own(real).flatten(2)], dim=-1)
        self.position = self.position + real.sum(1)
        if context is not None:
            self.context = torch.cat([self.context, context], dim=1)

    def sequences(self) -> "Tensor":
        """[B, T] prompts and replies so far, filled up with a token of the row's own, for the repetition penalty."""
        full = [row.prompt + row.reply for row in self.rows]
        width = max(map(len, full))
        return self._tensor([ids + ids[-1:] * (width - len(ids)) for ids in full])

    def keep(self, staying: list[int]) -> None:
        """Go on with these rows only: slots close up, and trunks without rows leave."""
        self.rows, self.position = [self.rows[i] for i in staying], self.position[staying]
        branches = [list(some) for _, some in groupby(self.slot[staying].tolist(), lambda slot: slot // self.n_slots)]
        trunks = [branch[0] // self.n_slots for branch in branches]
        if len(trunks) < self.n_trunks:
            self.cache.batch_select_indices(self._tensor(trunks))
            self.context = None if self.context is None else self.context[trunks]
        width = max(map(len, branches))
        order = [branch + branch[-1:] * (width - len(branch)) for branch in branches]  # [D, R] the slots before
        self.visible = self.visible.flatten(0, 1)[self._tensor(order)]
        self._place(branches)


def _unit(hidden: "Tensor") -> "Tensor":
    return hidden.float() / hidden.float().norm(dim=-1, keepdim=True)


def _write(tree: _Tree, config: DecodingConfig, stop: set[int]) -> _Steps:
    """Let all rows write; each leaves at its stop token."""
    logits, contrastive = tree.read_prompts(), config.strategy == "contrastive"
    for length in range(1, config.max_new_tokens + 1):
        scores = _filtered(tree, logits.float(), config, stop, length)  # half precision is too coarse to sample from
        if contrastive:
            chosen, logits = tree.contrast(scores, config.top_k or 4, config.penalty_alpha)
        else:
            chosen = _sampled(scores, tree.rows) if config.strategy == "sample" else scores.argmax(-1).tolist()
        yield list(zip(tree.rows, chosen, strict=True))
        staying = [i for i, token in enumerate(chosen) if token not in stop]
        for i in staying:
            tree.rows[i].reply.append(chosen[i])
        if not staying or length == config.max_new_tokens:
            return
        if len(staying) < len(chosen):
            tree.keep(staying)
        logits = logits[staying] if contrastive else tree.read([[chosen[i]] for i in staying])


def _filtered(tree: _Tree, scores: "Tensor", config: DecodingConfig, stop: set[int], length: int) -> "Tensor":
    """Scores [B, V] of the token that makes replies `length` long, after min_new_tokens and the filters."""
    if length <= config.min_new_tokens:
        scores = scores.index_fill(1, tree._tensor(sorted(stop)), -float("inf"))
    for apply in _filters(config).values():
        scores = apply(tree.sequences(), scores)
    return scores


def _sampled(scores: "Tensor", rows: list[_Row]) -> list[int]:
    """One token a row by the inverse of the cumulative distribution, from the row's own random numbers."""
    cumulative = scores.double().softmax(-1).cumsum(-1)  # [B, V]
    drawn = cumulative.new_tensor([[row.draw.random()] for row in rows])
    return (cumulative <= drawn * cumulative[:, -1:]).sum(-1).clamp(max=scores.shape[-1] - 1).tolist()


def _beams(tree: _Tree, config: DecodingConfig, stop: set[int]) -> _Steps:
    """Beam search as in transformers: replies compete by log-probability over length (Wu et al. 2016, eq. 14, α = 1).

    The beams of a prompt are rows of one trunk: to go on twice from one of them copies a mask, and no cache. What a
    reply is shows at the end, so the steps are empty.
    """
    asked, ended = {row.index: row for row in tree.rows}, {row.index: [] for row in tree.rows}
    logits, totals = tree.read_prompts(), [0.0] * len(asked)
    for length in range(1, config.max_new_tokens + 1):
        last = length == config.max_new_tokens
        scores = _filtered(tree, logits.float().log_softmax(-1), config, stop, length) + tree._tensor(totals)[:, None]
        best = scores.topk(min((1 + len(stop)) * config.num_beams, scores.shape[1]))  # enough that do not stop
        likely = [
            _Candidate(total, beam, token, last or token in stop)
            for beam, found in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True))
            for total, token in zip(*found, strict=True)
        ]
        going: list[_Candidate] = []
        for index, some in groupby(likely, key=lambda candidate: tree.rows[candidate.beam].index):
            going += _compete(sorted(some, key=lambda one: -one.total), ended[index], tree, length, config.num_beams)
        yield []
        if not going:
            break
        tree.keep([one.beam for one in going])
        tree.rows = [replace(row, reply=[*row.reply, one.token]) for row, one in zip(tree.rows, going, strict=True)]
        logits, totals = tree.read([[one.token] for one in going]), [one.total for one in going]
    for index, row in asked.items():
        row.reply = [token for token in ended[index][0][1] if token not in stop]


class _Candidate(NamedTuple):
    """A beam and a next token."""

    total: float  # log-probability of the reply so far
    beam: int
    token: int
    ends: bool


def _compete(likely: list[_Candidate], ended: list, tree: _Tree, length: int, width: int) -> list[_Candidate]:
    """Those of a prompt's candidates, best first, that go on: none, once `width` replies in `ended` are better."""
    over = [one for one in likely[:width] if one.ends]
    ended += [(one.total / length, [*tree.rows[one.beam].reply, one.token]) for one in over]
    ended.sort(key=lambda reply: -reply[0])
    del ended[width:]
    going = [one for one in likely if not one.ends][:width]
    hopeless = len(ended) == width and going and going[0].total / length <= ended[-1][0]
    return [] if hopeless else going


# --- generation -------------------------------------------------------------------------------------------------------


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


def _rows(prompts: Sequence[list[int]], keys: Sequence[str] | None, seed: int) -> list[_Row]:
    """A row for each prompt; by default the same prompt has the same random numbers, but others when it comes again."""
    count, rows = Counter(), []
    for index, prompt in enumerate(prompts):
        key = keys[index] if keys else f"{list(prompt)}/{count[tuple(prompt)]}"
        count[tuple(prompt)] += 1
        rows.append(_Row(index, list(prompt), random.Random(f"{seed}/{key}")))
    return rows


def _batches(rows: list[_Row], size: int) -> Iterator[list[_Group]]:
    """Groups with at most `size` rows in all, trunks of like length together; a family with more rows is cut."""
    near = sorted(rows, key=lambda row: row.prompt)  # rows that share a beginning are neighbours: look there only
    families = [family for i in range(0, len(near), 2 * size) for family in _families(near[i : i + 2 * size])]
    groups = [family[i : i + size] for family in families for i in range(0, len(family), size)]
    return _packed(sorted(groups, key=lambda group: -len(group[0].prompt)), len, size)


def _packed(items: Iterable[Any], weight: Callable[[Any], int], most: int) -> Iterator[list[Any]]:
    """The items, in their order, in lists that weigh at most `most`; what weighs more stands alone."""
    pack: list[Any] = []
    for item in items:
        if pack and sum(map(weight, [*pack, item])) > most:
            yield pack
            pack = []
        pack.append(item)
    if pack:
        yield pack


def _families(rows: list[_Row]) -> list[_Group]:
    """Rows that share at least half of their prompt with the first of their family, which is the longest."""
    families: list[_Group] = []
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        near = max(families, key=lambda family: _shared(family[0].prompt, row.prompt), default=None)
        if near is None or 2 * _shared(near[0].prompt, row.prompt) < len(row.prompt) - 1:
            families.append(near := [])
        near.append(row)
    return families


def _shared(trunk: list[int], prompt: list[int]) -> int:
    """How many tokens of `prompt` the trunk's cache can give; the last is always read, since its logits are wanted."""
    known = len(prompt) - 1
    return next((i for i, (a, b) in enumerate(zip(trunk, prompt[:-1], strict=False)) if a != b), known)


# --- what the machine allows ------------------------------------------------------------------------------------------


def find_max_batch(
    lm: LanguageModel, *, prompt_tokens: int = 256, new_tokens: int = 32, limit: int = 1024
) -> tuple[int, dict[int, float]]:
    """The most rows, up to `limit`, that fit into memory together, and tokens per second of every try, {rows: speed}.

    Doubles until memory runs out (speed 0), then bisects. It is the worst case: random prompts that share no beginning,
    and replies that all run to their full length. On a GPU running out is safe; a CPU's operating system may end the
    kernel first, so choose a `limit` there.
    """
    fits, fails, speeds = 0, limit + 1, {}
    while fails - fits > 1:
        rows = min(2 * fits or 1, limit) if fails > limit else (fits + fails) // 2
        speeds[rows] = _speed(lm, rows, prompt_tokens, new_tokens)
        fits, fails = (rows, fails) if speeds[rows] else (fits, rows)
    return fits, dict(sorted(speeds.items()))


def _speed(lm: LanguageModel, rows: int, prompt_tokens: int, new_tokens: int) -> float:
    """New tokens per second; 0 where memory runs out, and what was taken is given back."""
    import torch

    prompts = [random.Random(row).choices(range(len(lm.tokenizer)), k=prompt_tokens) for row in range(rows)]
    config = DecodingConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens, batch_size=rows)
    start = perf_counter()
    try:
        return sum(map(len, generate(lm, prompts, config))) / (perf_counter() - start)
    except OutOfMemory:
        pass
    gc.collect()  # only now: the error's traceback held the tensors
    torch.cuda.empty_cache()
    return 0.0


# --- replies to a corpus ----------------------------------------------------------------------------------------------


def predict(
    lm: LanguageModel,
    dialogues: Sequence[Dialogue],
    config: DecodingConfig | None = None,
    *,
    format: str = "turns",
    max_length: int = 1024,
    instruction: str = "",
    shots: Sequence[Dialogue] = (),
    chat: bool = False,
    own_states: bool = True,
    on_batch: Callable[[Predictions], None] | None = None,
) -> Predictions:
    """The model's reply to every user turn, each from its gold history; in the `state` format with the state it wrote.

    There the history holds the states that the model wrote at earlier turns. With `own_states=False` it holds the
    annotated ones: a state is then mostly copied from the one before, and its accuracy says little.
    A history too long for `max_length` or the model loses its oldest turns. `on_batch` gets the predictions of whole
    dialogues as they are done: what an interrupted run can keep. `instruction` and the worked examples `shots` are text
    before the history; they are never cut. `chat` asks in the model's own chat template (see `labkit.prompts.prompts`).
    """
    from tqdm.auto import tqdm

    config = config or DecodingConfig()
    ask = _asking(lm, config, format, max_length, instruction=instruction, shots=shots, chat=chat)
    asked = {d.key: [p.input_ids for p in ask(d)] for d in dialogues}
    longest_first = sorted(asked.items(), key=lambda pair: -max(map(len, pair[1]), default=0))
    in_turn = format == "state" and own_states  # then a dialogue writes one reply at a time
    answers = partial(_in_turn, lm, {d.key: d for d in dialogues}, ask) if in_turn else partial(_answers, lm)
    done: Predictions = {}
    with tqdm(total=sum(map(len, asked.values())), desc=f"{lm.name} writes replies", unit="reply") as bar:
        for some in _packed(longest_first, lambda pair: 1 if in_turn else len(pair[1]), config.batch_size):
            new = answers(dict(some), config, format == "state", lambda replies: bar.update(len(replies)))
            done |= new
            if on_batch:
                on_batch(new)
    return {key: done[key] for key in asked}


def answer(
    lm: LanguageModel, dialogue: Dialogue, config: DecodingConfig | None = None, state: State | None = None
) -> dict[str, Any]:
    """State and reply to the last user turn of a dialogue, {"response", "state"}; the bot turn after it is not read.

    A `state` that something else has tracked stands where the model would have written its own.
    """
    config = config or DecodingConfig()
    prompt = _asking(lm, config, "state")(dialogue)[-1].input_ids
    if state is None:
        ((reply,),) = _answers(lm, {dialogue.key: [prompt]}, config, True, None).values()
        return reply
    prompt = prompt + lm.codec.encode(f" {state_text(state)}\n") + lm.codec.encode("bot>")
    return {"response": lm.codec.decode(generate(lm, [prompt], config)[0]), "state": state}


def _asking(lm: LanguageModel, config: DecodingConfig, format: str, max_length: int = 1024, **before: Any) -> Callable:
    """`prompts` with as much history as leaves room for what is to be written."""
    needed = config.max_new_tokens + (STATE_TOKENS + 8 if format == "state" else 0)
    room = min(max_length, lm.context_length - needed)
    return partial(prompts, codec=lm.codec, format=format, max_length=room, **before)


def _in_turn(
    lm: LanguageModel, known: dict[str, Dialogue], ask: Callable, asked: _Asked, config: DecodingConfig, *how: Any
) -> Predictions:
    """States and replies of the dialogues in `asked`, a turn of all of them at a time, by what `ask` makes of each."""
    heard = {key: replace(known[key], turns=[]) for key in asked}  # so far, with the states that the model wrote
    done: Predictions = {key: [] for key in asked}
    for turn in range(max(map(len, asked.values()))):
        going = [key for key in asked if turn < len(asked[key])]
        for key in going:
            heard[key].turns += known[key].turns[2 * turn : 2 * turn + 2]
        new = _answers(lm, {key: [ask(heard[key])[-1].input_ids] for key in going}, config, *how, first=turn)
        for key, (answer,) in new.items():
            heard[key].turns[-2] = replace(heard[key].turns[-2], state=answer["state"])
            done[key].append(answer)
    return done


def _answers(
    lm: LanguageModel, asked: _Asked, config: DecodingConfig, state: bool, on_batch: Callable | None, first: int = 0
) -> Predictions:
    """Replies to the prompts of a few dialogues, which begin at the turn `first`."""
    names = [f"{key}/{first + turn}" for key, some in asked.items() for turn in range(len(some))]
    histories = [prompt for some in asked.values() for prompt in some]
    states: list[dict[str, Any]] = [{} for _ in histories]
    if state:
        longer = replace(config, max_new_tokens=STATE_TOKENS)
        written = generate(lm, histories, longer, keys=[f"{name}/state" for name in names])
        states = [{"state": parse_state(lm.codec.decode(ids))} for ids in written]
        ending = lm.codec.encode("\n") + lm.codec.encode("bot>")
        histories = [prompt + ids + ending for prompt, ids in zip(histories, written, strict=True)]
    replies = iter(generate(lm, histories, config, keys=names, on_batch=on_batch))
    said = ({"response": lm.codec.decode(next(replies)), **state} for state in states)
    return {key: [next(said) for _ in some] for key, some in asked.items()}
