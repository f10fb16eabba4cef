"""Many short sequences read at once: a beginning that several have in common is read once.

A model that looks back only computes the same for the same beginning. So sequences in alphabetical order are the
branches of a tree (a trie), whose tokens lie one after the other, each branch after its beginning. Then what stems from
a token stands right behind it, up to some last column: a token sees the columns before it whose branches reach it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.compat import computes_attention
from labkit.models.families import route_of
from labkit.models.finite import check_finite
from labkit.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

WIDTH = 128  # columns of a row, where no sequence is longer: wider ones attend to more, narrower ones waste more
AT_ONCE = 2048  # columns that a model reads at once, where a row is not wider


def pad_right(ids: list[int], width: int, fill: int = 0) -> list[int]:
    """The ids at the beginning of `width` places."""
    empty = width - len(ids)
    return ids + [fill] * empty


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    for at, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return at
    return min(len(a), len(b))


@dataclass
class Branches:
    """Some sequences as the tokens of a tree, column by column."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)  # of each column in its sequence
    last: list[int] = field(default_factory=list)  # the last column that stems from each
    tokens: Sequence[int] = ()  # of the sequence that was added last …
    path: list[int] = field(default_factory=list)  # … and their columns

    def new_tokens(self, tokens: Sequence[int]) -> int:
        """How many columns a sequence would add."""
        return len(tokens) - common_prefix(self.tokens, tokens)

    def add(self, tokens: Sequence[int]) -> None:
        """Add a sequence, in alphabetical order."""
        known = common_prefix(self.tokens, tokens)
        begin = len(self.ids)
        self.ids.extend(tokens[known:])
        end = len(self.ids)
        self.positions.extend(range(known, len(tokens)))
        self.last.extend(range(begin, end))
        self.path = [*self.path[:known], *range(begin, end)]
        self.tokens = tokens
        for column in self.path:
            self.last[column] = end - 1


def in_rows(sequences: Sequence[Sequence[int]], width: int) -> tuple[list[Branches], list[list[int]]]:
    """(rows with up to `width` columns, the places of each sequence's tokens); a place is row * width + column."""
    rows = [Branches()]
    places: list[list[int]] = [[] for _ in sequences]
    for index in sorted(range(len(sequences)), key=sequences.__getitem__):
        tokens = sequences[index]
        if len(rows[-1].ids) + rows[-1].new_tokens(tokens) > width:
            rows.append(Branches())
        rows[-1].add(tokens)
        first = (len(rows) - 1) * width
        places[index] = [first + column for column in rows[-1].path]
    return rows, places


def shares_beginnings(lm: LanguageModel, longest: int) -> bool:
    """Whether `mean_states` is exact for sequences of up to `longest` tokens: the family, and no window below that."""
    route = route_of(lm.base)
    return route.by_tree and (route.window is None or route.window >= longest)


def mean_states(lm: LanguageModel, sequences: Sequence[Sequence[int]], layer: int) -> "Tensor":
    """The mean of a layer's hidden states over each sequence's tokens, [B, H] in float32; layer 0 is the embeddings.

    Exact where `shares_beginnings` says so.

    Raises:
        LabError: states that are not finite.
    """
    import torch

    width = max(WIDTH, *map(len, sequences))  # W
    rows, places = in_rows(sequences, width)
    n_rows = max(1, AT_ONCE // width)
    states = []
    for start in range(0, len(rows), n_rows):
        end = start + n_rows
        some = rows[start:end]
        of_some = _states(lm, some, width, layer)  # [n_rows, W, H]
        states.append(of_some)
    of_rows = torch.cat(states)  # [R, W, H]
    in_a_row = [place for of_sequence in places for place in of_sequence]
    every_place = torch.tensor(in_a_row, device=of_rows.device)
    sizes = torch.tensor([len(of_sequence) for of_sequence in places], device=of_rows.device)  # [B]
    starts = sizes.cumsum(0) - sizes  # [B]
    by_place = of_rows.flatten(0, 1)  # [R * W, H]
    means = torch.nn.functional.embedding_bag(
        every_place,
        by_place,
        starts,
        mode="mean",
    )  # [B, H]
    check_finite(means, lm, "hidden states")
    return means


def _states(lm: LanguageModel, rows: Sequence[Branches], width: int, layer: int) -> "Tensor":
    """The hidden states of some rows, [R, W, H] in float32."""
    import torch

    device = lm.base.device
    ids = torch.tensor([pad_right(row.ids, width, lm.codec.pad_id) for row in rows], device=device)  # [R, W]
    positions = torch.tensor([pad_right(row.positions, width) for row in rows], device=device)  # [R, W]
    last = torch.tensor([pad_right(row.last, width, width) for row in rows], device=device)  # padding sees itself
    column = torch.arange(width, device=device)  # [W]
    at = column[:, None]  # [W, 1] the column that sees
    seen = (column <= at) & (at <= last[:, None])  # [R, W, W]
    body = lm.base.base_model  # without the output head: its logits are not needed
    with torch.inference_mode():
        out = body(
            ids,
            position_ids=positions,
            attention_mask=_masks(lm.base, seen),
            use_cache=False,
            output_hidden_states=True,
        )
    return out.hidden_states[layer].float()


def _masks(model: "PreTrainedModel", seen: "Tensor") -> "Tensor | dict[str, Tensor]":
    """The mask of all layers; one for each kind where the family wants that, which are the same in a wide window."""
    mask = mask_for_kernel(model, seen)
    if route_of(model).by_kind:
        return {"full_attention": mask, "sliding_attention": mask}
    return mask


def mask_for_kernel(model: "PreTrainedModel", seen: "Tensor") -> "Tensor":
    """`seen` [D, Q, C] as the attention kernel takes it, [D, 1, Q, C]: sdpa yes and no, others numbers to add."""
    import torch

    seen = seen[:, None]
    if computes_attention(model) == "sdpa":
        return seen
    added = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
    return added.masked_fill(~seen, torch.finfo(model.dtype).min)
