"""Checkers of notebook 1: delexicalisation, decoding filters, contrastive search, sampling that repeats."""

from collections.abc import Callable
from itertools import chain, pairwise

import numpy as np
import torch
from transformers.generation import logits_process

from labkit.corpora.types import BOT, Span, Turn
from labkit.notebook.exercises.answers import Wrong, array, shown, times, whole_number
from labkit.notebook.exercises.texts import cases
from labkit.prompts.text import delexicalise as reference_delexicalise

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, -2.5, 1.0])
_CUT = -1e4  # softmax turns a logit below this into 0
_STEP = np.array([1.5, 0.5, 0.0, -0.5, 1.0])  # logits of a token that is 0, 1, … places after the one before it


# --- 1.2 --------------------------------------------------------------------------------------------------------------


def delexicalise(own: Callable) -> str:
    for case in cases("1.2"):
        text = case["text"]
        spans = [_span(text, **value) for value in case["values"]]
        turn = Turn(BOT, text, spans=tuple(spans))
        expected = reference_delexicalise(turn)
        got = own(text, spans)
        if got != expected:
            values = [(span.slot, span.value) for span in spans]
            marked = f"{text!r} with the annotated values {values}"
            raise Wrong(f"{marked} should become {expected!r}; yours is {shown(got)}.")
    return "This is the text that the model reads and writes, and that BLEU, Inform and Success are defined on."


def _span(text: str, slot: str, value: str, said: str = "") -> Span:
    """The last place where `value`, or what was `said` for it, stands in the text."""
    said = said or value
    start = text.rindex(said)
    return Span("Restaurant-Inform", slot, value, start, start + len(said))


# --- 1.3 to 1.5 -------------------------------------------------------------------------------------------------------


def theirs(name: str, value: float, logits: np.ndarray) -> np.ndarray:
    """Logits [V] as transformers' own filter leaves them: what the student's functions are checked against."""
    warper = getattr(logits_process, f"{name}LogitsWarper")(value)
    batch = torch.tensor(logits)[None]  # [1, V]
    return warper(None, batch)[0].numpy()


def temperature_softmax(softmax: Callable) -> str:
    for temperature in (1.0, 0.5, 2.0):
        got = array(softmax(LOGITS, temperature), LOGITS.shape, "probabilities")
        total = got.sum()
        scaled = np.exp(theirs("Temperature", temperature, LOGITS))
        expected = scaled / scaled.sum()
        if not np.isclose(total, 1):
            raise Wrong(f"Probabilities sum to 1; at temperature {temperature} yours sum to {total:.3f}.")
        if not np.allclose(got, expected, atol=1e-6):
            right = expected[3]
            mine = got[3]
            raise Wrong(f"At temperature {temperature}, token 3 has probability {right:.3f}; yours is {mine:.3f}.")
    large = np.array([1000.0, 0.0])
    got = array(softmax(large, 0.5), (2,), "probabilities")
    if not np.allclose(got, [1, 0]):
        raise Wrong(f"Right for small logits, but for logits [1000, 0] you give {got}: the exponential overflows.")
    return "Temperature changes how sharp the distribution is, never the order of the tokens."


def top_k_filter(top_k: Callable) -> str:
    for k in (1, 3, len(LOGITS), 100):
        kept = np.isfinite(theirs("TopK", k, LOGITS))
        answer = top_k(LOGITS, k)
        check_filter(answer, LOGITS, kept, f"k = {k}, logits {LOGITS}")
    return "Top-k keeps the same number of tokens whether the model is sure or not; top-p does not."


def top_p_filter(top_p: Callable) -> str:
    shuffled = np.random.default_rng(0).normal(scale=2, size=20)
    for case in cases("1.5"):
        p = case["p"]
        if "logits" in case:
            logits = np.array(case["logits"])
            told = f"logits {logits}"
        else:
            logits = shuffled
            told = "20 random logits"
        kept = np.isfinite(theirs("TopP", p, logits))
        answer = top_p(logits, p)
        check_filter(answer, logits, kept, f"p = {p}, {told}")
    return "The same tokens that transformers' TopPLogitsWarper keeps; it always keeps at least one."


def check_filter(answer: object, logits: np.ndarray, kept: np.ndarray, case: str) -> None:
    """`answer` has the logits where `kept` ([V] bool), and minus infinity elsewhere.

    Raises:
        Wrong: it has not; the message names the case.
    """
    got = array(answer, logits.shape, "logits")
    if np.isclose(got.sum(), 1) and (got >= 0).all():
        raise Wrong(f"{case}: these are probabilities. A filter takes logits and returns logits.")
    if ((got == 0) & ~kept).any():
        raise Wrong(f"{case}: a logit of 0 is not a probability of 0 (exp(0) = 1). Cut tokens need another value.")
    mine = got > _CUT  # False where it is NaN
    if (mine != kept).any():
        right_tokens = np.flatnonzero(kept)
        my_tokens = np.flatnonzero(mine)
        raise Wrong(f"{case}: kept tokens should be {right_tokens}, yours are {my_tokens}.")
    if not np.allclose(got[kept], logits[kept], atol=1e-6):
        raise Wrong(f"{case}: the right tokens are kept, but their logits changed; a filter leaves them as they are.")
    cut = got[~kept]
    if not np.isneginf(cut).all():
        wrong = cut.max()
        advice = "Softmax makes it 0 here, but only minus infinity is 0 for logits of any size."
        raise Wrong(f"{case}: the right tokens are cut, with a logit of {wrong:g}. {advice}")


# --- 1.6 --------------------------------------------------------------------------------------------------------------


def contrast(
    probabilities: np.ndarray, states: np.ndarray, context: np.ndarray, alpha: float, mistake: str = ""
) -> np.ndarray:
    """Scores [k] of Su et al. (2022), equation 5: (1 - alpha) p(v) - alpha max_j cos(h_v, h_j).

    `mistake` is one of MISTAKES: the scores of a student who made it.
    """
    similarity = states @ context.T  # [k, T]
    if mistake != "dot product":
        of_states = np.linalg.norm(states, axis=1)  # [k]
        of_context = np.linalg.norm(context, axis=1)  # [T]
        similarity = similarity / np.outer(of_states, of_context)
    penalty = similarity.mean(axis=1) if mistake == "mean" else similarity.max(axis=1)  # [k]
    if mistake == "swapped":
        return alpha * probabilities - (1 - alpha) * penalty
    if mistake == "sign":
        return (1 - alpha) * probabilities + alpha * penalty
    return (1 - alpha) * probabilities - alpha * penalty


MISTAKES = {
    "mean": "What counts is the most similar token of the context, not the mean over all of them.",
    "dot product": "The cosine does not depend on how long a state is; a bare product of the two does.",
    "swapped": "alpha and 1 - alpha have changed places.",
    "sign": "A candidate that is like the context should lose by it; yours wins.",
}


def contrastive_step(step: Callable) -> str:
    calls = _contrastive_calls()
    answers = []
    for call in calls:
        answer = step(*call)
        got = whole_number(answer)
        if got is None or not 0 <= got < 4:
            raise Wrong(f"Expected the index of one of 4 candidates; yours is {shown(answer)}.")
        answers.append(got)
    for call, got in zip(calls, answers, strict=True):
        scores = contrast(*call).round(2)
        best = contrast(*call).argmax()
        if got != best:
            step(*call)  # once more: it is the call that the message is about
            probabilities = call[0].round(2)
            alpha = call[-1]
            told = f"alpha = {alpha}, probabilities {probabilities}: the scores are {scores}"
            raise Wrong(f"{told}, which makes it {best}; yours is {got}.{_which_mistake(calls, answers)}")
    return "With alpha = 0 this is greedy search. labkit's own is this step, for a batch and with a cache."


def _contrastive_calls() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    """32 calls of (probabilities [4], states [4, 3], context [6, 3], alpha)."""
    draw = np.random.default_rng(1)
    lengths = [[1], [3], [0.2], [1]]
    calls = []
    for alpha in (0.0, 0.3, 0.6, 0.9) * 8:
        drawn = draw.dirichlet(np.ones(4))
        probabilities = np.sort(drawn)[::-1]  # [k], the likeliest first
        states = draw.normal(0.5, 1, (4, 3)) * lengths  # [k, H]
        context = draw.normal(0.5, 1, (6, 3))  # [T, H]
        calls.append((probabilities, states, context, alpha))
    return calls


def _which_mistake(calls: list[tuple], answers: list[int]) -> str:
    """The explanation of the one mistake that gives all of these answers; empty where none does."""
    for mistake, explanation in MISTAKES.items():
        theirs_would_be = [contrast(*call, mistake).argmax() for call in calls]
        if theirs_would_be == answers:
            return f" {explanation}"
    return ""


# --- 1.7 --------------------------------------------------------------------------------------------------------------


def _bigram(ids: list[int]) -> np.ndarray:
    """A model of five tokens that looks at the last one: logits [5]."""
    return np.roll(_STEP, ids[-1])


def repeatable(sample: Callable) -> str:
    prompts = [[1], [2, 3], [4], [1, 1], [3]]
    first = _written(sample, prompts, 7)
    if first != _written(sample, prompts, 7):
        raise Wrong("The same call twice gives two texts: something is drawn from a generator that is not seeded.")
    backwards = _written(sample, prompts[::-1], 7)[::-1]
    alone = [_written(sample, [prompt], 7)[0] for prompt in prompts]
    if first != backwards or first != alone:
        raise Wrong("In another order, or alone, a prompt gets another reply: it draws from its neighbours' generator.")
    many = [_written(sample, prompts, seed) for seed in range(200)]
    if len({str(replies) for replies in many}) < 100:
        raise Wrong("Other seeds give the same text: nothing is drawn, or the seed is not used.")
    _check_frequencies(prompts, many)
    return (
        "labkit draws from the seed and a prompt's place in the list: two equal prompts get two replies. A generator "
        "that is made from the prompt's own ids gives them the same one."
    )


def _written(sample: Callable, prompts: list[list[int]], seed: int) -> list[list[int]]:
    """The replies of six tokens as plain lists.

    Raises:
        Wrong: there are fewer or more.
    """
    replies = []
    for reply in sample(prompts, _bigram, 6, seed):
        replies.append([int(token) for token in reply])
    lengths = [len(reply) for reply in replies]
    n = len(prompts)
    if lengths != [6] * n:
        raise Wrong(f"For {times(n, 'prompt')} and n = 6, expected {times(n, 'list')} of 6 tokens; yours: {replies}.")
    return replies


def _check_frequencies(prompts: list[list[int]], many: list[list[list[int]]]) -> None:
    """The first token comes from the softmax after the prompt, each later one from that after the token before it.

    `many` holds the replies to the prompts under 200 seeds. Bounds are four standard errors or more, also for a student
    whose prompts all draw the same numbers under one seed.
    """
    weights = np.exp(_STEP)
    likeliest = weights[0] / weights.sum()  # after any token, this token again: 0.43
    last_of_prompt = prompts[0][-1]
    first = np.mean([replies[0][0] == last_of_prompt for replies in many])
    if abs(first - likeliest) > 0.13:
        raise Wrong(f"After [1], token 1 has probability {likeliest:.2f}; in 200 seeds you draw it in {first:.0%}.")
    repeats = []
    for reply in chain.from_iterable(many):
        for before, token in pairwise(reply):
            repeats.append(token == before)
    later = np.mean(repeats)
    if abs(later - likeliest) > 0.07:
        raise Wrong(
            f"The first tokens are right. After it, this model repeats the token just drawn with probability "
            f"{likeliest:.2f}; yours does in {later:.0%}. What should each later token depend on?"
        )


CHECKERS = {
    "1.2": delexicalise,
    "1.3": temperature_softmax,
    "1.4": top_k_filter,
    "1.5": top_p_filter,
    "1.6": contrastive_step,
    "1.7": repeatable,
}
