"""Rows that share a beginning, read together: each sees what it would see alone.

Shapes in this file: B rows, in D trunks with R slots each; S new tokens a row, read side by side as Q = S * R columns
of their trunk; C columns in the cache; H the width of a hidden state, V the vocabulary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING

from labkit.decoding.kept import all_go_on, cache_of, joined, remember
from labkit.decoding.rows import Group, pad_left, shared
from labkit.models.beginnings import mask_for_kernel, pad_right
from labkit.models.families import route_of
from labkit.models.finite import check_finite
from labkit.models.language_model import LanguageModel
from labkit.models.packed import only_wanted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import DynamicCache

LIKE = 7 / 8  # of the longest of the trunks that are read together


class Tree:
    """B rows in R slots on each of D trunks; a row is a branch that sees its part of the trunk, and itself.

    The rows of a trunk are columns of one sequence, with explicit positions and a mask that keeps them apart, so that a
    trunk is neither stored nor gone through once for every row (compare tree attention; Cai et al. 2024, "Medusa").
    Exact for the families of `labkit.models.families`.
    """

    def __init__(self, lm: LanguageModel, groups: list[Group], *, contrastive: bool):
        self.lm = lm
        self.model = lm.base
        self.device = self.model.device
        self.route = route_of(self.model)
        self.context = None  # [D, C, H] of every column of the cache, for contrastive search
        self.rows = [row for group in groups for row in group]
        if all_go_on(groups):
            in_trunk = self._take_up_conversations()
        else:
            in_trunk = self._read_beginnings(groups, contrastive=contrastive)
        self._place([trunk for trunk, group in enumerate(groups) for _ in group])
        self.position = self.tensor(in_trunk)  # [B] of the next token
        column = self.tensor(range(self.cache.get_seq_length()))  # [C]
        self.column_position = column.expand(len(groups), -1)  # [D, C]
        ends = self._in_slots(self.position[:, None], fill=0).mT  # [D, R, 1]
        self.visible = column < ends  # [D, R, C] columns that a row sees

    def tensor(self, values: Sequence) -> "Tensor":
        import torch

        return torch.tensor(values, device=self.device)

    def _take_up_conversations(self) -> list[int]:
        """Fill the cache with what is kept of each row's conversation; [B] how much of its prompt that is."""
        self.cache = cache_of(self.rows)
        return [row.kept.known(row.prompt) for row in self.rows]

    def _read_beginnings(self, groups: list[Group], *, contrastive: bool) -> list[int]:
        """Read the trunk of each group; [B] how much of a row's prompt its trunk has."""
        trunks = [group[0].prompt for group in groups]
        hidden = self._read_trunks(trunks)  # [D, C, H]
        if contrastive:
            self.context = unit(hidden)
        in_trunk = []
        for trunk, group in zip(trunks, groups, strict=True):
            in_trunk += [shared(trunk, row.prompt) for row in group]
        return in_trunk

    def _read_trunks(self, trunks: list[list[int]]) -> "Tensor":
        """Fill the cache with the longest prompt of each group, padded on the right; hidden states [D, C, H]."""
        import torch

        lengths = [len(trunk) for trunk in trunks]
        read = [self._read_together(part) for part in self._of_like_length(trunks)]
        if len(read) == 1:
            self.cache, hidden = read[0]
            return hidden
        self.cache = joined([cache for cache, _ in read], lengths)
        of_trunks = [of_trunk for _, hidden in read for of_trunk in hidden]  # D times [T, H]
        return torch.nn.utils.rnn.pad_sequence(of_trunks, batch_first=True)

    def _of_like_length(self, trunks: list[list[int]]) -> list[list[list[int]]]:
        """The trunks in lists to be read together: a CPU reads padding as slowly as text, a GPU idles with few rows."""
        parts: list[list[list[int]]] = []
        for trunk in trunks:
            if parts and self._is_little_padding(parts[-1][0], trunk):
                parts[-1].append(trunk)
            else:
                parts.append([trunk])
        return parts

    def _is_little_padding(self, longer: list[int], trunk: list[int]) -> bool:
        if self.device.type != "cpu":
            return True
        return LIKE * len(longer) <= len(trunk) <= len(longer)

    def _read_together(self, trunks: list[list[int]]) -> tuple["DynamicCache", "Tensor"]:
        """The cache of some trunks, padded on the right, and their hidden states [D, C, H]."""
        import torch

        from labkit.decoding.cache import growing_cache

        cache = growing_cache()
        longest = max(map(len, trunks))
        ids = self.tensor([pad_right(trunk, longest) for trunk in trunks])  # [D, C]
        with torch.inference_mode():  # base_model: the output head is not needed on the history
            # without a mask: no token sees the padding after it, and rows see no column behind their part of the trunk
            out = self.model.base_model(ids, past_key_values=cache, use_cache=True)
        return cache, out.last_hidden_state

    def _place(self, trunks: list[int]) -> None:
        """The rows, each of one of the `trunks` [B], take the first slots of their trunk."""
        taken: Counter[int] = Counter()
        numbers = []
        for trunk in trunks:
            numbers.append(taken[trunk])
            taken[trunk] += 1
        self.n_trunks = len(taken)  # D
        self.n_slots = max(taken.values())  # R
        slots = [trunk * self.n_slots + number for trunk, number in zip(trunks, numbers, strict=True)]
        self.slot = self.tensor(slots)  # [B]

    def _in_slots(self, values: "Tensor", fill: int) -> "Tensor":
        """Values [B, S] of the rows as [D, S, R], `fill` in slots without a row."""
        n_values = values.shape[1]  # S
        n_places = self.n_trunks * self.n_slots  # D * R
        placed = values.new_full((n_places, n_values), fill)  # [D * R, S]
        placed[self.slot] = values
        by_trunk = placed.unflatten(0, (self.n_trunks, self.n_slots))  # [D, R, S]
        return by_trunk.mT

    def _own(self, real: "Tensor") -> "Tensor":
        """[D, R, S, R] which of the `real` [B, S] new tokens are of a slot's own row."""
        slot = self.tensor(range(self.n_slots))
        same_slot = slot == slot[:, None]  # [R, R]
        there = self._in_slots(real, fill=False)  # [D, S, R]
        return there[:, None] & same_slot[:, None]

    def read_prompts(self) -> "Tensor":
        """Read what the trunks do not hold of the rows' prompts; logits [B, V] after them."""
        rest = []
        for row, known in zip(self.rows, self.position.tolist(), strict=True):
            rest.append(row.prompt[known:])
        logits = self.read(rest)
        self._keep_conversations()
        return logits

    def _keep_conversations(self) -> None:
        """Keep what was read of the rows' prompts for the next turn."""
        for row, place in zip(self.rows, self.slot.tolist(), strict=True):
            if row.kept is not None:
                trunk, slot = divmod(place, self.n_slots)
                columns = self.visible[trunk, slot].nonzero()[:, 0]  # [T] in the order of the prompt
                remember(row, self.cache, trunk, columns)

    def read(self, tokens: list[list[int]]) -> "Tensor":
        """Read each row's next tokens; logits [B, V] after them.

        Raises:
            LabError: logits that are not finite.
        """
        lengths = [len(row) for row in tokens]
        width = max(lengths)  # S
        ids = self.tensor([pad_left(row, width) for row in tokens])  # [B, S]
        column = self.tensor(range(width))  # [S]
        begins = width - self.tensor(lengths)[:, None]  # [B, 1]
        real = column >= begins  # [B, S]
        sees = real.new_ones(width, width).tril()  # [S, S] every token those before it
        logits, context = self._forward(ids, real, sees, keep=1)
        self._settle(real, context)
        return logits[:, 0]

    def contrast(self, scores: "Tensor", k: int, alpha: float) -> tuple[list[int], "Tensor"]:
        """Contrastive search (Su et al. 2022): of the k likeliest next tokens v, the one with the highest
        (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), h being last hidden states and j the tokens before v.

        Candidates are read side by side at one position; those not chosen stay hidden. Returns the tokens and the
        logits [B, V] after them.
        """
        probability, candidates = scores.softmax(-1).topk(k)  # [B, k]
        index = self.tensor(range(k))
        alone = index == index[:, None]  # [k, k] a candidate sees no other
        real = candidates >= 0  # [B, k] all of them
        logits, context = self._forward(candidates, real, alone, keep=k)  # [B, k, V], [D, k * R, H]
        penalty = self._similarity(context, k)  # [B, k]
        score = (1 - alpha) * probability - alpha * penalty  # [B, k]
        forbidden = scores.gather(1, candidates).isneginf()  # [B, k] where filters leave fewer than k
        score = score.masked_fill(forbidden, -float("inf"))
        best = score.argmax(-1, keepdim=True)  # [B, 1]
        self._settle(alone[best[:, 0]], context)
        chosen = candidates.gather(1, best)  # [B, 1]
        after = logits.take_along_dim(best[..., None], dim=1)  # [B, 1, V]
        return chosen[:, 0].tolist(), after[:, 0]

    def _similarity(self, context: "Tensor", k: int) -> "Tensor":
        """[B, k] the highest cosine of each candidate, states `context` [D, k * R, H], with what its row has read."""
        cosine = context @ self.context.mT  # [D, k * R, C]
        cosine = cosine.unflatten(1, (k, self.n_slots))  # [D, k, R, C]
        hidden = ~self.visible[:, None]  # [D, 1, R, C]
        highest = cosine.masked_fill(hidden, -1).amax(-1)  # [D, k, R]
        by_slot = highest.mT.flatten(0, 1)  # [D * R, k]
        return by_slot[self.slot]

    def _forward(self, ids: "Tensor", real: "Tensor", sees: "Tensor", keep: int) -> tuple["Tensor", "Tensor | None"]:
        """Logits [B, keep, V] after the last `keep` of tokens [B, S]; unit hidden states [D, Q, H] for `contrast`.

        A token sees what its row sees, itself, and those of the row's new tokens that are `real` and that `sees` [S, S]
        allows. Columns are ordered by token, then slot.
        """
        import torch

        seen = real[:, None] & sees  # [B, S, S]
        n_seen = seen.sum(-1).clamp(min=1)  # [B, S] new tokens up to each, itself among them
        position = self.position[:, None] + n_seen - 1  # [B, S]
        positions = self._in_slots(position, fill=0).flatten(1)  # [D, Q]
        filled = self._in_slots(real, fill=False).flatten(1)  # [D, Q]
        with torch.inference_mode(), self._head_on_rows(keep), only_wanted(filled):
            out = self.model(
                self._in_slots(ids, fill=0).flatten(1),  # [D, Q]
                position_ids=positions,
                attention_mask=self._masks(real, sees, positions),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=keep * self.n_slots,
                output_hidden_states=self.context is not None,
            )
        self.column_position = torch.cat([self.column_position, positions], dim=-1)  # [D, C + Q]
        logits = out.logits  # [B, keep, V]
        check_finite(logits, self.lm)
        if self.context is None:
            return logits, None
        return logits, unit(out.hidden_states[-1])

    @contextmanager
    def _head_on_rows(self, keep: int) -> Iterator[None]:
        """Let the output head, most of the work in a small model, see the rows' last tokens, and no empty slot."""
        me = get_ident()

        def of_rows(_: "Module", inputs: tuple["Tensor", ...]) -> tuple["Tensor"] | None:
            if get_ident() != me:  # a tree that is read by another thread has a hook of its own
                return None
            states = inputs[0].unflatten(1, (keep, self.n_slots))  # [D, keep, R, H]
            by_slot = states.transpose(1, 2).flatten(0, 1)  # [D * R, keep, H]
            return (by_slot[self.slot],)  # [B, keep, H]

        hook = self.model.get_output_embeddings().register_forward_pre_hook(of_rows)
        try:
            yield
        finally:
            hook.remove()

    def _masks(self, real: "Tensor", sees: "Tensor", positions: "Tensor") -> "Tensor | dict[str, Tensor]":
        """What each of Q new columns at `positions` [D, Q] may look at: one mask, or one for each kind of layer."""
        import torch

        n_tokens = real.shape[1]  # S
        own = self._own(real)[:, None]  # [D, 1, R, S, R]
        earlier = sees[:, None, :, None]  # [S, 1, S, 1]
        new = own & earlier  # [D, S, R, S, R]
        new = new.flatten(3).flatten(1, 2)  # [D, Q, Q]
        new.diagonal(dim1=1, dim2=2).fill_(True)  # padding sees itself
        old = self.visible.repeat(1, n_tokens, 1)  # [D, Q, C]
        everything = torch.cat([old, new], dim=-1)  # [D, Q, C + Q]
        window = self.route.window
        if window is None:
            return mask_for_kernel(self.model, everything)
        columns = torch.cat([self.column_position, positions], dim=-1)  # [D, C + Q]
        distance = positions[:, :, None] - columns[:, None, :]  # [D, Q, C + Q]
        near = distance < window
        windowed = mask_for_kernel(self.model, everything & near)
        if not self.route.by_kind:
            return windowed
        return {"full_attention": mask_for_kernel(self.model, everything), "sliding_attention": windowed}

    def _settle(self, real: "Tensor", context: "Tensor | None") -> None:
        """From now on each row sees those of the tokens just read that are `real` [B, S]."""
        import torch

        new = self._own(real).flatten(2)  # [D, R, Q]
        self.visible = torch.cat([self.visible, new], dim=-1)
        self.position = self.position + real.sum(1)
        if context is not None:
            self.context = torch.cat([self.context, context], dim=1)

    def sequences(self) -> "Tensor":
        """[B, T] prompts and replies so far, filled up with a token of the row's own, for the repetition penalty."""
        full = [row.prompt + row.reply for row in self.rows]
        width = max(map(len, full))
        padded = [pad_right(ids, width, fill=ids[-1]) for ids in full]
        return self.tensor(padded)

    def keep(self, staying: list[int]) -> None:
        """Go on with these rows only: slots close up, and trunks without rows leave."""
        self.rows = [self.rows[i] for i in staying]
        self.position = self.position[staying]
        slots = self.slot[staying].tolist()  # [B] of the rows before
        branches: dict[int, list[int]] = {}  # {trunk before: its slots before}
        for slot in slots:
            branches.setdefault(slot // self.n_slots, []).append(slot)
        trunks = without_gaps(list(branches))  # [D] the trunk before that takes each place
        width = max(map(len, branches.values()))
        order = [pad_right(branches[trunk], width, fill=branches[trunk][-1]) for trunk in trunks]  # [D, R]
        by_slot = self.visible.flatten(0, 1)  # [D * R, C] of the trunks before
        self.visible = by_slot[self.tensor(order)]  # [D, R, C]
        place = {trunk: place for place, trunk in enumerate(trunks)}
        places = [place[slot // self.n_slots] for slot in slots]  # [B]
        if len(trunks) < self.n_trunks:
            self._keep_trunks(trunks)
        self._place(places)

    def _keep_trunks(self, trunks: list[int]) -> None:
        import torch

        from labkit.decoding.cache import close_up

        with torch.inference_mode():
            close_up(self.cache, trunks)
        self.column_position = self.column_position[trunks]
        if self.context is not None:
            self.context = self.context[trunks]


def without_gaps(trunks: Sequence[int]) -> list[int]:
    """Which of the trunks that stay takes each place: those that are in front stay there, the last fill the gaps.

    >>> without_gaps([0, 2, 5])
    [0, 5, 2]
    """
    n_trunks = len(trunks)
    behind = [trunk for trunk in sorted(trunks) if trunk >= n_trunks]
    return [place if place in trunks else behind.pop() for place in range(n_trunks)]


def unit(hidden: "Tensor") -> "Tensor":
    """Hidden states [..., H] at length 1, in float32."""
    wide = hidden.float()
    return wide / wide.norm(dim=-1, keepdim=True)
