"""Decoding: batched generation that gives each prompt what it would get alone, and a look at the next token.

Prompts that share a beginning (all turns of a dialogue do, when the history is gold) are read once: the longest one,
the trunk, fills a key-value cache, and the rows that branch off it write together, each leaving at its stop token.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.models import LanguageModel, memory_errors
from labkit.prompts import parse_state, prompts

if TYPE_CHECKING:
    import numpy as np
    import torch

STRATEGIES = ("greedy", "sample", "beam", "contrastive")
FILTERS = {  # setting -> value that switches it off, in the order they are applied
    "repetition_penalty": 1.0,  # in every strategy; those below in sampling only
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
}
STATE_TOKENS = 192  # room for a belief state, which is longer than a reply; rows leave at its newline
BLOCK = 8  # tokens; how much prompts share of a beginning is found in steps of this many
Predictions = dict[str, list[dict[str, Any]]]  # {Dialogue.key: [{"response": str, "state": State}]}, mwzeval's format


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
        ranges = {"top_p": "(0, 1]", "typical_p": "(0, 1]", "min_p": "[0, 1)", "penalty_alpha": "[0, 1]"}
        for name, interval in ranges.items():
            share = getattr(self, name)
            outside = not 0 <= share <= 1 or (share == 0 and "(" in interval) or (share == 1 and ")" in interval)
            yield outside, f"{name}={share}", f"choose a share in {interval}"
        for name, least in {"max_new_tokens": 1, "batch_size": 1, "top_k": 0}.items():
            yield getattr(self, name) < least, f"{name}={getattr(self, name)}", f"choose {least} or more"
        yield self.repetition_penalty <= 0, f"repetition_penalty={self.repetition_penalty}", "choose 1 (none) or more"
        one = {"beam": self.num_beams < 2, "contrastive": self.top_k == 1}.get(self.strategy, False)
        yield one, f"{self.strategy} search with 1 candidate is greedy search", "use strategy='greedy', or 2 or more"
        kept = {"sample": set(FILTERS), "contrastive": {"top_k"}}.get(self.strategy, set()) | {"repetition_penalty"}
        vain = [name for name, off in FILTERS.items() if name not in kept and getattr(self, name) != off]
        yield bool(vain), f"{', '.join(vain)} would have no effect on {self.strategy}", "use strategy='sample'"


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


def next_token_logits(lm: LanguageModel, prompt: Sequence[int]) -> "np.ndarray":
    """Logits [V] of the token after `prompt`, in float32."""
    import torch

    _check_room(lm, [list(prompt)], 0)
    with torch.inference_mode():
        return lm.base(torch.tensor([list(prompt)], device=lm.base.device)).logits[0, -1].float().cpu().numpy()


# --- rows that write together -----------------------------------------------------------------------------------------


@dataclass
class _Row:
    """One prompt on its way: its first `shared` tokens are in the cache of its trunk, the rest is to be read."""

    index: int
    prompt: list[int]
    draw: random.Random
    shared: int = 0
    reply: list[int] = field(default_factory=list)


_Group = tuple[list[int], list[_Row]]  # a trunk, and the rows that share a beginning with it
_Steps = Iterator[list[tuple[_Row, int]]]  # (row, token) of every row still writing, step by step


class _Tree:
    """B rows in R slots on each of D trunks; a row is a branch that sees its part of the trunk, and itself.

    The rows of a trunk are columns of one sequence, with explicit positions and a mask that keeps them apart, so that a
    trunk is neither stored nor gone through once for every row (compare tree attention; Cai et al. 2024, "Medusa").
    """

    def __init__(self, lm: LanguageModel, groups: list[_Group], contrastive: bool):
        import torch
        from transformers import DynamicCache

        self.model, self.device = lm.base, lm.base.device
        self.rows = [row for _, rows in groups for row in rows]
        self.n_trunks, self.n_slots = len(groups), max(len(rows) for _, rows in groups)  # D, R
        ends = self._tensor([len(trunk) for trunk, _ in groups])
        width = int(ends.max())
        ids = self._tensor([trunk + [lm.codec.pad_id] * (width - len(trunk)) for trunk, _ in groups])  # [D, L]
        column = torch.arange(width, device=self.device)
        self.cache = DynamicCache()
        mask = (column < ends[:, None]).long()
        with torch.inference_mode():  # base_model: the output head is not needed on the history
            out = self.model.base_model(ids, attention_mask=mask, past_key_values=self.cache, use_cache=True)
        self.context = _unit(out.last_hidden_state) if contrastive else None  # [D, C, H] of every column of the cache
        self.slot = self._tensor([d * self.n_slots + r for d, (_, rows) in enumerate(groups) for r in range(len(rows))])
        self.position = self._tensor([row.shared for row in self.rows])  # [B] of the next token
        self.visible = column < self._slots(self.position[:, None], 0).mT  # [D, R, C] columns that a row sees

    def _tensor(self, values: list) -> "torch.Tensor":
        import torch

        return torch.tensor(values, device=self.device)

    def _slots(self, values: "torch.Tensor", fill: int) -> "torch.Tensor":
        """Values [B, S] of the rows as [D, S, R], `fill` in slots without a row."""
        placed = values.new_full((self.n_trunks * self.n_slots, values.shape[1]), fill)
        placed[self.slot] = values
        return placed.unflatten(0, (self.n_trunks, self.n_slots)).mT

    def read(self, tokens: list[list[int]]) -> "torch.Tensor":
        """Read each row's next tokens; logits [B, V] after them."""
        import torch

        width = max(map(len, tokens))
        ids = self._tensor([[0] * (width - len(row)) + row for row in tokens])  # [B, S], right-aligned
        step = torch.arange(width, device=self.device) - width + self._tensor([[len(row)] for row in tokens])
        causal = torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
        logits, context = self._forward(ids, self.position[:, None] + step.clamp(min=0), step >= 0, causal, keep=1)
        self._settle(step >= 0, context)
        return logits[:, 0]

    def contrast(self, scores: "torch.Tensor", k: int, alpha: float) -> tuple[list[int], "torch.Tensor"]:
        """Contrastive search (Su et al. 2022): of the k likeliest next tokens v, the one with the highest
        (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), h being last hidden states and j the tokens before v.

        Candidates are read side by side at one position; those not chosen stay hidden. Returns the tokens and the
        logits [B, V] after them.
        """
        import torch

        probability, candidates = scores.softmax(-1).topk(k)  # [B, k]
        alone = torch.eye(k, dtype=torch.bool, device=self.device)
        position, real = self.position[:, None].expand(-1, k), torch.ones_like(candidates, dtype=torch.bool)
        logits, context = self._forward(candidates, position, real, alone, keep=k)  # [B, k, V], [D, k * R, H]
        cosine = (context @ self.context.mT).unflatten(1, (k, self.n_slots))  # [D, k, R, C]
        penalty = cosine.masked_fill(~self.visible[:, None], -1).amax(-1).mT.flatten(0, 1)[self.slot]  # [B, k]
        best = ((1 - alpha) * probability - alpha * penalty).argmax(-1, keepdim=True)  # [B, 1]
        self._settle(torch.arange(k, device=self.device) == best, context)
        return candidates.gather(1, best)[:, 0].tolist(), logits.take_along_dim(best[..., None], 1)[:, 0]

    def _forward(
        self, ids: "torch.Tensor", position: "torch.Tensor", real: "torch.Tensor", sees: "torch.Tensor", keep: int
    ) -> tuple["torch.Tensor", "torch.Tensor | None"]:
        """Logits [B, keep, V] after the last `keep` of tokens [B, S]; unit hidden states [D, S * R, H] for `contrast`.

        A token sees what its row sees, itself, and those of the row's new tokens that are `real` and that `sees` [S, S]
        allows. Columns are ordered by token, then slot.
        """
        import torch

        own = torch.eye(self.n_slots, dtype=torch.bool, device=self.device)
        new = sees[:, None, :, None] & own[:, None] & self._slots(real, False)[:, None, None]  # [D, S, R, S, R]
        new = new.flatten(3).flatten(1, 2)  # [D, S * R, S * R]
        new = new | torch.eye(new.shape[-1], dtype=torch.bool, device=self.device)
        seen = torch.cat([self.visible.repeat(1, ids.shape[1], 1), new], dim=-1)[:, None]  # [D, 1, S * R, C + S * R]
        if self.model.config._attn_implementation != "sdpa":  # which takes yes and no; the others add numbers to scores
            seen = torch.zeros(seen.shape, device=self.device).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        with torch.inference_mode():
            out = self.model(
                self._slots(ids, 0).flatten(1),
                attention_mask=seen,
                position_ids=self._slots(position, 0).flatten(1),
                past_key_values=self.cache,
                use_cache=True,
                output_hidden_states=self.context is not None,
                logits_to_keep=keep * self.n_slots,
            )
        logits = out.logits.unflatten(1, (keep, self.n_slots)).transpose(1, 2).flatten(0, 1)[self.slot]
        return logits, None if self.context is None else _unit(out.hidden_states[-1])

    def _settle(self, real: "torch.Tensor", context: "torch.Tensor | None") -> None:
        """From now on each row sees those of the tokens just read that are `real` [B, S]."""
        import torch

        own = torch.eye(self.n_slots, dtype=torch.bool, device=self.device)[:, None]  # [R, 1, R]
        new = self._slots(real, False)[:, None] & own  # [D, R, S, R]
        self.visible = torch.cat([self.visible, new.flatten(2)], dim=-1)
        self.position = self.position + real.sum(1)
        if context is not None:
            self.context = torch.cat([self.context, context], dim=1)

    def sequences(self) -> "torch.Tensor":
        """[B, T] prompts and replies so far, filled up with a token of the row's own, for the repetition penalty."""
        full = [row.prompt + row.reply for row in self.rows]
        width = max(map(len, full))
        return self._tensor([ids + ids[-1:] * (width - len(ids)) for ids in full])

    def keep(self, staying: list[int]) -> None:
        """Go on with these rows only: slots close up, and trunks without rows leave when they are many."""
        self.rows, self.position = [self.rows[i] for i in staying], self.position[self._tensor(staying)]
        slots = self.slot[self._tensor(staying)].tolist()
        branches = [[slot for slot in slots if slot // self.n_slots == d] for d in range(self.n_trunks)]
        trunks = [d for d, branch in enumerate(branches) if branch]
        if 4 * len(trunks) <= 3 * self.n_trunks:
            self.cache.batch_select_indices(self._tensor(trunks))
            self.context = None if self.context is None else self.context[self._tensor(trunks)]
        else:
            trunks = list(range(self.n_trunks))
        width = max(map(len, branches))
        order = [branches[d] + [d * self.n_slots] * (width - len(branches[d])) for d in trunks]  # [D, R] old slots
        self.visible = self.visible.flatten(0, 1)[self._tensor(order)]
        self.slot = self._tensor([d * width + r for d, trunk in enumerate(trunks) for r in range(len(branches[trunk]))])
        self.n_trunks, self.n_slots = len(trunks), width


def _unit(hidden: "torch.Tensor") -> "torch.Tensor":
    return hidden.float() / hidden.float().norm(dim=-1, keepdim=True)


def _write(tree: _Tree, config: DecodingConfig, stop: set[int]) -> _Steps:
    """Let all rows write; each leaves at its stop token."""
    filters, contrastive = _filters(config).values(), config.strategy == "contrastive"
    logits = tree.read([row.prompt[row.shared :] for row in tree.rows])
    for left in reversed(range(config.max_new_tokens)):
        scores = logits.float()  # [B, V]; half precision is too coarse to sample from
        for apply in filters:
            scores = apply(tree.sequences(), scores)
        if contrastive:
            chosen, logits = tree.contrast(scores, config.top_k or 4, config.penalty_alpha)
        else:
            chosen = _sampled(scores, tree.rows) if config.strategy == "sample" else scores.argmax(-1).tolist()
        yield list(zip(tree.rows, chosen, strict=True))
        staying = [i for i, token in enumerate(chosen) if token not in stop]
        for i in staying:
            tree.rows[i].reply.append(chosen[i])
        if not staying or not left:
            return
        if len(staying) < len(chosen):
            tree.keep(staying)
        logits = logits[staying] if contrastive else tree.read([[chosen[i]] for i in staying])


def _sampled(scores: "torch.Tensor", rows: list[_Row]) -> list[int]:
    """One token a row by the inverse of the cumulative distribution, from the row's own random numbers."""
    import torch

    cumulative = scores.double().softmax(-1).cumsum(-1)  # [B, V]
    drawn = torch.tensor([[row.draw.random()] for row in rows], dtype=torch.double, device=scores.device)
    index = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
    return index[:, 0].clamp(max=scores.shape[-1] - 1).tolist()


def _beam(lm: LanguageModel, rows: list[_Row], config: DecodingConfig) -> _Steps:
    """Beam search by transformers, on left-padded prompts; no step is seen from outside."""
    import torch

    width = max(len(row.prompt) for row in rows)
    ids = [[lm.codec.pad_id] * (width - len(row.prompt)) + row.prompt for row in rows]
    mask = [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
    with torch.inference_mode():
        written = lm.base.generate(
            torch.tensor(ids, device=lm.base.device),
            attention_mask=torch.tensor(mask, device=lm.base.device),
            max_new_tokens=config.max_new_tokens,
            num_beams=config.num_beams,
            do_sample=False,
            repetition_penalty=config.repetition_penalty,
            eos_token_id=lm.codec.stop_ids,
            pad_token_id=lm.codec.pad_id,
        )
    for row, reply in zip(rows, written[:, width:].tolist(), strict=True):
        row.reply = reply[: next((i for i, token in enumerate(reply) if token in lm.codec.stop_ids), len(reply))]
    yield []


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
    _check_room(lm, prompts, config.max_new_tokens)
    replies: dict[int, list[int]] = {}
    beams = config.num_beams if config.strategy == "beam" else 1  # every beam is a row
    for groups in _batches(_rows(prompts, keys, config.seed), max(1, config.batch_size // beams)):
        with memory_errors(f"choose a batch_size below {config.batch_size}, or a smaller max_new_tokens"):
            deque(_steps(lm, groups, config), maxlen=0)
        new = {row.index: row.reply for _, rows in groups for row in rows}
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
    _check_room(lm, [prompt], config.max_new_tokens)
    for groups in _batches(_rows([prompt], None, config.seed), 1):
        yield from (step[0][1] for step in _steps(lm, groups, config))


def _steps(lm: LanguageModel, groups: list[_Group], config: DecodingConfig) -> _Steps:
    if config.strategy == "beam":
        return _beam(lm, [row for _, rows in groups for row in rows], config)
    return _write(_Tree(lm, groups, config.strategy == "contrastive"), config, set(lm.codec.stop_ids))


def _check_room(lm: LanguageModel, prompts: Sequence[list[int]], new: int) -> None:
    longest = max(map(len, prompts), default=1)
    if not all(prompts):
        raise LabError("an empty prompt", "", "give at least one token, for instance codec.end")
    if longest + new > lm.context_length:
        found = f"{longest} tokens of prompt and {new} of reply"
        raise LabError(f"{lm.name} reads {lm.context_length} tokens", found, "lower max_length or max_new_tokens")


def _rows(prompts: Sequence[list[int]], keys: Sequence[str] | None, seed: int) -> list[_Row]:
    """A row for each prompt; by default the same prompt has the same random numbers, but others when it comes again."""
    count: dict[tuple[int, ...], int] = {}
    rows = []
    for index, prompt in enumerate(prompts):
        again = count[tuple(prompt)] = count.get(tuple(prompt), -1) + 1
        key = keys[index] if keys else f"{list(prompt)}/{again}"
        rows.append(_Row(index, list(prompt), random.Random(f"{seed}/{key}")))
    return rows


def _batches(rows: list[_Row], size: int) -> Iterator[list[_Group]]:
    """Groups with at most `size` rows in all, trunks of like length together; a family with more rows is cut."""
    groups = [_group(family[i : i + size]) for family in _families(rows) for i in range(0, len(family), size)]
    batch: list[_Group] = []
    for group in sorted(groups, key=lambda group: -len(group[0])):
        if sum(len(rows) for _, rows in [*batch, group]) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _families(rows: list[_Row]) -> list[list[_Row]]:
    """Rows that share at least half of their prompt with the first of their family, found by hashing beginnings."""
    families: list[list[_Row]] = []
    owner: dict[tuple[int, ...], list[_Row]] = {}  # beginning of a family's first prompt -> the family
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        lengths = [*range(1, BLOCK), *range(BLOCK, len(row.prompt) + 1, BLOCK)]
        starts = [tuple(row.prompt[:n]) for n in reversed(lengths)]
        family = next((owner[start] for start in starts if start in owner), None)
        if family is None or 2 * _shared(family[0].prompt, row.prompt) < len(row.prompt) - 1:
            families.append(family := [])
            for start in starts:
                owner.setdefault(start, family)
        family.append(row)
    return families


def _group(rows: list[_Row]) -> _Group:
    """The rows on their trunk, which is the first and longest of them."""
    for row in rows:
        row.shared = _shared(rows[0].prompt, row.prompt)
    return rows[0].prompt, rows


def _shared(trunk: list[int], prompt: list[int]) -> int:
    """How many tokens of `prompt` the trunk's cache can give; the last is always read, since its logits are wanted."""
    known = len(prompt) - 1
    return next((i for i, (a, b) in enumerate(zip(trunk, prompt[:-1], strict=False)) if a != b), known)


# --- replies to a corpus ----------------------------------------------------------------------------------------------


def predict(
    lm: LanguageModel,
    dialogues: Sequence[Dialogue],
    config: DecodingConfig | None = None,
    *,
    format: str = "turns",
    max_length: int = 1024,
    instruction: str = "",
    on_batch: Callable[[Predictions], None] | None = None,
) -> Predictions:
    """The model's reply to every user turn, each from its gold history; in the `state` format with the state it wrote.

    A history too long for `max_length` or the model loses its oldest turns. `on_batch` gets the predictions of whole
    dialogues as they are done: what an interrupted run can keep.
    """
    from tqdm.auto import tqdm

    config = config or DecodingConfig()
    needed = config.max_new_tokens + (STATE_TOKENS + 8 if format == "state" else 0)
    room = min(max_length, lm.context_length - needed)
    asked = {d.key: [p.input_ids for p in prompts(d, lm.codec, format, room, instruction)] for d in dialogues}
    batches: list[dict[str, list[list[int]]]] = [{}]  # of whole dialogues, the longest first
    for key in sorted(asked, key=lambda key: -max(map(len, asked[key]), default=0)):
        if sum(map(len, [*batches[-1].values(), asked[key]])) > config.batch_size and batches[-1]:
            batches.append({})
        batches[-1][key] = asked[key]
    done: Predictions = {}
    with tqdm(total=sum(map(len, asked.values())), desc=f"{lm.name} writes replies", unit="reply") as bar:
        for some in batches:
            new = _answers(lm, some, config, format == "state", lambda replies: bar.update(len(replies)))
            done |= new
            if on_batch:
                on_batch(new)
    return {key: done[key] for key in asked}


def _answers(
    lm: LanguageModel,
    asked: dict[str, list[list[int]]],
    config: DecodingConfig,
    with_state: bool,
    on_batch: Callable[[dict[int, list[int]]], None],
) -> Predictions:
    """Replies to the prompts of a few dialogues."""
    names = [f"{key}/{turn}" for key, some in asked.items() for turn in range(len(some))]
    histories = [prompt for some in asked.values() for prompt in some]
    states: list[dict[str, Any]] = [{} for _ in histories]
    if with_state:
        longer = replace(config, max_new_tokens=STATE_TOKENS)
        written = generate(lm, histories, longer, keys=[f"{name}/state" for name in names])
        states = [{"state": parse_state(lm.codec.decode(ids))} for ids in written]
        ending = lm.codec.encode("\n") + lm.codec.encode("bot>")
        histories = [prompt + ids + ending for prompt, ids in zip(histories, written, strict=True)]
    replies = iter(generate(lm, histories, config, keys=names, on_batch=on_batch))
    said = ({"response": lm.codec.decode(next(replies)), **state} for state in states)
    return {key: [next(said) for _ in some] for key, some in asked.items()}
