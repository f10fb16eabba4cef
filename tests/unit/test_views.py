"""What notebooks show: text from data never becomes markup, and nothing is told by colour alone."""

import numpy as np
import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Span, Turn
from labkit.metrics import evaluate, gold_predictions
from labkit.notebook import plots
from labkit.notebook.view import highlighted, lexical_view, show_dialogue, show_explanation, side_by_side
from labkit.shown import show

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def dialogue():
    name = Span("Restaurant-Inform", "name", "curry garden", 0, 12)
    state = {"restaurant": {"food": "indian"}}
    turns = [Turn(USER, f"indian food {EVIL}", state), Turn(BOT, "curry garden is nice", state, spans=(name,))]
    return Dialogue(f"{EVIL}.json", ("restaurant",), turns)


def test_dialogue_from_data_is_escaped_everywhere(dialogue):
    shown = show_dialogue(dialogue, {dialogue.key: [{"response": EVIL}]}, states=True)
    assert "<script" not in shown.html and "&lt;script&gt;" in shown.html


def test_speakers_stand_in_words_and_the_text_twin_says_the_same(dialogue):
    shown = show_dialogue(dialogue, delexicalised=True, states=True)
    assert "user:" in shown.html and "bot:" in shown.html
    assert shown.text.split("\n")[1:] == [f"user> indian food {EVIL}", "state> restaurant food=indian",
                                          "bot> [restaurant_name] is nice"]  # fmt: skip


def test_predictions_stand_beside_references_as_far_as_there_are_any(dialogue):
    shown = show_dialogue(dialogue, {dialogue.key: [{"response": "try [restaurant_name]"}]})
    assert "reference> curry garden is nice\nprediction> try [restaurant_name]" in shown.text
    assert "prediction" not in show_dialogue(dialogue, {"another": [{"response": "x"}]}).text


def test_only_placeholders_are_marked():
    assert highlighted("[hotel_name] <b>[x]</b>").count("<mark") == 2
    assert "<mark" not in highlighted("[<b>] [a-b]") and "<b>" not in highlighted("[<b>]")


def test_an_explanation_tells_failure_by_colour_sign_and_words(miniwoz):
    predictions = gold_predictions(miniwoz["test"][:20])
    for turns in predictions.values():
        turns[-1]["response"] = EVIL
        for turn in turns:
            turn["response"] = turn["response"].replace("_phone]", "_area]")
    scores = evaluate(predictions, miniwoz)
    failed = next(e for e in map(scores.explain, scores.keys) if e.inform and not e.success)
    shown = show_explanation(failed)
    assert "<script" not in shown.html and "&lt;script&gt;" in shown.html
    assert "never told" in shown.html and "rgba(213,94,0" in shown.html and "[" in shown.html
    assert "Inform ✓  Success ✗" in shown.html and shown.text == str(failed)
    assert shown.html.count('role="listitem"') == 2 * len(failed.turns)


def test_side_by_side_escapes_names_and_replies():
    shown = side_by_side({f"greedy {EVIL}": EVIL}, EVIL)
    assert "<script" not in shown.html and shown.text.endswith(f"greedy {EVIL}: {EVIL}")


def test_show_prints_outside_ipython(capsys):
    show(side_by_side({"a": "b"}))
    assert capsys.readouterr().out == "a: b\n"


def rows():
    some = {"model": "mini-pythia", "stand_in": True, "decoding": {"strategy": "sample", "top_p": 0.9, "top_k": 0}}
    return [
        some | {"parameters": 8, "bleu": 9.0, "inform": 50.0, "success": 20.0, "richness": {"entropy": 5.0}},
        some | {"parameters": 1, "bleu": 5.0, "inform": 60.0, "success": 20.0, "richness": {"entropy": 3.0}},
    ]


def test_next_tokens_says_kept_and_cut_in_words_and_pattern():
    figure = plots.next_tokens([" a", " a", "\n"], np.array([0.5, 0.3, 0.2]), np.array([True, True, False]), "t")
    kept, cut = figure.data
    assert kept.text == ("50.0% kept", "30.0% kept") and cut.text == ("20.0% cut",)
    assert kept.marker.pattern.shape != cut.marker.pattern.shape
    assert figure.layout.yaxis.ticktext == ("' a'", "' a'", "'\\n'")  # two tokens of one text stay two bars


def test_loss_curve_draws_train_and_dev_where_they_are():
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}]
    train, dev = plots.loss_curve(history).data
    assert train.y == (3.0, 2.0) and dev.x == (2,) and train.line.dash != dev.line.dash
    assert len(plots.loss_curve(history[:2]).data) == 1


def test_quality_diversity_names_settings_and_stand_ins():
    figure = plots.quality_diversity(rows())
    assert figure.data[0].name == "sample top_p=0.9 (stand-in)" and figure.data[0].x == (5.0,)
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol


def test_weights_and_memory():
    figure = plots.weights(np.random.default_rng(0).normal(size=1000), [-1.0, 0.0, 1.0])
    assert len(figure.layout.shapes) == 3 and sum(figure.data[0].y) == 1000
    bars = plots.memory({"32 bit": {"base": 34.0}, "4 bit": {"base": 10.0, "scales": 1.0}}).data
    assert bars[1].y == (0.0, 1.0) and bars[0].marker.pattern.shape != bars[1].marker.pattern.shape


def test_side_by_side_marks_what_the_second_says_differently():
    """Told by underlining and not by colour, and a word from a model is never markup."""
    shown = side_by_side({"A": "it is in the north", "B": f"it is in the [hotel_area] {EVIL}"}, differences=True)
    assert shown.text == f"A: it is in the north\nB: it is in the *[hotel_area] {EVIL}*"
    assert shown.html.count("<u>") == 1 and "<script" not in shown.html
    assert "<u>" not in side_by_side({"A": "yes", "B": "no"}).html


def test_lexical_view_takes_an_entity_that_meets_the_state():
    """The first entity of the database, whatever was asked for, looks as good and is wrong."""
    state = {"restaurant": {"food": "thai", "bookday": "friday"}, "train": {"leaveat": "09:00"}}
    dialogue = Dialogue("A.json", (), [Turn(USER, "thai food", state), Turn(BOT, "ok", state)])
    entities = [{"name": "curry garden", "food": "indian"}, {"name": "bangkok", "food": "thai", "phone": "01223"}]
    trains = [{"trainID": "TR1", "leaveAt": "08:00"}, {"trainID": "TR2", "leaveAt": "09:30"}]
    said = "[restaurant_name] , [restaurant_phone] , [restaurant_bookday] , [train_trainid] [taxi_phone]"
    read = lexical_view(said, dialogue, 0, {"restaurant": entities, "train": trains})
    assert read == "bangkok , 01223 , friday , TR2 [taxi_phone]"
