"""The metrics are mwzeval's: each test guards a figure that would be published wrong, or an unclear refusal."""

import json
import math
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import LabError
from labkit.metrics import (
    compare,
    constant_predictions,
    evaluate,
    gold_predictions,
    read_predictions,
    write_predictions,
)
from labkit.metrics import normalization as norm
from labkit.metrics.bleu import bleu_counts, bleu_score
from labkit.metrics.database import VenueDatabase, partial_ratio
from labkit.metrics.dst import state_tracking
from labkit.metrics.evaluation import gold_of
from labkit.metrics.intervals import paired, resampled
from labkit.metrics.richness import msttr, richness, words
from labkit.metrics.success import TurnInput, active_domains, follow, judge
from labkit.storage import read_json

FEW = settings(max_examples=40, deadline=None, database=None)


@pytest.fixture
def multiwoz(multiwoz, multiwoz_dir):
    if not (multiwoz_dir / "expected_scores.json").exists():
        pytest.skip(f"{multiwoz_dir} holds no expected_scores.json to compare with")
    return multiwoz


@pytest.fixture(scope="module")
def tracked(miniwoz):
    """Gold replies with gold states, and something wrong in every third dialogue."""
    predictions = gold_predictions(miniwoz["test"])
    for number, dialogue in enumerate(miniwoz["test"]):
        for turn, gold in zip(predictions[dialogue.key], dialogue.bot_turns, strict=True):
            turn["state"] = {d: dict(list(slots.items())[number % 3 == 0 :]) for d, slots in gold.state.items()}
            if number % 3 == 1:
                turn["response"] = turn["response"].replace("_phone]", "_area]").replace("_name]s", "_unheard]")
    return predictions


# --- parity with mwzeval ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["ubar", "damd", "soloist", "galaxy-policy", "hdsa"])
def test_published_systems_get_the_referees_figures(multiwoz, multiwoz_dir, system):
    """Rates and richness to the last digit; damd lacks a dialogue, soloist has active_domains, two predict no state."""
    expected = read_json(multiwoz_dir / "expected_scores.json")["systems"][system]
    predictions = read_predictions(multiwoz_dir / "predictions" / f"{system}.json.gz")
    result = evaluate(predictions, multiwoz).to_mwzeval()
    assert result["success"] == expected["success"]
    assert result["richness"] == expected["richness"]
    assert result["bleu"]["mwz22"] == pytest.approx(expected["bleu"]["mwz22"], abs=1e-9)
    assert sum(map(len, predictions.values())) == expected["turns"]


def test_references_and_states_are_the_referees(multiwoz, multiwoz_dir):
    """They are made from the corpus here, and were made by mwzeval there; the order of domains decides ties."""
    gold = gold_of(multiwoz, "test")
    references = read_json(multiwoz_dir / "references_test.json.gz")
    states = read_json(multiwoz_dir / "gold_states_test.json.gz")
    assert {key: gold.references(key) for key in gold.dialogues} == references
    assert json.dumps({key: gold.states(key) for key in states}) == json.dumps(states)


def test_marks_of_multiwoz(multiwoz):
    """What gold and constant replies get is the scale that every other score is read on."""
    gold = evaluate(gold_predictions(multiwoz["test"]), multiwoz)
    assert (round(gold.bleu, 6), gold.inform, gold.success) == (100, 92.5, 88.8)
    floor = evaluate(constant_predictions(multiwoz["test"]), multiwoz)
    assert (floor.bleu, floor.inform, floor.success) == (0, 22.1, 2.5)
    assert "optimistic" in gold.notes[0]


@pytest.mark.parametrize("variant", ["state", "active", "none"])
def test_mwzeval_agrees_on_miniwoz(miniwoz, tracked, variant):
    """The package itself, on the same input: every figure is equal, dialogue state tracking too."""
    pytest.importorskip("mwzeval", reason="mwzeval is not installed (it is in no registry; see pyproject.toml)")
    predictions = deepcopy(tracked)
    for turn in (turn for turns in predictions.values() for turn in turns):
        turn |= {"active_domains": ["hotel", "train"]} if variant == "active" else {}
        if variant == "none":
            del turn["state"]
    ours, theirs = (evaluate(predictions, miniwoz, scorer=scorer) for scorer in ("labkit", "mwzeval"))
    assert ours == replace(theirs, scorer="labkit") and theirs.scorer == "mwzeval"


def test_mwzeval_agrees_on_multiwoz(multiwoz, multiwoz_dir):
    pytest.importorskip("mwzeval", reason="mwzeval is not installed (it is in no registry; see pyproject.toml)")
    predictions = read_predictions(multiwoz_dir / "predictions" / "ubar.json.gz")
    some = dict(list(predictions.items())[:150])
    ours, theirs = (evaluate(some, multiwoz, scorer=scorer) for scorer in ("labkit", "mwzeval"))
    assert ours == replace(theirs, scorer="labkit")


def test_without_mwzeval_the_error_says_how_to_get_it(miniwoz, tracked, monkeypatch):
    for name in ("mwzeval", "mwzeval.database"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LabError, match="pip install 'mwzeval @ git"):
        evaluate(tracked, miniwoz, scorer="mwzeval")


# --- normalisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "normal"),
    [
        ("[restaurant_name]s and [value_name] , ok ?", "NAME and NAME, ok?"),
        ("at 12:30 , it's a [hotel_stars]-star .", "at 12: 30, it's a COUNTtar."),  # its "-s" goes, as in mwzeval
        ("post-s quick-ly [nonsense]!", "post quick!"),
        ('"[arrive by]" ( [train_id] ) £ 5', '"TIME" (TRAINID) £5'),
        ("", ""),
    ],
)
def test_replies_in_one_spelling(reply, normal):
    assert norm.normalise_reply(reply)[0] == normal


def test_unknown_placeholders_are_told():
    assert norm.normalise_reply("[nonsense] [name] [Hotel]")[1] == ("nonsense", "hotel")


@FEW
@given(st.text(alphabet="abzNAM019 .,?!:;%/-'\n", max_size=30))
def test_the_short_cut_is_moses(text):
    """The short cut for plain text must give what sacremoses gives for the whole text: a comma in front is the trap."""
    assert norm.respaced(text) == norm._moses(text)


@pytest.mark.slow
@FEW
@given(st.text(max_size=40))
def test_any_text_can_be_normalised(text):
    once = norm.respaced(norm.normalise_reply(text)[0])
    assert once == once.strip() and "\n" not in once


@pytest.mark.parametrize(
    ("said", "clock"),
    [
        ("after 5:15 pm", "17:15"),
        ("1715", "17:15"),
        ("9", "09:00"),
        ("9:05.", "09:05"),
        ("by 11 : 30", "11:30"),
        ("noon", "12:00"),
        ("one o'clock p.m. sharp", "13:00"),
        ("", "00:00"),
        ("9 a.m.", "09:00"),
        ("half past 2:30 pm", "halfpast2:30"),
        ("²", "0²:00"),
    ],
)
def test_times_in_one_spelling(said, clock):
    """The last two end mwzeval with an exception; here they are values like any other."""
    assert norm.slot_value("leave", said) == clock


@FEW
@given(st.sampled_from(["name", "food", "type", "leave", "parking", "area"]), st.text(max_size=20))
def test_values_settle(slot, value):
    """A value that was normalised by the state and again by the query must not change any more than in mwzeval."""
    assert isinstance(norm.minutes(norm.slot_value(slot, value)), int)
    if slot in ("food", "type", "parking", "area"):
        once = norm.slot_value(slot, value)
        assert norm.slot_value(slot, once) == once


# --- the figures themselves -------------------------------------------------------------------------------------------


@FEW
@given(st.lists(st.tuples(st.text("ab. ", max_size=12), st.text("ab. ", max_size=12)), min_size=1, max_size=5))
def test_bleu_is_sacrebleus(pairs):
    from sacrebleu import corpus_bleu

    hypotheses, references = map(list, zip(*pairs, strict=True))
    total = bleu_counts(hypotheses, references).sum(axis=0)
    assert bleu_score(total) == corpus_bleu(hypotheses, [references]).score


def test_bleu_counts_with_a_vocabulary_too_large_for_64_bits():
    """Without renumbering, codes of 4-grams over 12,000 words overflow and match what does not."""
    words = [f"w{number}" for number in range(12000)]
    lines = [" ".join(words[start : start + 6]) for start in range(0, len(words), 6)]
    counts = bleu_counts(lines, lines)
    assert (counts == [6, 5, 4, 3, 6, 5, 4, 3, 6, 6]).all()


def test_richness_by_hand():
    result = richness(["a b a", "c!"])
    assert (result["num_unigrams"], result["num_bigrams"], result["num_trigrams"]) == (3, 2, 1)
    assert result["entropy"] == pytest.approx(1.5) and result["avg_lengths"] == 2
    assert result["cond_entropy"] == pytest.approx(0.25)  # only what follows "a" is uncertain: p = 1/4, 1 bit
    assert words("") == [""] and words("It's``, ok.") == ["its", "ok"]
    assert msttr(["x"] * 50 + ["y", "z"] * 25 + ["w"]) == (1 / 50 + 2 / 50) / 2


def test_state_tracking_by_hand():
    gold = {"hotel": {"area": "north", "stars": "4"}}
    result = state_tracking([(gold, gold), ({"hotel": {"area": "south"}}, gold), ({}, {})])
    assert result["joint_accuracy"] == pytest.approx(200 / 3)
    assert result["slot_precision"] == pytest.approx(2 / 3) and result["slot_recall"] == pytest.approx(2 / 4)


def test_fuzzy_matching_is_fuzzywuzzys():
    """rapidfuzz.fuzz.partial_ratio gives 94, 92 and 90: venues would match that the referee tells apart."""
    pairs = [("yu garden", "curry garden"), ("ask restaurant", "fitzbillies restaurant")]
    assert [partial_ratio(*pair) for pair in pairs] == [89, 89]
    assert partial_ratio("shiraz restaurant", "pipasha restaurant") == 82
    assert (partial_ratio("", "x"), partial_ratio("", ""), partial_ratio("ely", "to ely")) == (0, 100, 100)


HOTELS = [
    {"id": "0", "name": "acorn guest house", "area": "north", "parking": "yes"},
    {"id": "1", "name": "the lensfield", "area": "?", "parking": "no"},
]
TRAINS = [
    {"trainID": "TR1", "departure": "ely", "leaveAt": "05:40", "arriveBy": "06:07", "day": "monday"},
    {"trainID": "TR2", "departure": "ely", "leaveAt": "17:40", "arriveBy": "18:07", "day": "monday"},
]


@pytest.mark.parametrize(
    ("domain", "constraints", "found"),
    [
        ("hotel", {}, {"0", "1"}),
        ("hotel", {"area": "north"}, {"0", "1"}),
        ("hotel", {"area": "north", "parking": "free", "day": "friday"}, {"0"}),
        ("hotel", {"area": "dontcare", "name": "acorn house"}, {"0"}),
        ("train", {"leave": "after 6 am"}, {"TR2"}),
        ("train", {"arrive": "07:00", "departure": "ely station"}, {"TR1"}),
        ("taxi", {"departure": "ely"}, set()),
    ],
)
def test_database_queries(domain, constraints, found):
    assert VenueDatabase({"hotel": HOTELS, "train": TRAINS}).query(domain, constraints) == found


def test_active_domain_goes_to_the_other_of_two_that_were_set_at_once():
    hotel, train = {"hotel": {"area": "north"}}, {"train": {"day": "monday", "leave": "9"}}
    assert active_domains([{}, hotel | train, hotel | train, hotel]) == [[], ["train"], ["hotel"], ["hotel"]]


def test_inform_and_success_by_hand():
    """A reference without a booking does not count, and a wider search does not take an offer back."""
    goal = {"hotel": {"informable": {"parking": "yes"}, "requestable": ["PHONE", "REFERENCE"], "booking": []}}
    database = VenueDatabase({"hotel": HOTELS})
    narrow, wide = {"hotel": {"parking": "yes"}}, {"hotel": {}}
    turns = [
        TurnInput("NAME, PHONE", narrow, ["hotel"], []),
        TurnInput("NAME, REFERENCE", wide, ["hotel"], []),
    ]
    *_, last = follow(goal, turns, database)
    (verdict,) = judge(goal, last, database)
    assert verdict.inform and verdict.missing == ("REFERENCE",) and verdict.reason.startswith("1 of the 1")
    *_, last = follow(goal, [turns[1]._replace(booked=["hotel"])], database)
    (verdict,) = judge(goal, last, database)
    assert not verdict.inform and verdict.missing == ("PHONE",) and verdict.reason.startswith("1 of the 2")


# --- uncertainty, explanations, speed ---------------------------------------------------------------------------------


def test_intervals_hold_the_score_and_do_not_move(miniwoz, tracked):
    scores = evaluate(tracked, miniwoz)
    for name, (low, high) in scores.intervals.items():
        assert low < getattr(scores, name) < high, name
    assert evaluate(tracked, miniwoz).intervals == scores.intervals
    few = evaluate(dict(list(tracked.items())[:20]), miniwoz).intervals
    assert np.ptp(few["success"]) > np.ptp(scores.intervals["success"])


@FEW
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5))
def test_resampled_rates_are_those_of_dialogues(passed, seed):
    """Every resample has as many dialogues; their mean is the score."""
    tallies = np.array([[1] * 10 + [ok, ok, 1] for ok in passed])
    (drawn,) = resampled(tallies, samples=200, seed=seed)
    assert (drawn["inform"] >= 0).all() and (drawn["inform"] <= 100).all()
    wrong_count = drawn["inform"] * len(passed) / 100
    assert np.allclose(wrong_count, wrong_count.round())
    assert abs(drawn["inform"].mean() - 100 * sum(passed) / len(passed)) < 5 * 50 / math.sqrt(200 * len(passed)) + 1e-9


def test_comparison_tells_noise_from_a_difference(miniwoz, tracked):
    a, floor = (evaluate(p, miniwoz) for p in (tracked, constant_predictions(miniwoz["test"])))
    same, apart = compare(a, a), compare(floor, a)
    assert all(d.is_noise and d.difference == 0 and d.p == 1 for d in same.differences.values())
    assert all(not d.is_noise and d.interval[0] > 0 for d in apart.differences.values())
    assert "inside the noise" in str(same) and apart.n_dialogues == len(miniwoz["test"])
    flipped = paired(a.tallies, floor.tallies)["bleu"]
    assert flipped.difference == -apart.differences["bleu"].difference
    half = evaluate(dict(list(tracked.items())[:50]), miniwoz)
    assert compare(half, a).n_dialogues == 50 and "left out" in compare(half, a).notes[0]


def test_explanations_agree_with_the_scores(miniwoz, tracked):
    """Each dialogue's explanation passes or fails where its tally does, and names the slot that was never told."""
    scores = evaluate(tracked, miniwoz)
    explained = [scores.explain(key) for key in scores.keys]
    assert [(e.inform, e.success) for e in explained] == [tuple(row) for row in scores.tallies[:, 10:12].astype(bool)]
    failed = next(e for e in explained if any("PHONE" in verdict.missing for verdict in e.verdicts))
    assert "never told" in str(failed) and "PHONE" in str(failed) and "offers" in str(failed)
    with pytest.raises(LabError, match="not among the predictions"):
        scores.explain("nobody")


# --- guards -----------------------------------------------------------------------------------------------------------


def test_lexical_replies_are_refused(miniwoz):
    """The classic mistake: names where the references have placeholders."""
    lexical = {d.key: [{"response": turn.utterance} for turn in d.bot_turns] for d in miniwoz["test"]}
    with pytest.raises(LabError, match="replies are lexical"):
        evaluate(lexical, miniwoz)
    with pytest.raises(LabError, match="replies are lexical"):
        evaluate(dict(list(lexical.items())[:3]), miniwoz)
    assert evaluate(lexical, miniwoz, allow_lexical=True).inform < 50


def test_babble_is_scored(miniwoz):
    """A model that was never tuned writes no placeholders either, and must get its (low) score."""
    for text in ("ok", "I am not sure what you mean. The sky is blue!", ""):
        assert evaluate(constant_predictions(miniwoz["test"], text), miniwoz).bleu < 5


def _one(turn):
    return {"first": [turn]}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "predictions: '.*' is of type list, not an object"),
        ({}, "there are no predictions"),
        ({"first": {}}, "dialogue first: .* not a list"),
        (_one("hello"), "first, turn 0: 'hello' is of type str, not an object"),
        (_one({}), "first, turn 0: it has no 'response'"),
        (_one({"response": None}), "first, turn 0, response: 'None' is of type NoneType, not text"),
        (_one({"response": float("nan")}), "first, turn 0, response: 'nan' is of type float"),
        (_one({"response": "a", "state": None}), "turn 0, state: 'None'"),
        (_one({"response": "a", "state": {"hotel": []}}), "turn 0, state, hotel: .* not an object"),
        (_one({"response": "a", "state": {"hotel": {"name": ["x"]}}}), "turn 0, state, hotel, name: .* list, not text"),
        (_one({"response": "a", "state": {"hotel": {"stars": 4}}}), "turn 0, state, hotel, stars: '4' is of type int"),
        (_one({"response": "a", "active_domains": "hotel"}), "turn 0, active_domains: 'hotel' is of type str"),
        ({"first": [], "FIRST.json": []}, "FIRST.json: the same id stands there twice"),
        ({"pmul1": [{"response": "a"}]}, "dialogue pmul1: the split 'test' of miniwoz has no such dialogue"),
        ({"first": [{"response": "a"}] * 99}, r"first, turn \d+: the dialogue has only \d+ system turns"),
    ],
)
def test_malformed_predictions_are_named(miniwoz, predictions, message):
    dialogue = replace(miniwoz["test"][0], dialogue_id="FIRST.json")
    with pytest.raises(LabError, match=message):
        evaluate(predictions, replace(miniwoz, splits={"test": [dialogue]}))


def test_soft_faults_are_scored_and_told(miniwoz, tracked):
    partial = dict(list(deepcopy(tracked).items())[:10])
    first, second, *_ = partial
    partial[first] = partial[first][:-1]
    partial[second][0]["response"] = ""
    partial[second][1]["response"] += " [unheard_of]"
    partial[second][1]["state"] = {"hotel": {"price range": "cheap", "colour": "blue"}}
    scores = evaluate(partial, miniwoz)
    notes = " | ".join(scores.notes)
    assert "is a stand-in" in notes and "scored over the 10 dialogues predicted, of 150" in notes
    assert f"1 dialogue(s) end early (first: {first})" in notes
    assert f"1 empty replies (first: dialogue {second}, turn 0)" in notes
    assert f"[unheard_of] (first: dialogue {second}, turn 1)" in notes
    assert f"in belief states match nothing: hotel colour (first: dialogue {second}, turn 1)" in notes
    assert scores.n_turns == sum(map(len, partial.values()))


def test_a_corpus_without_goals_has_no_inform(miniwoz, tracked):
    scores = evaluate(tracked, replace(miniwoz, goals={}))
    assert scores.inform is scores.success is scores.combined is None and scores.to_mwzeval()["success"] is None
    assert set(scores.intervals) == {"bleu"} and any("no goal" in note for note in scores.notes)
    str(scores)


def test_a_predicted_state_decides_what_is_offered(miniwoz):
    """Looked up with the annotated states, perfect replies of a system that understood nothing are perfect."""
    replies = gold_predictions(miniwoz["test"][:20])
    deaf = {key: [turn | {"state": {}} for turn in turns] for key, turns in replies.items()}
    optimistic, honest = evaluate(replies, miniwoz), evaluate(deaf, miniwoz)
    assert optimistic.inform == 100 and honest.inform < 50 and honest.bleu == optimistic.bleu
    assert any("optimistic" in note for note in optimistic.notes) and not any("optimistic" in n for n in honest.notes)
    assert honest.dst["slot_recall"] == 0 and optimistic.dst is None


def test_partial_states_count_as_none(miniwoz, tracked):
    """One turn without a state, and mwzeval takes the gold states everywhere: half of them would mean nothing."""
    predictions = deepcopy(tracked)
    del next(iter(predictions.values()))[0]["state"]
    scores = evaluate(predictions, miniwoz)
    assert scores.dst is None and any("optimistic" in note for note in scores.notes)


def test_evaluation_leaves_the_predictions_alone(miniwoz, tracked):
    """mwzeval normalises in place, and replies that are normalised twice lose their placeholders."""
    before = deepcopy(tracked)
    assert evaluate(tracked, miniwoz) == evaluate(tracked, miniwoz)
    assert tracked == before


def test_predictions_on_disk(tmp_path, miniwoz, tracked):
    path = write_predictions(tmp_path / "p.json", tracked)
    assert read_predictions(path) == tracked
    path.write_text('{"a": [{"response": "x"}], "a": []}')
    with pytest.raises(LabError, match="'a' stands twice"):
        read_predictions(path)
    path.write_text('{"a": [{"response": NaN}]}')
    with pytest.raises(LabError, match="dialogue a, turn 0, response: 'nan'"):
        read_predictions(path)
    path.write_text("[" * 100_000)
    with pytest.raises(LabError, match="not readable JSON"):
        read_predictions(path)
    with pytest.raises(LabError, match="no file"):
        read_predictions(tmp_path / "none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "response", "state", "active_domains", "hotel"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@FEW
@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_read_or_refused_clearly(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "p.json"
    path.write_bytes(content)
    try:
        predictions = read_predictions(path)
    except LabError as error:
        assert "\n" not in str(error) or error.found
    else:
        assert all(isinstance(turn["response"], str) for turns in predictions.values() for turn in turns)
