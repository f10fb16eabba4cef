"""Right and wrong answers to the exercises of notebook 5; test_proofs.py judges them all."""

import numpy as np
import torch

from labkit.metrics.spans import bio_tags, span_f1
from labkit.prompts.format import dialogue_header


def kept(scores, patience):
    best = 0
    for at, score in enumerate(scores):
        if score > scores[best]:
            best = at
        if at - best >= patience:
            return best
    return best


def kept_by_slices(scores, patience):
    ends = (n for n in range(1, len(scores) + 1) if n - 1 - scores.index(max(scores[:n])) >= patience)
    seen = scores[: next(ends, len(scores))]
    return seen.index(max(seen))


def last_of_equals(scores, patience):
    best = 0
    for at, score in enumerate(scores):
        best = at if score >= scores[best] else best
        if at - best >= patience:
            break
    return best


def bio_by_word(words, spans):
    def tag(start, end):
        for span in spans:
            if start < span.end and span.start < end:
                return f"{'B' if start <= span.start else 'I'}-{span.domain}-{span.slot}"
        return "O"

    return [tag(*word) for word in words]


def bio_of_whole_words(words, spans):
    def tag(start, end):
        for span in spans:
            if span.start <= start and end <= span.end:
                return f"{'B' if start == span.start else 'I'}-{span.domain}-{span.slot}"
        return "O"

    return [tag(*word) for word in words]


def only_inside(words, spans):
    return [tag.replace("B-", "I-") for tag in bio_tags(words, spans)]


def f1(gold, predicted):
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    sizes = sum(map(len, gold)) + sum(map(len, predicted))
    return 200 * right / sizes if sizes else 0


def mean_of_utterances(gold, predicted):
    return sum(f1([one], [other]) for one, other in zip(gold, predicted, strict=True)) / len(gold)


def pooled(gold, predicted):
    return f1([set().union(*gold)], [set().union(*predicted)])


def no_zero(gold, predicted):
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    precision, recall = right / sum(map(len, predicted)), right / sum(map(len, gold))
    return 200 * precision * recall / (precision + recall)


def converse(write, n):
    text, lines = dialogue_header(n), []
    for at in range(n):
        speaker = ("user>", "bot>")[at % 2]
        lines.append(f"{speaker} {write(text + speaker)}")
        text += lines[-1] + "\n"
    return lines


def converse_by_recursion(write, n, total=None):
    before = converse_by_recursion(write, n - 1, total or n) if n > 1 else []
    speaker = "bot>" if len(before) % 2 else "user>"
    said = write(dialogue_header(total or n) + "".join(f"{line}\n" for line in before) + speaker)
    return [*before, f"{speaker} {said}"]


def converse_with(header=dialogue_header, speakers=("user>", "bot>"), extra=0, space=""):
    def variant(write, n):
        text, lines = header(n), []
        for at in range(n + extra):
            speaker = speakers[at % 2]
            lines.append(f"{speaker} {write(text + speaker + space)}")
            text += lines[-1] + "\n"
        return lines

    return variant


def forgetful(write, n):
    return [f"{speaker} {write(dialogue_header(n) + speaker)}" for speaker in ("user>", "bot>") * (n // 2)]


def endless(write, n):
    while True:
        write(dialogue_header(n) + "user>")


RIGHT = {
    "5.1": [kept, kept_by_slices, lambda s, p: torch.tensor(kept(s, p)), lambda s, p: float(kept(s, p))],
    "5.2": [bio_tags, bio_by_word],
    "5.3": [
        f1,
        lambda gold, said: torch.tensor(f1(gold, said)),
        lambda gold, said: np.array(round(f1(gold, said), 1)),
        lambda gold, predicted: span_f1(gold, predicted)["f1"],
    ],
    "5.4": ["c", " C ", "C)"],
    "5.5": [converse, converse_by_recursion],
    "5.6": ["b", "B)"],
}
WRONG = {  # (answer, words of the message that it must get)
    "5.1": [
        (lambda scores, patience: scores.index(max(scores)), "where the run ends"),
        (last_of_equals, "no better one"),
        (lambda scores, patience: kept(scores, patience + 1), "where the run ends"),
        (lambda scores, patience: max(scores), "index of a validation"),
        (lambda scores, patience: scores.index(min(scores)), "you say 3"),
        (lambda scores, patience: 0.5, "index of a validation"),
    ],
    "5.2": [
        (only_inside, "should get B-hotel-name"),
        (lambda words, spans: [tag.replace("I-", "B-") for tag in bio_tags(words, spans)], "should get I-hotel-name"),
        (lambda words, spans: [tag.replace("hotel-", "") for tag in bio_tags(words, spans)], "should get B-hotel-name"),
        (lambda words, spans: [tag for tag in bio_tags(words, spans) if tag != "O"], "so 11 tags"),
        (bio_of_whole_words, "the word 'museums' should get B-hotel-type"),
    ],
    "5.3": [
        (mean_of_utterances, "found in one"),
        (pooled, "found in one"),
        (lambda gold, predicted: f1(gold, predicted) / 100, "per cent, please"),
        (
            lambda gold, predicted: f1([{s[:2] for s in g} for g in gold], [{s[:2] for s in p} for p in predicted]),
            "end",
        ),
        (span_f1, "F1 should be a number; you gave {"),
    ],
    "5.4": [("a", "what the system understood"), ("b", "nobody to give it"), ("d", "Compare their Inform")],
    "5.5": [
        (converse_with(header=lambda n: ""), "the model should read 'turns> 2"),
        (converse_with(speakers=("bot>", "user>")), "For turn 1 of 2"),
        (converse_with(space=" "), "yours reads"),
        (converse_with(extra=1), "3 times"),
        (forgetful, "For turn 2 of 2"),
        (endless, "more than 20 times"),
        (lambda write, n: converse(write, n)[:-1], "2 turns should give"),
        (lambda write, n: converse(write, n) if n > 1 else [], "1 turn should give"),
    ],
    "5.6": [("a", "no other states"), ("c", "equal letter by letter"), ("d", "counts turns in both")],
}
