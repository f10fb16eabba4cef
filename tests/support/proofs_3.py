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
}
