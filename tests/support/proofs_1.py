"""Right and wrong answers to the exercises of notebook 1; test_proofs.py judges them all."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import torch
from sacrebleu import corpus_bleu

from labkit.corpora.slots import placeholder
from labkit.notebook.exercises.notebook1 import contrast
from labkit.notebook.exercises.scores_by_hand import _mistaken_bleu


def softmax(z):
    z = np.asarray(z, dtype=float)
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def cut(logits, kept):
    return np.where(kept, logits, -np.inf)


def nucleus(logits, p):
    """Which tokens top-p keeps: [V] bool."""
    order = np.argsort(-logits)
    kept = np.zeros(len(logits), bool)
    kept[order] = np.cumsum(softmax(logits)[order]) - softmax(logits)[order] < p
    return kept


def top_p_by_loop(logits, p):
    probabilities, mass, kept = softmax(logits), 0.0, []
    for token in sorted(range(len(logits)), key=lambda i: -logits[i]):
        if mass < p:
            kept.append(token)
        mass += probabilities[token]
    return [logits[i] if i in kept else float("-inf") for i in range(len(logits))]


def top_p_without_the_last(logits, p):
    order = np.argsort(-logits)
    kept = np.zeros(len(logits), bool)
    kept[order] = np.cumsum(softmax(logits)[order]) <= p
    return cut(logits, kept)


def top_p_that_overflows(logits, p):
    order = np.argsort(-logits)
    mass = np.cumsum(np.exp(logits[order]) / np.exp(logits).sum())
    kept = np.zeros(len(logits), bool)
    kept[order[: np.searchsorted(mass, p) + 1]] = True
    return cut(logits, kept)


def cosines(states, context):
    return torch.nn.functional.cosine_similarity(torch.tensor(states)[:, None], torch.tensor(context)[None], dim=-1)


def contrastive_by(reduce, p_weight=lambda a: 1 - a, similarity=cosines):
    return lambda p, h, c, a: int(np.argmax(p_weight(a) * p - a * reduce(np.asarray(similarity(h, c)), axis=1)))


def sampler(generator_of, distribution=softmax):
    """Decoders that differ in where each prompt's random numbers come from."""

    def sample(prompts, next_logits, n, seed):
        shared, replies = generator_of(None, seed), []
        for prompt in prompts:
            draw, ids = shared or generator_of(prompt, seed), list(prompt)
            for _ in range(n):
                p = distribution(next_logits(ids))
                ids.append(draw.choice(len(p), p=p))
            replies.append(ids[len(prompt) :])
        return replies

    return sample


def own_generator(prompt, seed):
    return None if prompt is None else np.random.default_rng([seed, *prompt])


def sample_by_gumbel(prompts, next_logits, n, seed):
    """Another right way: the likeliest after adding Gumbel noise."""
    draws, replies = [np.random.default_rng([*prompt, 99, seed]) for prompt in prompts], [[] for _ in prompts]
    for _ in range(n):
        for prompt, reply, draw in zip(prompts, replies, draws, strict=True):
            reply.append(int(np.argmax(next_logits([*prompt, *reply]) + draw.gumbel(size=5))))
    return replies


def sample_without_feedback(prompts, next_logits, n, seed):
    draws = [own_generator(prompt, seed) for prompt in prompts]
    return [list(draw.choice(5, n, p=softmax(next_logits(ids)))) for draw, ids in zip(draws, prompts, strict=True)]


def sample_uniformly_after_the_first(prompts, next_logits, n, seed):
    first = sampler(own_generator)(prompts, next_logits, 1, seed)
    return [
        [*reply, *own_generator(reply + ids, seed).choice(5, n - 1)] for reply, ids in zip(first, prompts, strict=True)
    ]


def one_hot(logits):
    return np.eye(len(logits))[np.argmax(logits)]


def delexicalise_right_to_left(text, spans):
    for span in sorted((span for span in spans if span.value != "dontcare"), key=lambda span: -span.start):
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_in_pieces(text, spans):
    pieces, end = [], 0
    for span in spans:
        if span.value == "dontcare":
            continue
        pieces += [text[end : span.start], placeholder(span.domain, span.slot)]
        end = span.end
    return "".join([*pieces, text[end:]])


def delexicalise_dontcare_too(text, spans):
    for span in reversed(spans):
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_left_to_right(text, spans):
    for span in spans:
        text = text[: span.start] + placeholder(span.domain, span.slot) + text[span.end :]
    return text


def delexicalise_everywhere(text, spans):
    for span in spans:
        text = text.replace(span.value, placeholder(span.domain, span.slot))
    return text


def inform_by_loop(turns, goal, find):
    offered = set()
    for reply, state in turns:
        if "_name]" in reply:
            found = find(state)
            if not offered or not offered <= found:
                offered = found
    return len(offered) > 0 and offered <= find(goal)


def inform_backwards(turns, goal, find):
    """From the last offer back, as long as the one before it was narrower."""
    offers = [find(state) for reply, state in turns if reply.count("[restaurant_name]")]
    offer = offers.pop() if offers else set()
    while offers and (before := offers.pop()) and before <= offer:
        offer = before
    return np.bool_(offer and offer.issubset(find(goal)))


def inform_by(reduce=None, opens="_name]", keeps_wide=True, of_nothing=False, meets=set.__le__):
    """Other readings of Inform."""

    def variant(turns, goal, find):
        offered = set()
        for reply, state in turns:
            found = find(state)
            if opens in reply and not (keeps_wide and offered and offered <= found):
                offered = reduce(offered, found) if reduce else found
        return meets(offered, find(goal)) if offered else of_nothing

    return variant


def first_offer(turns, goal, find):
    offers = [find(state) for reply, state in turns if "_name]" in reply]
    return bool(offers and offers[0]) and offers[0] <= find(goal)


def grams(tokens, n):
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def own_bleu(hypotheses, references):
    precisions = []
    for n in (1, 2, 3, 4):
        pairs = [(grams(h, n), grams(r, n)) for h, r in zip(hypotheses, references, strict=True)]
        right = sum((said & gold).total() for said, gold in pairs)
        precisions.append(right / max(1, sum(said.total() for said, _ in pairs)))
    if 0 in precisions:
        return 0
    lengths = [sum(map(len, texts)) for texts in (hypotheses, references)]
    return 100 * math.prod(precisions) ** 0.25 * min(1, math.exp(1 - lengths[1] / lengths[0]))


def sacrebleus(hypotheses, references):
    texts = [[" ".join(tokens) for tokens in side] for side in (hypotheses, references)]
    return corpus_bleu(texts[0], [texts[1]], smooth_method="none").score


def bleu_with(mistake):
    def variant(hypotheses, references):
        found = own_bleu(hypotheses, references)
        return _mistaken_bleu(hypotheses, references, mistake) if found else 0

    return variant


RIGHT = {
    "1.1": ["b", "B", "B.", "[b]"],
    "1.2": [delexicalise_right_to_left, delexicalise_in_pieces],
    "1.3": [lambda z, t: softmax(z / t), lambda z, t: torch.softmax(torch.tensor(z, requires_grad=True) / t, -1)],
    "1.4": [
        lambda z, k: (value for value in cut(z, np.argsort(np.argsort(-z)) < k)),
        lambda z, k: cut(z, np.argsort(np.argsort(-z)) < k),
        lambda z, k: torch.tensor(z).masked_fill(
            torch.tensor(z) < torch.tensor(z).topk(min(k, len(z)))[0][-1], -torch.inf
        ),
    ],
    "1.5": [lambda z, p: cut(z, nucleus(z, p)), top_p_by_loop],
    "1.6": [
        contrastive_by(np.max),
        lambda p, h, c, a: contrast(p, h, c, a).argmax(),
        lambda *case: Fraction(int(contrast(*case).argmax())),
    ],
    "1.7": [sampler(own_generator), sample_by_gumbel],
    "1.8": [inform_by_loop, inform_backwards, inform_by()],
    "1.9": [own_bleu, sacrebleus, lambda h, r: torch.tensor(round(own_bleu(h, r), 2))],
}
WRONG = {  # (answer, words of the message that it must get)
    "1.1": [("a", "constant_predictions"), ("c", "gold replies"), ("d", "drawn")],
    "1.2": [
        (delexicalise_left_to_right, "should become"),
        (delexicalise_everywhere, "north road is in the north"),
        (lambda text, spans: text, "should become"),
        (delexicalise_dontcare_too, "any area"),
    ],
    "1.3": [
        (lambda z, t: softmax(z * t), "At temperature 0.5"),
        (lambda z, t: np.exp(z / t), "sum to 1"),
        (lambda z, t: np.exp(z / t) / np.exp(z / t).sum(), "overflows"),
    ],
    "1.4": [
        (lambda z, k: np.where(np.argsort(np.argsort(-z)) < k, z, 0), "exp(0) = 1"),
        (lambda z, k: cut(z, np.argsort(np.argsort(z)) < k), "kept tokens should be"),
        (lambda z, k: np.sort(z)[-k:], "shape"),
        (lambda z, k: np.where(np.argsort(np.argsort(-z)) < k, z, -1e9), "only minus infinity is 0"),
        (lambda z, k: softmax(cut(z, np.argsort(np.argsort(-z)) < k)), "these are probabilities"),
        (lambda z, k: None if k == 3 else cut(z, np.argsort(np.argsort(-z)) < k), "None for z = [ 2.  -1. "),
    ],
    "1.5": [
        (top_p_without_the_last, "kept tokens should be"),
        (top_p_that_overflows, "logits [ 900."),
        (lambda z, p: cut(softmax(z), nucleus(z, p)), "leaves them as they are"),
        (lambda z, p: cut(z, softmax(z) >= p), "kept tokens should be"),
    ],
    "1.6": [
        (contrastive_by(np.mean), "the scores are"),
        (contrastive_by(np.mean), "not the mean over all"),
        (contrastive_by(np.max, similarity=lambda h, c: h @ c.T), "a bare product of the two does"),
        (contrastive_by(np.max, p_weight=lambda a: 1), "the scores are"),
        (lambda p, h, c, a: contrast(p, h, c, a, "swapped").argmax(), "have changed places"),
        (lambda p, h, c, a: contrast(p, h, c, a, "sign").argmax(), "should lose by it"),
        (lambda p, h, c, a: 0, "which makes it"),
        (lambda p, h, c, a: contrast(p, h, c, a), "index of one of 4"),
    ],
    "1.7": [
        (sampler(lambda prompt, seed: np.random.default_rng()), "not seeded"),
        (sampler(lambda prompt, seed: np.random.default_rng(seed) if prompt is None else None), "neighbours"),
        (sampler(lambda prompt, seed: np.random.default_rng(5), one_hot), "Other seeds"),
        (sampler(own_generator, lambda logits: np.full(5, 0.2)), "has probability 0.43"),
        (sample_without_feedback, "each later token depend on"),
        (sample_uniformly_after_the_first, "each later token depend on"),
        (lambda prompts, next_logits, n, seed: [[None] * n for _ in prompts], "could not read what you returned"),
        (lambda prompts, next_logits, n, seed: [[1] * (n - 1) for _ in prompts], "lists of 6 tokens"),
    ],
    "1.8": [
        (inform_by(of_nothing=True), "nothing was offered"),
        (inform_by(meets=lambda offered, wanted: bool(offered & wanted)), "all must meet the goal"),
        (inform_by(meets=lambda offered, wanted: offered == wanted), "need not be all"),
        (first_offer, "the last offer counts"),
        (inform_by(keeps_wide=False), "such a wider search takes nothing back"),
        (inform_by(reduce=set.union), "the last offer counts"),
        (inform_by(opens="["), "the second reply offers nothing"),
        (lambda turns, goal, find: 50.0, "Return True or False"),
        (lambda turns, goal, find: {"True": find(goal)}, "Return True or False"),
    ],
    "1.9": [
        (bleu_with("not clipped"), "clipped means"),
        (bleu_with("no penalty"), "too short must lose"),
        (bleu_with("always penalised"), "never above 1"),
        (bleu_with("upside down"), "wrong way round"),
        (bleu_with("arithmetic"), "geometric mean"),
        (bleu_with("mean of replies"), "divide once"),
        (lambda h, r: own_bleu(h, r) / 100, "Per cent, please"),
        (lambda h, r: own_bleu(r, h), "BLEU is"),
        (lambda h, r: [own_bleu(h, r)], "BLEU should be a number"),
    ],
}
