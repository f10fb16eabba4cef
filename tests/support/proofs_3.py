"""Right and wrong answers to the exercises of notebook 3; test_proofs.py judges them all."""

import math

import numpy as np
import torch

SWEEP = [
    {"parameters": 8, "bleu": 9.0, "inform": 50.0, "success": 20.0},
    {"parameters": 1, "bleu": 5.0, "inform": 60.0, "success": 20.0},
]

NO_GOALS = [{**row, "inform": None, "success": None} for row in SWEEP]


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def largest_by_loop(plans, memory):
    best, most = "none", 0.0
    for name, parts in plans.items():
        if most < sum(parts.values()) <= memory:
            best, most = name, sum(parts.values())
    return best


def largest_by(need, choose=max):
    def largest(plans, memory):
        fitting = [name for name in plans if need(plans[name]) <= memory]
        return choose(fitting, key=lambda name: need(plans[name]), default="none")

    return largest


def whole(plan):
    return sum(plan.values())


def lens_with_a_last_row_that_is_normalised_twice(hidden, norm, head):
    states = norm(hidden)
    states[-1] = norm(states[-1])
    return softmax(states @ head.T)


def lens_row_by_row(hidden, norm, head):
    return [softmax(head @ norm(state)).tolist() for state in hidden]


def bytes_of(kept="num_key_value_heads", pair=2, layers="num_hidden_layers"):
    def count(config, size):
        heads = config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // heads
        return pair * config.get(layers, 1) * config.get(kept, heads) * width * size

    return count


def bytes_by_loop(config, size):
    heads = config["num_attention_heads"]
    total = 0
    for _ in range(config["num_hidden_layers"]):
        for _ in ("keys", "values"):
            width = config["head_dim"] if "head_dim" in config else config["hidden_size"] / heads
            total += config.get("num_key_value_heads", heads) * width * size
    return np.float64(total)


def written(forward, ids, n):
    reply, new, past = [], ids, None
    for _ in range(n):
        logits, past = forward(new, past)
        reply.append(int(np.argmax(logits)))
        new = reply[-1:]
    return reply


def written_by_recursion(forward, ids, n, past=None):
    logits, past = forward(np.array(ids), past)
    token = torch.tensor(logits).argmax()
    return [token, *(written_by_recursion(forward, [int(token)], n - 1, past) if n > 1 else [])]


def written_and_read_to_the_end(forward, ids, n):
    logits, past = forward(ids, None)
    for _ in range(n):
        token = int(np.argmax(logits))
        logits, past = forward([token], past)
        yield token


def written_without(forward, ids, n):
    known = list(ids)
    for _ in range(n):
        known.append(int(np.argmax(forward(known, None)[0])))
    return known[len(ids) :]


def written_twice(forward, ids, n):
    known, past = list(ids), None
    for _ in range(n):
        logits, past = forward(known, past)
        known.append(int(np.argmax(logits)))
    return known[len(ids) :]


def written_without_past(forward, ids, n):
    new, reply = ids, []
    for _ in range(n):
        new = [int(np.argmax(forward(new, None)[0]))]
        reply += new
    return reply


def bootstrapped(a, b, score, draws):
    found = score(b) - score(a)
    drawn = np.array([score(b[row]) - score(a[row]) for row in draws])
    return (1 + (abs(drawn - drawn.mean()) >= abs(found)).sum()) / (1 + len(draws))


def bootstrapped_by_loop(a, b, score, draws):
    drawn = [score(np.array([b[i] for i in row])) - score(np.array([a[i] for i in row])) for row in draws]
    middle, count = sum(drawn) / len(drawn), 1
    for difference in drawn:
        count += abs(difference - middle) >= abs(score(b) - score(a))
    return torch.tensor(count / (len(drawn) + 1), dtype=torch.float64)


def bootstrapped_with(extreme, more=1):
    def variant(a, b, score, draws):
        found = score(b) - score(a)
        drawn = np.array([score(b[row]) - score(a[row]) for row in draws])
        return (more + extreme(drawn, found).sum()) / (more + len(draws))

    return variant


def unpaired(a, b, score, draws):
    return bootstrapped_with(lambda drawn, found: abs(drawn - drawn.mean()) >= abs(found))(a, b[::-1], score, draws)


RIGHT = {
    "3.1": [
        lambda lp: torch.tensor(math.exp(-sum(lp) / len(lp))),
        lambda lp: math.exp(-sum(lp) / len(lp)),
        lambda lp: float(np.prod(np.exp(lp)) ** (-1 / len(lp))),
    ],
    "3.2": [largest_by(whole), largest_by_loop],
    "3.3": [
        (SWEEP, {"bleu"}),
        (SWEEP, {"BLEU "}),
        (NO_GOALS, {"bleu"}),
        (SWEEP[:1], {}),
        (SWEEP[::-1], ["bleu"]),
        (SWEEP[:1], set()),
    ],
    "3.4": [lambda hidden, norm, head: softmax(norm(hidden) @ head.T), lens_row_by_row],
    "3.5": [bytes_of(), bytes_by_loop],
    "3.6": [written, written_by_recursion, written_and_read_to_the_end],
    "3.7": [bootstrapped, bootstrapped_by_loop],
}
WRONG = {  # (answer, words of the message that it must get)
    "3.1": [
        (lambda lp: math.exp(sum(lp) / len(lp)), "a sign is missing"),
        (lambda lp: math.exp(-sum(lp)), "have perplexity"),
        (lambda lp: 2 ** (-sum(lp) / len(lp)), "have perplexity"),
        (lambda lp: np.exp(-lp), "one number for the text, not an array"),
    ],
    "3.2": [
        (largest_by(lambda plan: plan["weights"]), "it should be '3b'; yours is '7b'"),
        (largest_by(whole, choose=min), "it should be '3b'; yours is '410m'"),
        (lambda plans, memory: [name for name in plans if whole(plans[name]) <= memory][-1], "it should be '7b'"),
        (lambda plans, memory: largest_by_loop(plans, memory).replace("none", "410m"), "it should be 'none'"),
        (lambda plans, memory: {"none": None}.get(name := largest_by_loop(plans, memory), name), "'none', the text"),
    ],
    "3.3": [
        ((SWEEP, {"bleu", "inform"}), "from 60.00 to 50.00"),
        ((SWEEP, set()), "bleu goes from 5.00 to 9.00"),
        (([], {"bleu"}), "no tuned model"),
        ((SWEEP, "bleu"), "Give a set"),
        ((SWEEP, {"accuracy"}), "accuracy"),
        ((NO_GOALS, {"bleu", "inform"}), "Choose out of bleu; you also have inform"),
        ((SWEEP, 3), "could not read what you gave"),
    ],
    "3.4": [
        (lambda hidden, norm, head: softmax(hidden @ head.T), "raw states"),
        (lambda hidden, norm, head: norm(hidden) @ head.T, "rows sum to"),
        (lambda hidden, norm, head: softmax(norm(hidden) @ head.T, axis=0), "rows sum to"),
        (lambda hidden, norm, head: softmax(norm(hidden[::-1]) @ head.T), "Layer 0 gives token"),
        (lambda hidden, norm, head: softmax(norm(norm(hidden)) @ head.T), "applied twice"),
        (lens_with_a_last_row_that_is_normalised_twice, "applied twice"),
        (
            lambda hidden, norm, head: softmax(norm(hidden) @ head.T)[-1],
            "an array of shape (4, 9); yours has shape (9,)",
        ),
    ],
    "3.5": [
        (bytes_of(pair=1), "A layer keeps keys and values"),
        (bytes_of(kept="num_attention_heads"), "as many heads as there are heads of keys and values"),
        (bytes_of(layers="none"), "Every layer has a cache of its own"),
        (lambda config, size: bytes_of()({**config, "head_dim": 64}, size), "How wide is one head"),
        (lambda config, size: 8 * bytes_of()(config, size), "How wide is one head"),
        (lambda config, size: config, "should be a number"),
    ],
    "3.6": [
        (written_without, "the reply is right, but the model read"),
        (written_twice, "read it twice"),
        (written_without_past, "without its past"),
        (lambda forward, ids, n: written(forward, ids[-1:], n), "First the model reads the whole prompt"),
        (lambda forward, ids, n: written(lambda *a: (-forward(*a)[0], ()), ids, n), "the likeliest token"),
        (lambda forward, ids, n: written(forward, ids, n + 1), "the reply is"),
        (lambda forward, ids, n: written(forward, ids, 60), "more than 40 times"),
    ],
    "3.7": [
        (bootstrapped_with(lambda drawn, found: abs(drawn - drawn.mean()) >= abs(found), more=0), "one more resample"),
        (bootstrapped_with(lambda drawn, found: abs(drawn) >= abs(found)), "Take their mean away first"),
        (bootstrapped_with(lambda drawn, found: drawn - drawn.mean() >= found), "compare absolute values"),
        (bootstrapped_with(lambda drawn, found: drawn * np.sign(found) <= 0), "how often the difference vanishes"),
        (unpaired, "the same dialogues of both systems"),
        (lambda a, b, score, draws: 100 * bootstrapped(a, b, score, draws), "A p is a share"),
        (lambda a, b, score, draws: score(b) - score(a), "; yours is"),
    ],
}
