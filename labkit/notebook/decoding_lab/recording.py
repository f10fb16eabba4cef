"""Answers of the decoding lab given before they are asked: for a page without a kernel, or with one that is busy."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages, remaining
from labkit.decoding.generate import stream

if TYPE_CHECKING:
    from labkit.notebook.decoding_lab.answers import Answers, Content

LONGEST = 40  # tokens of each recorded reply, where the vocabulary is small
SIZE = 1_000_000  # characters for the logits of a recorded reply; those of one position take V
EXACT = 64  # tokens whose logits are recorded as they are
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SEEDS = 10  # whose random numbers are recorded: 0, 1, …
DRAWS = 256  # random numbers that the front end asks for
EDGE = 1e-6  # how near to a border of its token a random number may lie


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
    place = asdict(explorer.place)
    return {"ask": ask, **place, **details}


def _draws_key(explorer: "Answers", seed: int) -> str:
    return question_key(_question(explorer, "draws", seed=seed, n=DRAWS))


def recorded_answers(explorer: "Answers") -> dict[str, "Content"]:
    """{question: answer} at the explorer's place: along greedy's reply and the reply of its first settings."""
    key = question_key(_question(explorer, "place"))
    answers = {key: explorer.described()}
    for seed in {*range(SEEDS), explorer.config.seed}:
        numbers = explorer.draws(explorer.place, seed, LONGEST)
        answers[_draws_key(explorer, seed)] = {"numbers": numbers}
    for config in _settings(explorer):
        answers.update(_along_reply(explorer, config))
    return answers


def _along_reply(explorer: "Answers", config: DecodingConfig) -> dict[str, "Content"]:
    """{question: answer} for every position of the reply that `config` gives, its random numbers and its score."""
    reply = _reply(explorer, config)
    answers: dict[str, Content] = {}
    recorded = []
    for length, logits in enumerate(_logits_along(explorer, reply)):
        answer = _shortened(explorer, logits, reply)
        recorded.append(answer)
        question = _question(explorer, "logits", reply=reply[:length])
        answers[question_key(question)] = answer
    if config.strategy == "sample":
        numbers = _landing(explorer, config, reply, recorded)
        answers[_draws_key(explorer, config.seed)] = {"numbers": numbers}
    question = _question(explorer, "score", reply=reply)
    score, _ = explorer.answer(question)
    answers[question_key(question)] = score
    return answers


def _settings(explorer: "Answers") -> Iterator[DecodingConfig]:
    """Greedy, and the explorer's first settings unless they are beams; with replies that are not too long to record."""
    vocabulary = len(explorer.logits(explorer.place))
    longest = max(1, min(explorer.config.max_new_tokens, LONGEST, SIZE // vocabulary))
    greedy = DecodingConfig(max_new_tokens=longest)
    least = min(explorer.config.min_new_tokens, longest)
    own = replace(explorer.config, max_new_tokens=longest, min_new_tokens=least)
    yield greedy
    if own != greedy and own.strategy in ("sample", "greedy"):
        yield own


def _reply(explorer: "Answers", config: DecodingConfig) -> list[int]:
    prompt = explorer.prompt_at(explorer.place)
    tokens = stream(explorer.lm, prompt, config)
    return list(islice(tokens, config.max_new_tokens))


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


def _shortened(explorer: "Answers", logits: np.ndarray, reply: Sequence[int]) -> "Content":
    """Logits [V] in V characters and a little more: the likeliest as they are, the tail in 64 levels.

    A level keeps the mass of its tokens. Each token has its own level: on which token a random number lands depends on
    what lies before it in the vocabulary.
    """
    order = np.argsort(-logits)  # [V]
    likeliest = order[:EXACT].tolist()
    listed = [*likeliest, *sorted(set(reply) - set(likeliest))]
    exact = np.isin(order, listed)  # [V]
    level_of = np.zeros(len(logits), dtype=int)  # [V]
    levels = []
    groups = np.array_split(order[~exact], len(LEVELS))  # of like logits
    for number, ids in enumerate(groups):
        level_of[ids] = number
        level = _mean_of_weights(logits[ids]) if len(ids) else 0.0
        levels.append(_rounded(level))
    return {
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


def _landing(
    explorer: "Answers",
    config: DecodingConfig,
    reply: Sequence[int],
    recorded: Sequence["Content"],
) -> list[float]:
    """The random numbers, moved a little where the recorded tail would have another token drawn than was drawn."""
    prompt = explorer.prompt_at(explorer.place)
    draws = explorer.draws(explorer.place, config.seed, LONGEST)
    for at, token in enumerate(reply):
        logits = expanded(recorded[at])  # [V]
        if at < config.min_new_tokens:
            logits[explorer.lm.codec.stop_ids] = -np.inf
        context = [*prompt, *reply[:at]]
        stages = filter_stages(logits, config, context)
        probabilities = remaining(logits, stages).astype(np.float64)  # [V]
        low, high = _span(probabilities, token)
        if not low + EDGE <= draws[at] <= high - EDGE:
            draws[at] = (low + high) / 2
    return draws


def _span(probabilities: np.ndarray, token: int) -> tuple[float, float]:
    """Between which numbers of [0, 1] a token lies when all of them [V] lie side by side."""
    total = probabilities.sum()
    before = probabilities[:token].sum() / total
    return before, before + probabilities[token] / total
