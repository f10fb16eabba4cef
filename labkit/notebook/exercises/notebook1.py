"""Checkers of notebook 1: decoding filters, contrastive search, sampling that repeats, delexicalisation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.corpora.types import BOT, Span, Turn
from labkit.notebook.exercises import Wrong, exercise
from labkit.prompts.text import delexicalise as reference_delexicalise

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, -2.5, 1.0])


def vector(value: Any, like: np.ndarray, what: str) -> np.ndarray:
    """The student's value as an array of the shape of `like`; a list or a torch tensor is as good as an array."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise Wrong(f"Expected {what} as numbers; you gave a {type(value).__name__}.") from None
    if array.shape != like.shape:
        raise Wrong(f"Expected {what} of shape {like.shape}, one for each input; yours has shape {array.shape}.")
    return array


@exercise("1.3")
def temperature_softmax(softmax: Callable) -> str:
    for temperature in (1.0, 0.5, 2.0):
        got = vector(softmax(LOGITS, temperature), LOGITS, "probabilities")
        scaled = np.exp(theirs("Temperature", temperature, LOGITS))
        expected = scaled / scaled.sum()
        if not np.isclose(got.sum(), 1):
            raise Wrong(f"Probabilities sum to 1; at temperature {temperature} yours sum to {got.sum():.3f}.")
        if not np.allclose(got, expected, atol=1e-6):
            raise Wrong(
                f"At temperature {temperature}, token 3 has probability {expected[3]:.3f}; yours is {got[3]:.3f}."
            )
    with np.errstate(all="ignore"):
        got = vector(softmax(np.array([1000.0, 0.0]), 0.5), np.zeros(2), "probabilities")
    if not np.allclose(got, [1, 0]):
        raise Wrong(f"Right for small logits, but for logits [1000, 0] you give {got}: the exponential overflows.")
    return "Temperature changes how sharp the distribution is, never the order of the tokens."


def theirs(name: str, value: float, logits: np.ndarray) -> np.ndarray:
    """Logits [V] as transformers' own filter leaves them: what the student's functions are checked against."""
    import torch
    from transformers.generation import logits_process

    return getattr(logits_process, f"{name}LogitsWarper")(value)(None, torch.tensor(logits)[None])[0].numpy()


def check_filter(got: Any, logits: np.ndarray, kept: np.ndarray, case: str) -> None:
    """`got` has the logits where `kept`, and minus infinity elsewhere."""
    got = vector(got, logits, "logits")
    if (np.isfinite(got) & (got == 0) & ~kept).any():
        raise Wrong(f"{case}: a logit of 0 is not a probability of 0 (exp(0) = 1). Cut tokens need another value.")
    if (mine := np.isfinite(got)).tolist() != kept.tolist():
        raise Wrong(f"{case}: kept tokens should be {np.flatnonzero(kept)}, yours are {np.flatnonzero(mine)}.")
    if not np.allclose(got[kept], logits[kept], atol=1e-6):
        raise Wrong(f"{case}: the right tokens are kept, but their logits changed; a filter leaves them as they are.")
    if not np.isneginf(got[~kept]).all():
        raise Wrong(f"{case}: cut tokens need the logit that softmax turns into 0, which is minus infinity.")


@exercise("1.4")
def top_k_filter(top_k: Callable) -> str:
    for k in (1, 3, len(LOGITS), 100):
        check_filter(top_k(LOGITS, k), LOGITS, np.isfinite(theirs("TopK", k, LOGITS)), f"k = {k}, logits {LOGITS}")
    return "Top-k keeps the same number of tokens whether the model is sure or not; top-p does not."


@exercise("1.5")
def top_p_filter(top_p: Callable) -> str:
    shuffled = np.random.default_rng(0).normal(scale=2, size=20)
    large = np.array([900.0, 899.0, -900.0])  # exp(900) overflows
    for logits, p in ((LOGITS, 0.5), (LOGITS, 0.8), (LOGITS, 0.01), (shuffled, 0.9), (shuffled, 0.3), (large, 0.8)):
        name = f"p = {p}, 20 random logits" if logits is shuffled else f"p = {p}, logits {logits}"
        with np.errstate(all="ignore"):
            got = top_p(logits, p)
        check_filter(got, logits, np.isfinite(theirs("TopP", p, logits)), name)
    return "The same tokens that transformers' TopPLogitsWarper keeps; it always keeps at least one."


def contrast(probabilities: np.ndarray, states: np.ndarray, context: np.ndarray, alpha: float) -> np.ndarray:
    """Scores [k] of Su et al. (2022), equation 5: (1 - alpha) p(v) - alpha max_j cos(h_v, h_j)."""
    unit, seen = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (states, context))
    return (1 - alpha) * probabilities - alpha * (unit @ seen.T).max(axis=1)


@exercise("1.6")
def contrastive_step(step: Callable) -> str:
    draw = np.random.default_rng(1)
    for alpha in (0.0, 0.3, 0.6, 0.9) * 8:
        probabilities = np.sort(draw.dirichlet(np.ones(4)))[::-1]  # [k], the likeliest first
        states, context = draw.normal(0.5, 1, (4, 3)) * [[1], [3], [0.2], [1]], draw.normal(0.5, 1, (6, 3))
        got, scores = step(probabilities, states, context, alpha), contrast(probabilities, states, context, alpha)
        if np.ndim(got) or int(got) != got or not 0 <= got < 4:
            raise Wrong(f"Expected the index of one of 4 candidates; yours is {got!r}.")
        if got != scores.argmax():
            case = f"alpha = {alpha}, probabilities {probabilities.round(2)}"
            raise Wrong(f"{case}: the scores are {scores.round(2)}, which makes it {scores.argmax()}; yours is {got}.")
    return "With alpha = 0 this is greedy search. labkit's own is this step, for a batch and with a cache."


def _bigram(ids: list[int]) -> np.ndarray:
    """A model of five tokens that looks at the last one: logits [5]."""
    return np.roll(np.array([1.5, 0.5, 0.0, -0.5, 1.0]), ids[-1])


@exercise("1.7")
def repeatable(sample: Callable) -> str:
    prompts = [[1], [2, 3], [4], [1, 1], [3]]

    def written(some: list[list[int]], seed: int) -> list[list[int]]:
        replies = [[int(token) for token in reply] for reply in sample(some, _bigram, 6, seed)]
        if [len(reply) for reply in replies] != [6] * len(some):
            raise Wrong(f"For {len(some)} prompts and n = 6, expected {len(some)} lists of 6 tokens; yours: {replies}.")
        return replies

    first = written(prompts, 7)
    if first != written(prompts, 7):
        raise Wrong("The same call twice gives two texts: something is drawn from a generator that is not seeded.")
    if first != written(prompts[::-1], 7)[::-1] or first != [written([prompt], 7)[0] for prompt in prompts]:
        raise Wrong("In another order, or alone, a prompt gets another reply: it draws from its neighbours' generator.")
    many = [written(prompts, seed) for seed in range(200)]
    if len({str(replies) for replies in many}) < 100:
        raise Wrong("Other seeds give the same text: nothing is drawn, or the seed is not used.")
    likeliest = np.mean([replies[0][0] == 1 for replies in many])
    if not 0.3 < likeliest < 0.56:  # nearly four standard errors
        raise Wrong(f"After [1], token 1 has probability 0.43; in 200 seeds you draw it in {likeliest:.0%}.")
    return "labkit does the same: a reply's random numbers come from the seed and its place, not from its neighbours."


@exercise("1.2")
def delexicalise(own: Callable) -> str:
    cases = [
        ("have a nice day", []),
        ("curry garden is in the centre", [("name", "curry garden"), ("area", "centre")]),
        ("the north star is in the north", [("name", "the north star"), ("area", "north")]),
        ("north road is in the north", [("area", "north")]),
        ("any area is fine for the swan", [("area", "dontcare", "any area"), ("name", "the swan")]),
    ]
    for text, values in cases:
        spans = [_span(text, *value) for value in values]
        expected = reference_delexicalise(Turn(BOT, text, spans=tuple(spans)))
        got = own(text, spans)
        if got != expected:
            raise Wrong(f"{text!r} with the annotated values {values} should become {expected!r}; yours is {got!r}.")
    return "This is the text that the model reads and writes, and that BLEU, Inform and Success are defined on."


def _span(text: str, slot: str, value: str, said: str = "") -> Span:
    start = text.rindex(said or value)
    return Span("Restaurant-Inform", slot, value, start, start + len(said or value))
