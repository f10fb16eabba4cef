"""Right and wrong answers to the exercises of notebook 5; test_proofs.py judges them all."""

import numpy as np
import torch

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.metrics.spans import bio_tags, span_f1, words
from labkit.prompts.format import dialogue_header
from labkit.training.config import FinetuneConfig


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


LIBRARY = [
    Dialogue(f"{n}.json", ("hotel",), [Turn(USER, said, state={"hotel": {"area": "north"}}), Turn(BOT, "yes.")])
    for n, said in enumerate(("i need a hotel in the north", "a train to ely please", "where can i eat?"))
]


def shots_by_words(dialogue):
    def shared(example):
        return len(set(example.turns[0].utterance.split()) & set(dialogue.turns[0].utterance.split()))

    return sorted(LIBRARY, key=shared)[-2:]


def shots_by_annotation(dialogue):
    return LIBRARY[1:2] if dialogue.turns[0].state else LIBRARY[:1]


def stop_when_stalled(state, control, patience):
    losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row]
    if losses and len(losses) - 1 - losses.index(min(losses)) >= patience:
        control.should_training_stop = True
    return control


def stop_by_counting(state, control, patience):
    best, since = float("inf"), 0
    for row in state.log_history:
        if "eval_loss" in row:
            best, since = (row["eval_loss"], 0) if row["eval_loss"] < best else (best, since + 1)
    control.should_training_stop = np.bool_(since >= patience)
    return control


def stop_by(losses_of=lambda log: [row["eval_loss"] for row in log if "eval_loss" in row], best=min, extra=0):
    def variant(state, control, patience):
        losses = losses_of(state.log_history)
        if losses and len(losses) - 1 - losses.index(best(losses)) >= patience + extra:
            control.should_training_stop = True
        return control

    return variant


def stop_when_it_rose(state, control, patience):
    """Each of the last ones higher than the one before it: another rule."""
    losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row][-patience - 1 :]
    control.should_training_stop = len(losses) > patience and losses == sorted(losses)
    return control


def stop_and_save(state, control, patience):
    control.should_save = True
    return stop_when_stalled(state, control, patience)


def replies_of(predictions):
    return [turn["response"] for turns in predictions.values() for turn in turns]


def useful(predictions):
    replies = replies_of(predictions)
    return 100 * sum("[" in reply for reply in replies) / len(replies) * len(set(replies)) / len(replies)


def seen_with_neighbours(states):
    nothing = np.zeros((1, states.shape[1]))
    return np.hstack([states, np.vstack([nothing, states[:-1]]), np.vstack([states[1:], nothing])])


def track_spans(state, text, tagger):
    places, new = words(text), {domain: dict(slots) for domain, slots in state.items()}
    for name, first, end in sorted(tagger(text), key=lambda span: span[1]):
        domain, slot = name.split("-", 1)
        new.setdefault(domain, {})[slot] = text[places[first][0] : places[end - 1][1]]
    return new


def track_with(order=1, start=None, whole=True):
    """Trackers that go wrong in one way."""

    def variant(state, text, tagger):
        places = words(text)
        new = {domain: dict(slots) for domain, slots in state.items()} if start is None else start(state)
        for name, first, end in sorted(tagger(text), key=lambda span: order * span[1]):
            domain, slot = name.split("-", 1)
            last = end if whole else first + 1
            new.setdefault(domain, {})[slot] = text[places[first][0] : places[last - 1][1]]
        return new

    return variant


def without_dontcare(state):
    kept = {(d, s): value for d, slots in state.items() for s, value in slots.items()}
    return {place: value for place, value in kept.items() if value != "dontcare"}


def joint(predicted, annotated, ours=without_dontcare, theirs=without_dontcare):
    return 100 * sum(ours(p) == theirs(a) for p, a in zip(predicted, annotated, strict=True)) / len(annotated)


def joint_in_place(predicted, annotated):
    right = 0
    for states in zip(predicted, annotated, strict=True):
        one, other = (
            {d: left for d, s in state.items() if (left := {k: v for k, v in s.items() if v != "dontcare"})}
            for state in states
        )
        right += one == other
    return np.float64(right) / len(predicted) * 100


def joint_as_mwzeval(predicted, annotated):
    return joint(predicted, annotated, ours=lambda state: {(d, s): v for d in state for s, v in state[d].items()})


def slots_right(predicted, annotated):
    pairs = list(zip(map(without_dontcare, predicted), map(without_dontcare, annotated), strict=True))
    return 100 * sum(len(p.items() & a.items()) for p, a in pairs) / max(1, sum(len(a) for _, a in pairs))


RIGHT = {
    "5.a": [shots_by_words, lambda dialogue: LIBRARY[:1], lambda dialogue: iter(LIBRARY[:2])],
    "5.1b": [stop_when_stalled, stop_by_counting, stop_by()],
    "5.b": [useful, lambda predictions: torch.tensor(float(sum(map(len, set(replies_of(predictions))))))],
    "5.c": [{"max_steps": 400}, {"max_steps": 90, "learning_rate": 3e-3, "warmup_steps": 9}],
    "5.d": [
        seen_with_neighbours,
        lambda states: torch.tensor(np.hstack([states, np.vstack([states[1:], states[-1:]])])),
        lambda states: [[*row, *after] for row, after in zip(states, [*states[1:], 0 * states[0]], strict=True)],
    ],
    "5.e": [track_spans, track_with()],
    "5.7": [joint, joint_in_place],
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
    "5.a": [
        (shots_by_annotation, "look at what is said only"),
        (lambda dialogue: LIBRARY[0], "Return a list"),
        (lambda dialogue: [dialogue], "The dialogue itself is among its examples"),
        (lambda dialogue: LIBRARY * 2, "you give 6"),
        (lambda dialogue: [], "you give 0"),
        (lambda dialogue: ["user> i need a hotel"], "Each example is a dialogue out of"),
    ],
    "5.1b": [
        (stop_by(losses_of=lambda log: [row["loss"] for row in log if "loss" in row]), "yours"),
        (stop_by(best=max), "the run should"),
        (stop_by(extra=1), "the run should stop; yours goes on. Two validations"),
        (stop_by(extra=-1), "the run should go on; yours stops. Only one"),
        (stop_when_it_rose, "no better than the best"),
        (lambda state, control, patience: patience, "Return `control`"),
        (stop_and_save, "You asked for a checkpoint"),
    ],
    "5.b": [
        (lambda predictions: 1.0, "keeps the wrong adapter"),
        (lambda predictions: -useful(predictions), "The higher the better"),
        (lambda predictions: float("nan"), "cannot be chosen by that"),
        (lambda predictions: np.random.default_rng().random() + useful(predictions), "get two scores"),
        (lambda predictions: replies_of(predictions), "should be a number"),
    ],
    "5.c": [
        ({"steps": 400}, "has no field 'steps'"),
        ({"full_finetune": False}, "is set by the cell"),
        ({"eval_steps": 400}, "is set by the cell"),
        ({"max_steps": -1}, "cannot be trained"),
        ({}, "at least one field"),
        (400, "at least one field"),
        ({"max_steps": FinetuneConfig().max_steps}, "has anyway"),
    ],
    "5.d": [
        (lambda states: states, "does not change when the state of the word after it does"),
        (lambda states: np.vstack([states[1:], states[:1]]), "Row i is about word i"),
        (lambda states: np.hstack([states, np.vstack([0 * states[:1], states[:-1]])]), "the word after it does"),
        (lambda states: states.mean(axis=0), "expected a row for each"),
        (lambda states: seen_with_neighbours(states)[:-1], "expected a row for each"),
        (lambda states: seen_with_neighbours(states) * np.nan, "is no finite number"),
        (lambda states: states @ states.T, "as many features as any other"),
    ],
    "5.e": [
        (lambda state, text, tagger: dict(state), "The value is what stands in the text"),
        (track_with(start=lambda state: {}), "What was known stays known"),
        (track_with(start=lambda state: state), "is left as it is"),
        (track_with(start=dict), "is left as it is"),
        (track_with(order=-1), "The later of two values is meant"),
        (track_with(whole=False), "a value may have several words"),
        (lambda state, text, tagger: tagger(text), "Expected a belief state"),
    ],
    "5.7": [
        (joint_as_mwzeval, "When both sides have the same dontcare"),
        (lambda predicted, annotated: joint(annotated, predicted, ours=dict), "When"),
        (lambda predicted, annotated: joint(predicted, annotated, ours=dict, theirs=dict), "has a dontcare"),
        (slots_right, "When one slot of three is wrong"),
        (lambda predicted, annotated: joint(predicted, annotated) / 100, "per cent, please"),
        (lambda predicted, annotated: joint(predicted, annotated) == 100, "When one turn of two is right"),
        (lambda predicted, annotated: [joint(predicted, annotated)], "should be a number"),
    ],
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
