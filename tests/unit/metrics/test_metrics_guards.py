"""What is read for scoring is checked where it is read: a result, or one line that names the place."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.corpora import load_corpus
from labkit.corpora.times import clock, minutes
from labkit.corpora.types import dialogue_key
from labkit.errors import LabError
from labkit.metrics import evaluate, gold_predictions, read_predictions, write_predictions
from labkit.metrics import normalization as norm
from labkit.metrics.evaluation import gold_of
from labkit.metrics.predictions import checked

HALF_AN_EMOJI = "\ud83d"
WRONG = [None, True, 0, 1.5, 10**400, "", "x", HALF_AN_EMOJI, "9" * 5000, [], [None], [[]], {}, {"a": None}]
SOME = settings(max_examples=60, deadline=None, database=None)


@pytest.fixture(scope="module")
def few():
    """Three dialogues of MiniWOZ, and their own replies and states as predictions."""
    corpus = load_corpus("miniwoz", sizes={"train": 1, "dev": 1, "test": 3})
    return corpus, _with_states(corpus["test"])


def _with_states(dialogues):
    predictions = gold_predictions(dialogues)
    for dialogue in dialogues:
        for reply, turn in zip(predictions[dialogue.key], dialogue.bot_turns, strict=True):
            reply["state"] = turn.state
    return predictions


def _places(value, path=()):
    """The path of every field inside JSON, the first two items of a list standing for all."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _places(inner, (*path, name))


def _changed(value, path, new):
    """A copy with another value at the path; without the field where `new` is ..."""
    value = deepcopy(value)
    inner = value
    for name in path[:-1]:
        inner = inner[name]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


def _scores_or_says(corpus, predictions):
    """The error, if there is one; scores, explanations and notes can be printed."""
    try:
        scores = evaluate(predictions, corpus)
        printed = [str(scores), *(str(scores.explain(key)) for key in scores.keys if key in corpus.goals)]
    except LabError as error:
        printed = [str(error)]
        assert "\n" not in printed[0] and error.action
    for text in printed:
        text.encode("utf-8")


@pytest.mark.slow
@SOME
@given(data=st.data())
@pytest.mark.parametrize("name", ["goals", "booked", "database", "schema"])
def test_a_broken_corpus_file_is_scored_or_named(few, name, data):
    """423 of 2,535 mutations of a MultiWOZ folder were tracebacks when it was used."""
    corpus, predictions = few
    content = getattr(corpus, name)
    path = data.draw(st.sampled_from(list(_places(content))))
    new = data.draw(st.sampled_from([*WRONG, ...]))
    _scores_or_says(replace(corpus, **{name: _changed(content, path, new)}), predictions)


@pytest.mark.parametrize("name", ["goals", "booked", "database", "schema"])
@pytest.mark.parametrize("content", [None, 3, "x", [None], [[]]])
def test_a_corpus_file_that_holds_something_else_is_named(few, name, content):
    corpus, predictions = few
    with pytest.raises(LabError, match=r"schema|goals|booked_domains|database"):
        evaluate(predictions, replace(corpus, **{name: content}))


def test_the_error_names_dialogue_domain_and_field(few):
    corpus, predictions = few
    key = next(iter(predictions))
    domain = next(iter(corpus.goals[key]))
    goals = _changed(corpus.goals, (key, domain, "informable"), {"area": 3})
    with pytest.raises(LabError, match=f"goals, dialogue {key}, {domain}, informable, area: '3' is of type int"):
        evaluate(predictions, replace(corpus, goals=goals))
    database = _changed(corpus.database, ("hotel", 1, "name"), ["x"])
    with pytest.raises(LabError, match=r"database, hotel, entity 1, column 'name': .* is of type list, not text"):
        evaluate(predictions, replace(corpus, database=database))


def test_booked_domains_that_stop_early_are_not_a_shorter_dialogue(few):
    """The turns after the last one were silently left out: what the bot told there didn't count."""
    corpus, predictions = few
    key = next(iter(predictions))
    booked = {**corpus.booked, key: corpus.booked[key][:2]}
    with pytest.raises(LabError, match=f"booked_domains, dialogue {key}: it has 2 turns"):
        evaluate(predictions, replace(corpus, booked=booked))


@pytest.mark.parametrize(
    "value", ["9" * 5000 + " pm", "9" * 5000, "12:" + "9" * 5000, HALF_AN_EMOJI, "²pm", "٣ pm", ""]
)
@pytest.mark.parametrize("slot", ["leaveAt", "name", "food", "parking", HALF_AN_EMOJI])
def test_an_absurd_value_of_a_state_is_a_wrong_value(few, slot, value):
    """An hour of 5,000 digits was a ValueError of int(), half an emoji one of the screen."""
    corpus, predictions = few
    odd = deepcopy(predictions)
    for reply in next(iter(odd.values())):
        reply["state"] = {"train": {slot: value}, HALF_AN_EMOJI: {slot: value}}
    _scores_or_says(corpus, odd)
    assert isinstance(norm.clock(value), str) and isinstance(minutes(value), int)


def test_half_an_emoji_in_a_reply_is_written_and_read_again(few, tmp_path):
    corpus, predictions = few
    key = next(iter(predictions))
    odd = deepcopy(predictions)
    odd[key][0]["response"] = f"hi {HALF_AN_EMOJI} [{HALF_AN_EMOJI}] there"
    assert read_predictions(write_predictions(tmp_path / "p.json", odd)) == odd
    _scores_or_says(corpus, odd)
    with pytest.raises(LabError) as refused:
        checked({HALF_AN_EMOJI: [{"response": 3}]})
    assert "ud83d" in str(refused.value) and str(refused.value).encode("utf-8")


def test_a_number_of_5000_digits_is_refused_in_one_line():
    with pytest.raises(LabError, match=r"dialogue a, turn 0, response: .* is of type int, not text"):
        checked({"a": [{"response": 10**5000}]})


def test_ids_with_dots_are_not_one_dialogue(few):
    """Everything from the first dot on was cut off: conv.2024.001 and conv.2024.002 were "the same id"."""
    corpus, _ = few
    dialogues = [replace(corpus["test"][n], dialogue_id=f"conv.2024.00{n}.json") for n in (1, 2)]
    scores = evaluate(gold_predictions(dialogues), replace(corpus, splits={"test": dialogues}))
    assert scores.n_dialogues == 2 and scores.keys == ["conv.2024.001", "conv.2024.002"]
    assert dialogue_key("PMUL0001.json") == dialogue_key("pmul0001") == "pmul0001"


def test_another_corpus_gets_its_own_gold(few):
    """What scoring has computed is kept on the corpus, and a changed copy does not inherit it."""
    corpus, _ = few
    assert gold_of(corpus, "test") is gold_of(corpus, "test")
    other = replace(corpus, database={**corpus.database, "hotel": []})
    assert gold_of(other, "test") is not gold_of(corpus, "test")
    assert gold_of(other, "test").database.query("hotel", {}) == frozenset()


def test_the_annotated_states_themselves_have_all_states_right(miniwoz):
    """They scored 84: "dontcare" was left out of the annotation and not of the prediction, which learns to say it."""
    dst = evaluate(_with_states(miniwoz["test"]), miniwoz).dst
    assert (dst["joint_accuracy"], dst["slot_f1"], dst["slot_precision"], dst["slot_recall"]) == (100, 100, 1, 1)
    assert 80 < dst["joint_accuracy_mwzeval"] < 90 and dst["slot_precision_mwzeval"] < 1


def test_mwzevals_joint_accuracy_stands_beside_ours_where_it_differs(miniwoz):
    predictions = _with_states(miniwoz["test"][:20])
    scores = evaluate(predictions, miniwoz)
    assert "joint_accuracy 100 (mwzeval " in str(scores)
    assert scores.to_mwzeval()["dst"]["joint_accuracy"] == scores.dst["joint_accuracy_mwzeval"]
    assert scores.joint_interval == (100, 100)
    without = deepcopy(predictions)
    for reply in (reply for replies in without.values() for reply in replies):
        reply["state"] = {d: {s: v for s, v in slots.items() if v != "dontcare"} for d, slots in reply["state"].items()}
    assert "(mwzeval" not in str(evaluate(without, miniwoz))


def test_times_have_one_home():
    assert [clock(minutes(time)) for time in ("00:00", "09:05", "23:59")] == ["00:00", "09:05", "23:59"]
    assert minutes("soon") == minutes("") == 0 and norm.minutes is minutes
