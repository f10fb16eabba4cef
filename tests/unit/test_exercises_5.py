"""The checkers of notebook 5 are proved: right answers pass, plausible wrong ones get their message; and span F1."""

import pytest

from labkit.corpora.types import Span
from labkit.metrics.spans import bio_tags, span_f1, tagged_spans, words
from labkit.notebook.exercises import BLANK, RAISED, RIGHT, WRONG, every_exercise, judge
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


def loops(*_):
    while True:
        pass


RIGHT_ANSWERS = {
    "5.1": [kept, kept_by_slices],
    "5.2": [bio_tags, bio_by_word],
    "5.3": [f1, lambda gold, predicted: span_f1(gold, predicted)["f1"]],
    "5.4": ["c", " C "],
    "5.5": [converse, converse_by_recursion],
}
WRONG_ANSWERS = {  # (answer, words of the message that it must get)
    "5.1": [
        (lambda scores, patience: scores.index(max(scores)), "where the run ends"),
        (last_of_equals, "no better one"),
        (lambda scores, patience: kept(scores, patience + 1), "where the run ends"),
        (lambda scores, patience: max(scores), "index of a validation"),
        (lambda scores, patience: scores.index(min(scores)), "you say 3"),
    ],
    "5.2": [
        (only_inside, "should get B-hotel-name"),
        (lambda words, spans: [tag.replace("I-", "B-") for tag in bio_tags(words, spans)], "should get I-hotel-name"),
        (lambda words, spans: [tag.replace("hotel-", "") for tag in bio_tags(words, spans)], "should get B-hotel-name"),
        (lambda words, spans: [tag for tag in bio_tags(words, spans) if tag != "O"], "so 11 tags"),
    ],
    "5.3": [
        (mean_of_utterances, "found in one"),
        (pooled, "found in one"),
        (lambda gold, predicted: f1(gold, predicted) / 100, "per cent, please"),
        (
            lambda gold, predicted: f1([{s[:2] for s in g} for g in gold], [{s[:2] for s in p} for p in predicted]),
            "end",
        ),
        (span_f1, "not {"),
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
    ],
}


def pairs(cases):
    return [pytest.param(id, case, id=f"{id}-{i}") for id, some in cases.items() for i, case in enumerate(some)]


def test_every_exercise_of_notebook_5_is_proved_here():
    ids = {id for id in every_exercise() if id.startswith("5.")}
    assert ids == set(RIGHT_ANSWERS) == set(WRONG_ANSWERS)


@pytest.mark.parametrize(("id", "answer"), pairs(RIGHT_ANSWERS))
def test_right_answers_pass(id, answer):
    assert judge(id, answer).outcome == RIGHT, judge(id, answer).message


@pytest.mark.parametrize(("id", "case"), pairs(WRONG_ANSWERS))
def test_wrong_answers_get_the_message_that_helps(id, case):
    answer, words = case
    verdict = judge(id, answer)
    assert verdict.outcome == WRONG and words in verdict.message, verdict


@pytest.mark.parametrize("id", ["5.1", "5.2", "5.3", "5.5"])
def test_blank_raising_and_looping_answers(id, monkeypatch):
    def unwritten(*_): ...

    monkeypatch.setattr("labkit.notebook.exercises._SECONDS", 0.2)
    assert judge(id, unwritten).outcome == BLANK and judge("5.4", ...).outcome == BLANK
    raised = judge(id, lambda *_: 1 / 0)
    assert raised.outcome == RAISED and "ZeroDivisionError" in raised.message
    assert judge(id, loops).outcome == RAISED and "0.2 s" in judge(id, loops).message


def test_f1_without_a_prediction_is_zero_and_no_error():
    assert judge("5.3", no_zero).outcome == RAISED
    assert span_f1([{("a", 0, 1)}], [set()]) == {"precision": 0, "recall": 0, "f1": 0}


def test_spans_survive_the_way_through_tags(miniwoz):
    """A word that is glued to its punctuation would widen most values; only a plural, `[museum]s`, is whole again."""
    turns = [turn for dialogue in miniwoz["dev"] for turn in dialogue.turns]
    changed = set()
    for turn in turns:
        found, spans = words(turn.utterance), {(f"{s.domain}-{s.slot}", s.start, s.end) for s in turn.spans}
        tagged = tagged_spans(bio_tags(found, turn.spans))
        back = {(name, found[first][0], found[end - 1][1]) for name, first, end in tagged}
        assert len(back) == len(spans)
        changed |= {turn.utterance[start:end] for _, start, end in back - spans}
    assert len(turns) > 2000 and changed and all(value.endswith("s") for value in changed)


def test_tags_that_no_span_makes_are_read_as_conlleval_reads_them():
    """A classifier may write an I- first, or change the slot in the middle."""
    assert tagged_spans(["I-a", "I-a", "I-b", "O", "I-b"]) == {("a", 0, 2), ("b", 2, 3), ("b", 4, 5)}
    assert tagged_spans(["B-a", "B-a", "I-a"]) == {("a", 0, 1), ("a", 1, 3)}
    assert tagged_spans([]) == tagged_spans(["O"]) == set()


def test_a_word_that_a_span_cuts_belongs_to_it():
    assert bio_tags([(0, 4), (5, 9)], [Span("Hotel-Inform", "name", "le", 2, 4)]) == ["B-hotel-name", "O"]
