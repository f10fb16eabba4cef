"""Search on the tree: greedy, sampling, contrastive and beams."""

import math
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from labkit.decoding.config import CANDIDATES, DecodingConfig
from labkit.decoding.filters import TokenFilters, choose
from labkit.decoding.rows import Row, Steps
from labkit.decoding.tree import Tree

if TYPE_CHECKING:
    from torch.return_types import topk as TopK


def write(tree: Tree, config: DecodingConfig, stop: set[int]) -> Steps:
    """Let all rows write; each leaves at its stop token."""
    filtered = TokenFilters(config, stop)
    contrastive = config.strategy == "contrastive"
    candidates = config.top_k or CANDIDATES
    logits = tree.read_prompts()  # [B, V]
    for length in range(1, config.max_new_tokens + 1):
        wide = logits.float()  # half precision is too coarse to sample from
        scores = filtered(wide, length, tree.sequences, tree.rows)
        if contrastive:
            chosen, logits = tree.contrast(scores, candidates, config.penalty_alpha)
        else:
            chosen = choose(scores, tree.rows, config)
        yield list(zip(tree.rows, chosen, strict=True))
        staying = [i for i, token in enumerate(chosen) if token not in stop]
        for i in staying:
            tree.rows[i].reply.append(chosen[i])
        if not staying or length == config.max_new_tokens:
            return
        if len(staying) < len(chosen):
            tree.keep(staying)
        written = [[chosen[i]] for i in staying]
        logits = logits[staying] if contrastive else tree.read(written)


class Candidate(NamedTuple):
    """A beam and a next token."""

    total: float  # log-probability of the reply with it
    beam: int
    begun: list[int]  # the reply before it
    token: int
    ends: bool

    @property
    def reply(self) -> list[int]:
        return [*self.begun, self.token]


class Ended(NamedTuple):
    """A reply that a beam search has finished."""

    score: float  # log-probability over length
    reply: list[int]


def beams(tree: Tree, config: DecodingConfig, stop: set[int]) -> Steps:
    """Beam search as in transformers: replies compete by log-probability over length (Wu et al. 2016, eq. 14, α = 1).

    The beams of a prompt are rows of one trunk: to go on twice from one of them copies a mask, and no cache. What a
    reply is shows at the end, so the steps are empty.
    """
    filtered = TokenFilters(config, stop)
    width = config.num_beams
    enough = (1 + len(stop)) * width  # so many that `width` of them do not stop
    asked = list(tree.rows)
    ended: dict[int, list[Ended]] = {row.index: [] for row in asked}
    totals = [0.0] * len(asked)
    logits = tree.read_prompts()  # [B, V]
    for length in range(1, config.max_new_tokens + 1):
        likelihood = logits.float().log_softmax(-1)  # [B, V]
        scores = filtered(likelihood, length, tree.sequences, tree.rows)  # [B, V]
        before = tree.tensor(totals)[:, None]  # [B, 1]
        n_best = min(enough, scores.shape[1])
        best = (scores + before).topk(n_best)  # values and indices, [B, n_best]
        last = length == config.max_new_tokens
        going: list[Candidate] = []
        for index, likely in _by_prompt(best, tree.rows, stop, last).items():
            going += _compete(likely, ended[index], length, width)
        yield []
        if not going:
            break
        tree.keep([one.beam for one in going])
        tree.rows = [replace(row, reply=one.reply) for row, one in zip(tree.rows, going, strict=True)]
        totals = [one.total for one in going]
        logits = tree.read([[one.token] for one in going])
    for row in asked:
        winner = ended[row.index][0]
        row.reply = [token for token in winner.reply if token not in stop]


def _by_prompt(best: "TopK", rows: list[Row], stop: set[int], last: bool) -> dict[int, list[Candidate]]:
    """What may come next on the beams of each prompt, {index: best first}; at the `last` step each ends its reply."""
    found: dict[int, list[Candidate]] = {}
    totals = best.values.tolist()
    tokens = best.indices.tolist()
    for beam, row in enumerate(rows):
        of_prompt = found.setdefault(row.index, [])
        for total, token in zip(totals[beam], tokens[beam], strict=True):
            if total == -math.inf:  # a filter forbids it
                continue
            ends = last or token in stop
            of_prompt.append(Candidate(total, beam, row.reply, token, ends))
    for of_prompt in found.values():
        of_prompt.sort(key=attrgetter("total"), reverse=True)
    return found


def _compete(likely: list[Candidate], ended: list[Ended], length: int, width: int) -> list[Candidate]:
    """Those of a prompt's candidates, best first, that go on: none, once `width` replies in `ended` are better."""
    for one in likely[:width]:
        if one.ends:
            score = one.total / length
            ended.append(Ended(score, one.reply))
    ended.sort(key=attrgetter("score"), reverse=True)
    del ended[width:]
    going = [one for one in likely if not one.ends]
    if len(ended) == width and going:
        best_to_come = going[0].total / length
        if best_to_come <= ended[-1].score:
            return []
    return going[:width]
