"""Rows that share a beginning, read together: each sees what it would see alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from labkit.models import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor


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


def _shared(trunk: list[int], prompt: list[int]) -> int:
    """How many tokens of `prompt` the trunk's cache can give; the last is always read, since its logits are wanted."""
    known = len(prompt) - 1
    return next((i for i, (a, b) in enumerate(zip(trunk, prompt[:-1], strict=False)) if a != b), known)
