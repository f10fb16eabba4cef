"""Checkers of notebook 5 on blank, raising and looping answers, and the tags and F1 of spans that they stand on."""

import pytest
from proofs_5 import no_zero

from labkit.corpora.types import Span
from labkit.metrics.spans import bio_tags, span_f1, tagged_spans, words
from labkit.notebook.exercises import BLANK, RAISED, judge


def loops(*_):
    while True:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("id", ["5.1", "5.2", "5.3", "5.5"])
def test_blank_raising_and_looping_answers(id, monkeypatch):
    def unwritten(*_): ...

    monkeypatch.setattr("labkit.notebook.exercises.attempt.SECONDS", 0.2)
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
