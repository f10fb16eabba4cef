"""Search on the tree: greedy, sampling, contrastive and beams."""

from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from labkit.decoding.config import CANDIDATES, DecodingConfig
from labkit.decoding.filters import TokenFilters, choose
from labkit.decoding.rows import Row, Steps
from labkit.decoding.tree import Tree


def write(tree: Tree, config: DecodingConfig, stop: set[int]) -> Steps:
    """Let all rows write; each leaves at its stop token."""
    filtered = TokenFilters(config, stop)
    contrastive = config.strategy == "contrastive"
    candidates = config.top_k or CANDIDATES
    logits = tree.read_prompts()  # [B, V]
    for length in range(1, config.max_new_tokens + 1):
        scores = filtered(logits.float(), length, tree.sequences)  # half precision is too coarse to sample from
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
        logits = logits[staying] if contrastive else tree.read([[chosen[i]] for i in staying])


class Candidate(NamedTuple):
    """A beam and a next token."""

    total: float  # log-probability of the reply so far
    beam: int
    token: int
    ends: bool


class Ended(NamedTuple):
    """A reply that a beam search has finished."""

    score: float  # log-probability over length
    tokens: list[int]


def beams(tree: Tree, config: DecodingConfig, stop: set[int]) -> Steps:
    """Beam search as in transformers: replies compete by log-probability over length (Wu et al. 2016, eq. 14, α = 1).

    The beams of a prompt are rows of one trunk: to go on twice from one of them copies a mask, and no cache. What a
    reply is shows at the end, so the steps are empty.
    """
    filtered = TokenFilters(config, stop)
    asked = list(tree.rows)
    ended: dict[int, list[Ended]] = {row.index: [] for row in asked}
    totals = [0.0] * len(asked)
    logits = tree.read_prompts()  # [B, V]
    for length in range(1, config.max_new_tokens + 1):
        scores = filtered(logits.float().log_softmax(-1), length, tree.sequences)  # [B, V]
        scores = scores + tree.tensor(totals)[:, None]
        last = length == config.max_new_tokens
        enough = (1 + len(stop)) * config.num_beams  # so many that num_beams of them do not stop
        best = scores.topk(min(enough, scores.shape[1]))
        likely = _candidates(best.values.tolist(), best.indices.tolist(), stop, last)
        going: list[Candidate] = []
        for index, some in groupby(likely, key=lambda candidate: tree.rows[candidate.beam].index):
            ranked = sorted(some, key=attrgetter("total"), reverse=True)
            going += _compete(ranked, ended[index], tree.rows, length, config.num_beams)
        yield []
        if not going:
            break
        tree.keep([one.beam for one in going])
        tree.rows = [_longer(row, one.token) for row, one in zip(tree.rows, going, strict=True)]
        totals = [one.total for one in going]
        logits = tree.read([[one.token] for one in going])
    for row in asked:
        best_reply = ended[row.index][0].tokens
        row.reply = [token for token in best_reply if token not in stop]


def _candidates(totals: list[list[float]], tokens: list[list[int]], stop: set[int], last: bool) -> list[Candidate]:
    """What may come next on every beam; at the `last` step each of them ends its reply."""
    found = []
    for beam, (some_totals, some_tokens) in enumerate(zip(totals, tokens, strict=True)):
        for total, token in zip(some_totals, some_tokens, strict=True):
            found.append(Candidate(total, beam, token, ends=last or token in stop))
    return found


def _longer(row: Row, token: int) -> Row:
    return replace(row, reply=[*row.reply, token])


def _compete(likely: list[Candidate], ended: list[Ended], rows: list[Row], length: int, width: int) -> list[Candidate]:
    """Those of a prompt's candidates, best first, that go on: none, once `width` replies in `ended` are better."""
    for one in likely[:width]:
        if one.ends:
            ended.append(Ended(one.total / length, [*rows[one.beam].reply, one.token]))
    ended.sort(key=attrgetter("score"), reverse=True)
    del ended[width:]
    going = [one for one in likely if not one.ends][:width]
    if len(ended) == width and going:
        best_to_come = going[0].total / length
        if best_to_come <= ended[-1].score:
            return []
    return going
