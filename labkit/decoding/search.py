"""Search on the tree: greedy, sampling, contrastive and beams."""

from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import _filtered, _sampled
from labkit.decoding.tree import _Steps, _Tree


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
