"""What notebooks show: text from data never becomes markup, and nothing is told by colour alone."""

import numpy as np
import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Span, Turn
from labkit.metrics import evaluate, gold_predictions
from labkit.notebook import plots
from labkit.notebook.view import highlighted, show, show_dialogue, show_explanation, side_by_side

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


def test_by_size_sorts_by_parameters_and_names_stand_ins():
    figure = plots.by_size(rows())
    assert figure.data[0].x == (1, 8) and figure.data[0].y == (5.0, 9.0)
    assert figure.data[0].text[0] == "mini-pythia (stand-in)"
    assert len({trace.marker.symbol for trace in figure.data}) == 3


def test_quality_diversity_names_settings_and_stand_ins():
    figure = plots.quality_diversity(rows())
    assert figure.data[0].name == "sample top_p=0.9 (stand-in)" and figure.data[0].x == (5.0,)
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol


def test_weights_and_memory():
    figure = plots.weights(np.random.default_rng(0).normal(size=1000), [-1.0, 0.0, 1.0])
    assert len(figure.layout.shapes) == 3 and sum(figure.data[0].y) == 1000
    bars = plots.memory({"32 bit": {"base": 34.0}, "4 bit": {"base": 10.0, "scales": 1.0}}).data
    assert bars[1].y == (0.0, 1.0) and bars[0].marker.pattern.shape != bars[1].marker.pattern.shape
