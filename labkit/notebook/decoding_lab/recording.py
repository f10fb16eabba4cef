"""Answers of the decoding lab given before they are asked: for a page without a kernel, or with one that is busy."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages, remaining
from labkit.decoding.generate import stream
from labkit.decoding.vocabulary import only
from labkit.notebook.decoding_lab.answers import ALLOWED_NAMED, likeliest

if TYPE_CHECKING:
    from labkit.decoding.rows import OwnFilter
    from labkit.notebook.decoding_lab.answers import Answers, Content

LONGEST = 40  # tokens of each recorded reply, where the vocabulary is small
SIZE = 1_000_000  # characters for the logits of a recorded reply; those of one position take V
EXACT = 64  # tokens whose logits are recorded as they are
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SEEDS = 10  # whose random numbers are recorded: 0, 1, …
DRAWS = 256  # random numbers that the front end asks for
EDGE = 1e-6  # how near to a border of its token a random number may lie


class Recorded(NamedTuple):
    """How a recorded reply is written: the settings, and the name of the grammar ("none" for none).

    Under a grammar a line ends where the grammar wants it to end: `min_new_tokens` is not for it.
    """

    config: DecodingConfig
    grammar: str = "none"

    def filters(self, explorer: "Answers") -> "list[OwnFilter]":
        """The grammar as a filter of `labkit.stream`."""
        if self.grammar == "none":
            return []
        line = explorer.state_line(explorer.place)
        return [explorer.state_lines.filter(self.grammar, line)]


def question_key(question: "Content") -> str:
    """A question as text, spelt as `questionKey` of lab.mjs spells it."""
    return json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def opening_answers(explorer: "Answers") -> dict[str, "Content"]:
    """The answers to the first questions, for a kernel that is still busy; the logits come as bytes of their own."""
    seed = explorer.config.seed
    draws = explorer.draws(explorer.place, seed, DRAWS)
    logits = _question(explorer, "logits", reply=[])
    answer, _ = explorer.answer(logits)
    return {
        question_key(_question(explorer, "place")): explorer.described(),
        _draws_key(explorer, seed): {"numbers": draws},
        question_key(logits): {**answer, "isFirst": True},
    }


def _question(explorer: "Answers", ask: str, **details: object) -> "Content":
    """A question of the front end at the explorer's place."""
    return {"ask": ask, **explorer.place.asked(), **details}


def _draws_key(explorer: "Answers", seed: int) -> str:
    return question_key(_question(explorer, "draws", seed=seed, n=DRAWS))


def recorded_answers(explorer: "Answers") -> dict[str, "Content"]:
    """{question: answer} at the explorer's place: along greedy's reply and the reply of its first settings.

    Of a belief state they are recorded twice: as it is written freely, and as a grammar lets it be written.
    """
    key = question_key(_question(explorer, "place"))
    answers = {key: explorer.described()}
    for seed in {*range(SEEDS), explorer.config.seed}:
        numbers = explorer.draws(explorer.place, seed, LONGEST)
        answers[_draws_key(explorer, seed)] = {"numbers": numbers}
    replies = list(_replies(explorer))
    written = {token for _, reply in replies for token in reply}
    spans = []
    for how, reply in replies:
        along = _along_reply(explorer, reply, written)
        answers.update(along)
        if how.config.strategy == "sample":
            spans.append(_spans(explorer, how, reply, list(along.values())))
        question = _question(explorer, "score", reply=reply)
        score, _ = explorer.answer(question)
        answers[question_key(question)] = score
    seed = explorer.config.seed
    numbers = explorer.draws(explorer.place, seed, LONGEST)
    answers[_draws_key(explorer, seed)] = {"numbers": _landing(numbers, spans)}
    return answers


def _replies(explorer: "Answers") -> Iterator[tuple[Recorded, list[int]]]:
    """The replies that are recorded, and how each is written."""
    for grammar in _grammars(explorer):
        for config in _settings(explorer, is_free=grammar == "none"):
            how = Recorded(config, grammar)
            yield how, _reply(explorer, how)


def _grammars(explorer: "Answers") -> list[str]:
    """None, and then the explorer's first grammar, or the first that there is."""
    names = explorer.state_lines.names(explorer.place.format)
    if not names:
        return ["none"]
    own = explorer.grammar if explorer.grammar in names else names[0]
    return ["none", own]


def _along_reply(explorer: "Answers", reply: Sequence[int], always: set[int]) -> dict[str, "Content"]:
    """{question: answer} for the logits at every position of a reply, in order; see `_shortened` for `always`."""
    answers: dict[str, Content] = {}
    for length, logits in enumerate(_logits_along(explorer, reply)):
        question = _question(explorer, "logits", reply=reply[:length])
        answers[question_key(question)] = _shortened(explorer, logits, reply[:length], always)
    return answers


def _settings(explorer: "Answers", *, is_free: bool) -> Iterator[DecodingConfig]:
    """Greedy, and the explorer's first settings unless they are beams; with replies that are not too long to record."""
    vocabulary = len(explorer.logits(explorer.place))
    longest = max(1, min(explorer.config.max_new_tokens, LONGEST, SIZE // vocabulary))
    greedy = DecodingConfig(max_new_tokens=longest)
    least = min(explorer.config.min_new_tokens, longest) if is_free else 0
    own = replace(explorer.config, max_new_tokens=longest, min_new_tokens=least)
    yield greedy
    if own != greedy and own.strategy in ("sample", "greedy"):
        yield own


def _reply(explorer: "Answers", how: Recorded) -> list[int]:
    prompt = explorer.prompt_at(explorer.place)
    tokens = stream(explorer.lm, prompt, how.config, filters=how.filters(explorer))
    return list(islice(tokens, how.config.max_new_tokens))


def _logits_along(explorer: "Answers", reply: Sequence[int]) -> np.ndarray:
    """Logits [R + 1, V] before each token of a reply and after its last one, by one pass of the model."""
    import torch

    model = explorer.lm.base
    prompt = explorer.prompt_at(explorer.place)
    ids = torch.tensor([[*prompt, *reply]], device=model.device)  # [1, T]
    with torch.inference_mode():
        logits = model(ids, logits_to_keep=len(reply) + 1).logits  # [1, R + 1, V]
    return logits[0].float().cpu().numpy()


# --- logits in a few kB -----------------------------------------------------------------------------------------------


def _shortened(explorer: "Answers", logits: np.ndarray, reply: Sequence[int], always: set[int]) -> "Content":
    """Logits [V] after a beginning of a reply in V characters and a little more.

    The likeliest, also of those that a grammar allows, and `always` stand there as they are, the tail in 64 levels.
    A level keeps the mass of its tokens. Each token has its own level: on which token a random number lands depends on
    what lies before it in the vocabulary.
    """
    order = np.argsort(-logits)  # [V]
    likely = order[:EXACT].tolist()
    allowed = explorer.allowed(explorer.place, reply, len(logits))
    wanted = set(always)
    for tokens in allowed.values():
        wanted.update(likeliest(logits, tokens, ALLOWED_NAMED))
    listed = [*likely, *sorted(wanted - set(likely))]
    exact = np.isin(order, listed)  # [V]
    level_of = np.zeros(len(logits), dtype=int)  # [V]
    levels = []
    groups = np.array_split(order[~exact], len(LEVELS))  # of like logits
    for number, ids in enumerate(groups):
        level_of[ids] = number
        level = _mean_of_weights(logits[ids]) if len(ids) else 0.0
        levels.append(_rounded(level))
    shortened = {"allowed": allowed} if allowed else {}
    return {
        **shortened,
        "ids": listed,
        "logits": [_rounded(logits[token]) for token in listed],
        "levels": levels,
        "level": "".join(LEVELS[number] for number in level_of),
        "texts": explorer.texts(listed),
    }


def expanded(answer: "Content") -> np.ndarray:
    """The logits [V] that the front end makes of a recorded answer (`logitsOf` of lab.mjs)."""
    level_of = [LEVELS.index(character) for character in answer["level"]]
    logits = np.array(answer["levels"], dtype=np.float32)[level_of]  # [V]
    logits[answer["ids"]] = answer["logits"]
    return logits


def _mean_of_weights(logits: np.ndarray) -> float:
    """The logit that n tokens would have to have to weigh, all together, what `logits` [n] do."""
    exact = logits.astype(np.float64)
    highest = exact.max()
    return highest + np.log(np.exp(exact - highest).mean())


def _rounded(value: float) -> float:
    return float(f"{value:.8g}")


# --- which token a random number lands on -----------------------------------------------------------------------------

Span = tuple[float, float]  # of [0, 1]


def _spans(explorer: "Answers", how: Recorded, reply: Sequence[int], recorded: Sequence["Content"]) -> list[Span]:
    """Between which random numbers each token of a reply is drawn from the recorded logits."""
    config = how.config
    prompt = explorer.prompt_at(explorer.place)
    spans = []
    for at, token in enumerate(reply):
        logits = expanded(recorded[at])  # [V]
        if how.grammar != "none":
            logits = only(logits, recorded[at]["allowed"][how.grammar])
        if at < config.min_new_tokens:
            logits[explorer.lm.codec.stop_ids] = -np.inf
        context = [*prompt, *reply[:at]]
        stages = filter_stages(logits, config, context)
        probabilities = remaining(logits, stages).astype(np.float64)  # [V]
        spans.append(_span(probabilities, token))
    return spans


def _span(probabilities: np.ndarray, token: int) -> Span:
    """Between which numbers of [0, 1] a token lies when all of them [V] lie side by side."""
    total = probabilities.sum()
    before = probabilities[:token].sum() / total
    return before, before + probabilities[token] / total


def _landing(draws: Sequence[float], spans: Sequence[Sequence[Span]]) -> list[float]:
    """The random numbers, moved a little where the recorded tail would have another token drawn than was drawn.

    `spans`: of each recorded reply, those of its tokens.
    """
    landing = []
    for at, number in enumerate(draws):
        here = [of_reply[at] for of_reply in spans if at < len(of_reply)]
        low = max((low for low, _ in here), default=0.0)
        high = min((high for _, high in here), default=1.0)
        is_inside = low + EDGE <= number <= high - EDGE
        landing.append(number if is_inside or not here else (low + high) / 2)
    return landing
