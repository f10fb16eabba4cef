"""Checkers of notebook 1: delexicalisation, decoding filters, contrastive search, sampling that repeats."""

from collections.abc import Callable
from itertools import chain, pairwise

import numpy as np
import torch
from transformers.generation import logits_process

from labkit.corpora.types import BOT, Span, Turn
from labkit.notebook.exercises import scores_by_hand
from labkit.notebook.exercises.answers import Wrong, array, shown, times, whole_number
from labkit.notebook.exercises.texts import cases
from labkit.prompts.text import delexicalise as reference_delexicalise

Tokens = list[int]
Call = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # probabilities [k], states [k, H], context [T, H], alpha
LOGITS = np.array([2.0, -1.0, 0.5, 3.0, -2.5, 1.0])
_CUT = -1e4  # softmax turns a logit below this into 0
_STEP = np.array([1.5, 0.5, 0.0, -0.5, 1.0])  # logits of a token that is 0, 1, … places after the one before it


# --- 1.2 --------------------------------------------------------------------------------------------------------------


def delexicalise(own: Callable) -> str:
    for case in cases("1.2"):
        text = case["text"]
        annotated = case["values"]
        spans = [_span(text, **value) for value in annotated]
        turn = Turn(BOT, text, spans=tuple(spans))
        expected = reference_delexicalise(turn)
        got = own(text, spans)
        if got != expected:
            values = [(span.slot, span.value) for span in spans]
            marked = f"{text!r} with the annotated values {values}"
            mine = shown(got)
            raise Wrong(f"{marked} should become {expected!r}; yours is {mine}.")
    return "This is the text that the model reads and writes, and that BLEU, Inform and Success are defined on."


def _span(
    text: str,
    slot: str,
    value: str,
    said: str = "",
) -> Span:
    """The last place where `value`, or what was `said` for it, stands in the text."""
    said = said or value
    start = text.rindex(said)
    end = start + len(said)
    return Span("Restaurant-Inform", slot, value, start, end)


# --- 1.3 to 1.5 -------------------------------------------------------------------------------------------------------


def theirs(name: str, value: float, logits: np.ndarray) -> np.ndarray:
    """Logits [V] as transformers' own filter leaves them: what the student's functions are checked against."""
    make = getattr(logits_process, f"{name}LogitsWarper")
    warper = make(value)
    scores = torch.tensor(logits)  # [V]
    batch = scores[None]  # [1, V]
    filtered = warper(None, batch)  # [1, V]
    return filtered[0].numpy()


def temperature_softmax(softmax: Callable) -> str:
    for temperature in (1.0, 0.5, 2.0):
        answer = softmax(LOGITS, temperature)
        got = array(answer, LOGITS.shape, "probabilities")
        total = got.sum()
        logits = theirs("Temperature", temperature, LOGITS)
        scaled = np.exp(logits)
        expected = scaled / scaled.sum()
        if not np.isclose(total, 1):
            raise Wrong(f"Probabilities sum to 1; at temperature {temperature} yours sum to {total:.3f}.")
        if not np.allclose(got, expected, atol=1e-6):
            right = expected[3]
            mine = got[3]
            raise Wrong(f"At temperature {temperature}, token 3 has probability {right:.3f}; yours is {mine:.3f}.")
    large = np.array([1000.0, 0.0])
    answer = softmax(large, 0.5)
    got = array(answer, (2,), "probabilities")
    if not np.allclose(got, [1, 0]):
        raise Wrong(f"Right for small logits, but for logits [1000, 0] you give {got}: the exponential overflows.")
    return "Temperature changes how sharp the distribution is, never the order of the tokens."


def top_k_filter(top_k: Callable) -> str:
    vocabulary = len(LOGITS)
    for k in (1, 3, vocabulary, 100):
        right = theirs("TopK", k, LOGITS)
        kept = np.isfinite(right)
        answer = top_k(LOGITS, k)
        told = f"k = {k}, logits {LOGITS}"
        check_filter(answer, LOGITS, kept, told)
    return "Top-k keeps the same number of tokens whether the model is sure or not; top-p does not."


def top_p_filter(top_p: Callable) -> str:
    draw = np.random.default_rng(0)
    shuffled = draw.normal(scale=2, size=20)
    for case in cases("1.5"):
        p = case["p"]
        if "logits" in case:
            logits = np.array(case["logits"])
            told = f"logits {logits}"
        else:
            logits = shuffled
            told = "20 random logits"
        right = theirs("TopP", p, logits)
        kept = np.isfinite(right)
        answer = top_p(logits, p)
        case_told = f"p = {p}, {told}"
        check_filter(answer, logits, kept, case_told)
    return "The same tokens that transformers' TopPLogitsWarper keeps; it always keeps at least one."


def check_filter(
    answer: object,
    logits: np.ndarray,
    kept: np.ndarray,
    case: str,
) -> None:
    """`answer` has the logits where `kept` ([V] bool), and minus infinity elsewhere.

    Raises:
        Wrong: it has not; the message names the case.
    """
    got = array(answer, logits.shape, "logits")
    is_zero = got == 0
    total = got.sum()
    sums_to_one = np.isclose(total, 1)
    none_is_negative = (got >= 0).all()
    if sums_to_one and none_is_negative:
        raise Wrong(f"{case}: these are probabilities. A filter takes logits and returns logits.")
    zeros = is_zero & ~kept
    if zeros.any():
        raise Wrong(f"{case}: a logit of 0 is not a probability of 0 (exp(0) = 1). Cut tokens need another value.")
    mine = got > _CUT  # False where it is NaN
    differs = mine != kept
    if differs.any():
        right_tokens = np.flatnonzero(kept)
        my_tokens = np.flatnonzero(mine)
        raise Wrong(f"{case}: kept tokens should be {right_tokens}, yours are {my_tokens}.")
    my_logits = got[kept]
    right_logits = logits[kept]
    if not np.allclose(my_logits, right_logits, atol=1e-6):
        raise Wrong(f"{case}: the right tokens are kept, but their logits changed; a filter leaves them as they are.")
    cut = got[~kept]
    is_minus_infinity = np.isneginf(cut)
    if not is_minus_infinity.all():
        wrong = cut.max()
        advice = "Softmax makes it 0 here, but only minus infinity is 0 for logits of any size."
        raise Wrong(f"{case}: the right tokens are cut, with a logit of {wrong:g}. {advice}")


# --- 1.6 --------------------------------------------------------------------------------------------------------------


def contrast(
    probabilities: np.ndarray,
    states: np.ndarray,
    context: np.ndarray,
    alpha: float,
    mistake: str = "",
) -> np.ndarray:
    """Scores [k] of Su et al. (2022), equation 5: (1 - alpha) p(v) - alpha max_j cos(h_v, h_j).

    `mistake` is one of MISTAKES: the scores of a student who made it.
    """
    similarity = states @ context.T  # [k, T]
    if mistake != "dot product":
        of_states = np.linalg.norm(states, axis=1)  # [k]
        of_context = np.linalg.norm(context, axis=1)  # [T]
        similarity = similarity / np.outer(of_states, of_context)
    penalty = similarity.max(axis=1)  # [k]
    if mistake == "mean":
        penalty = similarity.mean(axis=1)  # [k]
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
    answers = [_chosen(step, call) for call in calls]
    for call, got in zip(calls, answers, strict=True):
        scores = contrast(*call)  # [k]
        best = scores.argmax()
        if got == best:
            continue
        step(*call)  # once more: it is the call that the message is about
        told = _told(call, scores)
        why = _which_mistake(calls, answers)
        raise Wrong(f"{told}, which makes it {best}; yours is {got}.{why}")
    return "With alpha = 0 this is greedy search. labkit's own is this step, for a batch and with a cache."


def _chosen(step: Callable, call: Call) -> int:
    """The candidate that the student's function chooses.

    Raises:
        Wrong: it gives no index of one.
    """
    answer = step(*call)
    got = whole_number(answer)
    if got is None or not 0 <= got < 4:
        mine = shown(answer)
        raise Wrong(f"Expected the index of one of 4 candidates; yours is {mine}.")
    return got


def _told(call: Call, scores: np.ndarray) -> str:
    """A call and its scores [k] in words."""
    probabilities, _, _, alpha = call
    rounded = probabilities.round(2)
    rounded_scores = scores.round(2)
    return f"alpha = {alpha}, probabilities {rounded}: the scores are {rounded_scores}"


def _contrastive_calls() -> list[Call]:
    """32 calls of (probabilities [4], states [4, 3], context [6, 3], alpha)."""
    draw = np.random.default_rng(1)
    lengths = [[1], [3], [0.2], [1]]  # [k, 1]
    equal = np.ones(4)  # [k]
    calls = []
    for alpha in (0.0, 0.3, 0.6, 0.9) * 8:
        drawn = draw.dirichlet(equal)  # [k]
        ascending = np.sort(drawn)
        probabilities = ascending[::-1]  # [k], the likeliest first
        directions = draw.normal(0.5, 1, (4, 3))  # [k, H]
        states = directions * lengths  # [k, H]
        context = draw.normal(0.5, 1, (6, 3))  # [T, H]
        call = (probabilities, states, context, alpha)
        calls.append(call)
    return calls


def _which_mistake(calls: list[Call], answers: list[int]) -> str:
    """The explanation of the one mistake that gives all of these answers; empty where none does."""
    for mistake, explanation in MISTAKES.items():
        theirs_would_be = []
        for call in calls:
            scores = contrast(*call, mistake)  # [k]
            theirs_would_be.append(scores.argmax())
        if theirs_would_be == answers:
            return f" {explanation}"
    return ""


# --- 1.7 --------------------------------------------------------------------------------------------------------------


def _bigram(ids: Tokens) -> np.ndarray:
    """A model of five tokens that looks at the last one: logits [5]."""
    last = ids[-1]
    return np.roll(_STEP, last)


def repeatable(sample: Callable) -> str:
    prompts = [[1], [2, 3], [4], [1, 1], [3]]
    first = _written(sample, prompts, 7)
    again = _written(sample, prompts, 7)
    if first != again:
        raise Wrong("The same call twice gives two texts: something is drawn from a generator that is not seeded.")
    from_the_last = _written(sample, prompts[::-1], 7)
    backwards = from_the_last[::-1]
    alone = []
    for prompt in prompts:
        alone += _written(sample, [prompt], 7)
    if first != backwards or first != alone:
        raise Wrong("In another order, or alone, a prompt gets another reply: it draws from its neighbours' generator.")
    many = [_written(sample, prompts, seed) for seed in range(200)]
    different = {str(replies) for replies in many}
    if len(different) < 100:
        raise Wrong("Other seeds give the same text: nothing is drawn, or the seed is not used.")
    _check_frequencies(prompts, many)
    return (
        "labkit draws from the seed, the prompt, and how often the same prompt came before: two equal prompts get two "
        "replies. A generator that is made from the prompt's own ids alone gives them the same one."
    )


def _written(
    sample: Callable,
    prompts: list[Tokens],
    seed: int,
) -> list[Tokens]:
    """The replies of six tokens as plain lists.

    Raises:
        Wrong: there are fewer or more.
    """
    replies = []
    for reply in sample(prompts, _bigram, 6, seed):
        tokens = [int(token) for token in reply]
        replies.append(tokens)
    lengths = [len(reply) for reply in replies]
    n = len(prompts)
    if lengths != [6] * n:
        given = times(n, "prompt")
        expected = times(n, "list")
        raise Wrong(f"For {given} and n = 6, expected {expected} of 6 tokens; yours: {replies}.")
    return replies


def _check_frequencies(prompts: list[Tokens], many: list[list[Tokens]]) -> None:
    """The first token comes from the softmax after the prompt, each later one from that after the token before it.

    `many` holds the replies to the prompts under 200 seeds. Bounds are four standard errors or more, also for a student
    whose prompts all draw the same numbers under one seed.
    """
    weights = np.exp(_STEP)
    total = weights.sum()
    likeliest = weights[0] / total  # after any token, this token again: 0.43
    last_of_prompt = prompts[0][-1]
    continues = []
    for replies in many:
        first_token = replies[0][0]
        continues.append(first_token == last_of_prompt)
    first = np.mean(continues)
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
    "1.8": scores_by_hand.inform,
    "1.9": scores_by_hand.bleu,
}
