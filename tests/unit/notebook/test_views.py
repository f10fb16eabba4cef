"""What notebooks show: text from data never becomes markup, and nothing is told by colour alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labkit import course as course_package
from labkit.corpora.types import BOT, USER, Dialogue, Span, Turn
from labkit.lab import STYLES
from labkit.metrics import evaluate, gold_predictions
from labkit.notebook import plots
from labkit.notebook.story import CHOSEN, show_story, story
from labkit.notebook.view import (
    highlighted,
    lexical_view,
    show_dialogue,
    show_explanation,
    show_targets,
    side_by_side,
)
from labkit.prompts import exchanges
from labkit.shown import IN_THE_DARK, ON_PAPER, show

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


def test_the_dialogue_of_the_course_is_in_the_corpus_and_its_own_replies_pass(miniwoz):
    assert story(miniwoz).key == CHOSEN["miniwoz"]
    shown = show_story(miniwoz, "a <person>")
    assert "Inform ✓  Success ✓" in shown.text and "a &lt;person&gt;" in shown.html and "never told" not in shown.text
    silent = {story(miniwoz).key: [{"response": "ok"}] * 3, "another": []}
    shown = show_story(miniwoz, "nobody", silent)
    assert "Inform ✗  Success ✗" in shown.text and "nothing was offered" in shown.text


def test_any_corpus_has_a_dialogue_of_the_course(miniwoz):
    """Of MultiWOZ it is the first whose user wants a venue and something told; without goals it is only read."""
    other = replace(miniwoz, name="another")
    wanted = other.goals[story(other).key].values()
    assert any(one["informable"] and one["requestable"] for one in wanted)
    bare = replace(miniwoz, name="another", goals={})
    shown = show_story(bare, "the corpus itself")
    assert story(bare) is bare["dev"][0] and "Inform" not in shown.text and bare["dev"][0].dialogue_id in shown.text


def test_what_carries_the_loss_is_marked_and_what_a_corpus_says_is_no_markup(dialogue):
    segments = [segment for exchange in exchanges(dialogue) for segment in exchange]
    shown = show_targets(segments)
    learnt = [segment.text for segment in segments if segment.target]
    assert shown.html.count("<b ") == shown.text.count("[[") == len(learnt) > 0
    assert shown.text.replace("[[", "").replace("]]", "") == "".join(segment.text for segment in segments)
    assert "<script" not in shown.html


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


def test_quality_diversity_names_settings_and_stand_ins():
    """A stand-in was named in every entry of a legend: now once in the title, and at a point only among real models."""
    figure = plots.quality_diversity(rows())
    assert "(stand-ins)" in figure.layout.title.text and figure.layout.showlegend is False
    assert figure.data[0].text == ("sample top_p=0.9",) and figure.data[0].x == (5.0,)
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol
    mixed = plots.quality_diversity([rows()[0], rows()[1] | {"stand_in": False}])
    assert "some are stand-ins" in mixed.layout.title.text
    assert [trace.text[0] for trace in mixed.data] == ["sample top_p=0.9 (stand-in)", "sample top_p=0.9"]
    assert not plots.quality_diversity([{"failed": "out of memory"}]).data


def test_weights_and_memory():
    figure = plots.weights(np.random.default_rng(0).normal(size=1000), [-1.0, 0.0, 1.0])
    assert len(figure.layout.shapes) == 3 and sum(figure.data[0].y) == 1000
    bars = plots.memory({"32 bit": {"base": 34.0}, "4 bit": {"base": 10.0, "scales": 1.0}}).data
    assert bars[1].y == (0.0, 1.0) and bars[0].marker.pattern.shape != bars[1].marker.pattern.shape


def test_memory_is_in_gigabytes_without_parts_that_are_nothing():
    """It said "100k MB", and had a legend entry for the KV cache of a training step, which has none."""
    parts = {"full": {"weights": 27_000.0, "cache": 0.0}, "LoRA": {"weights": 13_500.0, "cache": 0.0}}
    figure = plots.memory(parts, limits={"T4": 15_800, "a cluster": 900_000})
    assert [bar.name for bar in figure.data] == ["weights"] and figure.data[0].y == (27.0, 13.5)
    assert figure.layout.yaxis.title.text == "GB" and figure.layout.shapes[0].y0 == 15.8
    assert len(figure.layout.shapes) == 1 and "a cluster: 900 GB" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.range[1] > 27
    assert not plots.memory({}).data


def test_scores_have_even_ticks_of_their_own():
    """Plotly puts a second axis' ticks on the first one's grid: scores were read at 11.8, 50.3 and 88.9."""
    figure = plots.training([{"step": 1, "loss": 3.0, "eval_loss": 2.0, "eval_bleu": 5.0}])
    assert figure.layout.yaxis2.tickvals == (0, 25, 50, 75, 100) and figure.layout.yaxis2.tickmode == "array"


MARKUP = "<b>bold</b> <a href='x'>link</a> $x^2$"


def texts(figure):
    """All that plotly would read as its subset of HTML."""
    return figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")


def drawn_with(text):
    """Every figure of the module with this text wherever a caller's or a corpus' words go."""
    row = rows()[0] | {"label": text}
    yield plots.training([{"step": 1, "loss": 1.0, "eval_bleu": 1.0, "eval_sample": text}], text)
    yield plots.memory({text: {text: 10.0}}, text, limits={text: 5.0, f"{text}!": 900.0})
    yield plots.scores({text: row}, text)
    yield plots.quality_diversity([row], title=text)
    yield plots.weights(np.arange(5.0), title=text)


def test_names_in_a_figure_are_letters_and_no_markup():
    """Plotly draws bold letters and links from tick labels, bar names and titles: these are a user's names."""
    for figure in drawn_with(MARKUP):
        assert "<b>bold" not in texts(figure) and "<a href" not in texts(figure), figure.layout.title.text
        assert "$x" not in texts(figure), "between dollar signs plotly sees a formula"
        assert "&lt;b&gt;bold" in texts(figure)


def test_one_look_for_all_figures():
    """Plotly express drew on lilac beside the lab's white; and a template must leave a reader's own ticks alone."""
    import plotly.express as px

    express = px.histogram(x=[1, 2, 2], title="t")
    own = plots.figure("t")
    for figure in (express, own):
        assert figure.layout.template.layout.plot_bgcolor == "white"
        assert figure.layout.template.layout.colorway == plots.PALETTE
    assert express.data[0].marker.color == plots.PALETTE[0]
    assert own.layout.template.layout.xaxis.tickmode is None


def long_dialogue(n):
    turns = []
    for i in range(n):
        turns += [Turn(USER, f"question {i}"), Turn(BOT, f"answer {i}")]
    return Dialogue("LONG.json", ("hotel",), turns)


def test_the_rest_of_a_long_dialogue_unfolds():
    """One dialogue, shown four times, took eight screens."""
    shown = show_dialogue(long_dialogue(5))
    above, below = shown.html.split("<details>")
    assert above.count('role="listitem"') == 6 and below.count('role="listitem"') == 4
    assert "4 more turns</summary>" in below and "answer 4" in shown.text
    assert "<details>" not in show_dialogue(long_dialogue(5), turns=10).html
    assert "<details>" not in show_dialogue(long_dialogue(3)).html


def test_a_speaker_is_text_too():
    turn = Turn("user", "hello")
    turn.speaker = EVIL  # a Turn is not made with such a speaker, but can be changed
    shown = show_dialogue(Dialogue("A", (), [turn]))
    assert "<script" not in shown.html and "&lt;script&gt;" in shown.html


def test_an_explanation_marks_inform_and_success_apart(miniwoz):
    """A domain that offered the right place and never told its phone had one ✓ on a red ground."""
    predictions = gold_predictions(miniwoz["test"][:20])
    for turns in predictions.values():
        for turn in turns:
            turn["response"] = turn["response"].replace("_phone]", "_area]")
    scores = evaluate(predictions, miniwoz)
    failed = next(e for e in map(scores.explain, scores.keys) if e.inform and not e.success)
    verdict = next(verdict for verdict in failed.verdicts if verdict.missing)
    shown = show_explanation(failed).html
    item = next(part for part in shown.split("<li")[1:] if f" {verdict.domain} (" in part)
    assert "Inform ✓" in item and "Success ✗" in item and "never told" in item


def test_a_reply_that_scored_nothing_has_nothing_below_it():
    from labkit.metrics.scores import Explanation

    turns = (("hi", "hello", "about nothing yet: –"), ("a hotel", "[hotel_name]", "about hotel: offers 1 hotel(s)"))
    shown = show_explanation(Explanation("a", True, True, (), turns)).html
    assert shown.count("scored:") == 1 and "nothing yet" not in shown


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


def test_charts_turn_dark_by_one_rule_wherever_they_stand():
    """JupyterLab, the site and `labkit pool`'s page: in each a chart was white in the dark theme."""
    course = Path(course_package.__file__).parent
    for text in (STYLES, *((course / name).read_text() for name in ("page.html", "site/site.css"))):
        assert f"{{ {IN_THE_DARK}" in " ".join(text.split()) and ON_PAPER in text
