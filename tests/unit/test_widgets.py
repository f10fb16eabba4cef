"""The decoding sliders: their callbacks are tested here, since a front end or nbmake may swallow what they raise."""

import threading

import numpy as np
import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.notebook import widgets
from labkit.notebook.widgets import (
    DecodingExplorer,
    decoding_explorer,
    decoding_table,
    next_token_chart,
    steps_table,
)


@pytest.fixture
def dialogue():
    said = ["i want a cheap hotel <b>", "what area ?", "the north", "how about [hotel_name] ?"]
    turns = [Turn(BOT if index % 2 else USER, text) for index, text in enumerate(said)]
    return Dialogue("A.json", ("hotel",), turns)


@pytest.fixture
def explorer(tiny_lm, dialogue):
    return DecodingExplorer(tiny_lm, dialogue, config=DecodingConfig(strategy="sample", max_new_tokens=8, seed=3))


def test_chart_names_what_cut_a_token_and_the_mass_that_each_filter_removed(tiny_lm):
    logits = np.full(len(tiny_lm.tokenizer), -20.0, dtype=np.float32)
    logits[10:14] = np.log([0.5, 0.3, 0.15, 0.05])
    chart = next_token_chart(tiny_lm, logits, DecodingConfig(strategy="sample", top_k=3, top_p=0.6), n=4)
    rows = chart.text.split("\n")
    assert [row.split()[-1] for row in rows[:4]] == ["kept", "kept", "top_p", "top_k"]
    assert "50.0% →   62.5%" in rows[0]  # 0.5 / (0.5 + 0.3)
    assert "top_k 3 removes 5.0% of the mass" in chart.text and "2 of" in rows[-1] and "0.95 bits" in rows[-1]
    assert chart.html.count("cut by") == 2


def test_greedy_takes_one_token_and_says_which(tiny_lm):
    logits = np.arange(len(tiny_lm.tokenizer), dtype=np.float32)
    rows = next_token_chart(tiny_lm, logits, DecodingConfig(), n=3).text.split("\n")
    assert rows[0].endswith("taken") and not rows[0].endswith("not taken") and rows[1].endswith("not taken")


def test_sliders_never_touch_the_model_again(explorer, monkeypatch):
    calls = []
    original = widgets.next_token_logits
    monkeypatch.setattr(widgets, "next_token_logits", lambda *args: calls.append(args) or original(*args))
    for top_p in (0.9, 0.5, 0.2):
        explorer.set(top_p=top_p)
        explorer.chart()
    assert len(calls) == 1
    explorer.set(turn=1)
    explorer.chart()
    assert len(calls) == 2


def test_greedy_mode_switches_filters_off_instead_of_failing(explorer):
    explorer.set(temperature=0.5, top_p=0.9)
    explorer.set(strategy="greedy", temperature=0.5, top_p=0.9, repetition_penalty=1.2)
    assert explorer.config == DecodingConfig(max_new_tokens=8, seed=3, repetition_penalty=1.2)


def test_streamed_reply_is_what_generate_gives(explorer, tiny_lm):
    (ids,) = generate(tiny_lm, [explorer.prompts[0].input_ids], explorer.config)
    assert (list(explorer.replies()) or [""])[-1] == tiny_lm.codec.decode(ids)


def test_stop_ends_a_reply_early(explorer, monkeypatch):
    monkeypatch.setattr(widgets, "stream", lambda *_: iter([5] * 1000))
    shown = []

    def put(html):
        shown.append(html)
        if len(shown) == 3:
            explorer.stop()

    explorer.write(put)
    assert len(shown) == 4 and shown[-1].endswith("(stopped)")


def test_a_second_generate_ends_the_first(explorer, monkeypatch):
    started = threading.Event()

    def endless(*_):
        while True:
            started.set()
            yield 5

    monkeypatch.setattr(widgets, "stream", endless)
    first = explorer.start_writing(lambda _: None)
    assert started.wait(5)
    second = explorer.start_writing(lambda _: None)
    assert not first.is_alive()
    explorer.stop()
    second.join(5)
    assert not second.is_alive()


def test_error_while_writing_is_shown_since_a_thread_has_no_cell(explorer, monkeypatch):
    def broken(*_):
        raise RuntimeError("<out of memory>")

    monkeypatch.setattr(widgets, "stream", broken)
    shown = []
    explorer.write(shown.append)
    assert "out of memory" in shown[0] and "<out" not in shown[0]


def every(widget):
    """A widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


@pytest.fixture
def box(explorer):
    """{description: control or button} and the HTML widgets, in order."""
    widgets_ = list(every(explorer.box()))
    assert not any(type(widget).__name__ == "FigureWidget" for widget in widgets_), "it needs anywidget"
    by_name = {widget.description: widget for widget in widgets_ if getattr(widget, "description", "")}
    return by_name, [widget for widget in widgets_ if type(widget).__name__ == "HTML"]


def test_the_widgets_redraw_the_chart_and_generate(explorer, box):
    controls, (prompt, chart, reply, _) = box
    before = chart.value
    controls["top k"].value = 1
    assert chart.value != before and "cut by top_k" in chart.value
    assert explorer.config.top_k == 1 and "<b>" not in prompt.value and "&lt;b&gt;" in prompt.value
    controls["mode"].value = "greedy"
    assert explorer.config.strategy == "greedy" and "not taken" in chart.value
    controls["turn"].value = 1
    assert "the north" in prompt.value
    controls["Generate"].click()
    explorer._writer.join(30)
    assert reply.value.startswith("bot&gt;")


def test_stepping_through_a_reply_shows_each_token_that_was_drawn(explorer, box):
    """The chart of token 3 has to stand on tokens 0 to 2, not on the prompt alone."""
    controls, (_, chart, reply, _) = box
    controls["at least … tokens"].value = 8
    controls["Generate"].click()
    explorer._writer.join(30)
    written = explorer.written["B: sample"]
    assert controls["token of the reply"].max == len(written) - 1 == 7
    shown = reply.value
    for step in (0, 3, 7):
        controls["token of the reply"].value = step
        assert explorer.point() == [*explorer.prompts[0].input_ids, *written[:step]]
        drawn = [line for line in explorer.chart().text.split("\n") if line.endswith("← drawn")]
        assert len(drawn) == 1 and drawn[0].startswith(repr(explorer.lm.tokenizer.decode([written[step]])))
        assert "← drawn" in chart.value and reply.value == shown
    controls["turn"].value = 1
    assert controls["token of the reply"].max == 0 and "drawn" not in chart.value, "another turn, another reply"


def test_a_and_b_are_written_from_one_seed_and_what_differs_is_underlined(explorer, box):
    """Two seeds would show the difference of two draws, not of two settings."""
    controls, (_, _, reply, _) = box
    controls["Keep as A"].click()
    controls["top k"].value, controls["seed"].value = 1, 9
    controls["Generate"].click()
    explorer._writer.join(30)
    first, second = explorer.written
    assert (first, second) == ("A: sample", "B: sample, top_k 1") and first in reply.value and second in reply.value
    prompt = explorer.prompts[0].input_ids
    (expected,) = generate(explorer.lm, [prompt], DecodingConfig("sample", max_new_tokens=8, seed=9))
    assert explorer.written[first][: len(expected)] == expected
    assert "<u>" in reply.value and "seed 9" in reply.value
    assert "A: sample, top_k 1" in explorer.keep().text and explorer.keep().text == "A is forgotten."


def test_used_settings_are_a_plain_configuration_and_python_that_runs(explorer, box):
    """Settings that a notebook cannot get at are lost with the kernel."""
    import labkit

    controls, (*_, code) = box
    controls["temperature"].value = 0.7
    assert explorer.chosen.temperature == 1.0, "a slider hands over nothing"
    controls["Use these settings"].click()
    line = explorer.use().text.split("\n")[0]
    assert explorer.chosen == eval(line, {"labkit": labkit}) == DecodingConfig("sample", 8, 0.7, seed=3)
    assert "temperature=0.7" in code.value and "lm.base.generate" in code.value


def test_an_instruction_and_worked_examples_stand_before_the_history(tiny_lm, dialogue, miniwoz):
    """A text box that changes the screen and not the prompt."""
    explorer = DecodingExplorer(tiny_lm, dialogue, examples=miniwoz["train"][:2])
    bare = explorer.point()
    by_name = {getattr(widget, "description", ""): widget for widget in every(explorer.box())}
    by_name["instruction"].value = "you are a clerk ."
    assert tiny_lm.tokenizer.decode(explorer.point()).startswith("you are a clerk .\nuser> i want a cheap hotel")
    by_name["worked examples"].value = 1
    text = tiny_lm.tokenizer.decode(explorer.point())
    assert miniwoz["train"][0].turns[0].utterance in text and text.endswith(tiny_lm.tokenizer.decode(bare))


def test_examples_that_leave_no_room_are_said_not_swallowed(tiny_lm, dialogue, miniwoz):
    """A front end drops what a callback raises: the old chart would stand there as if it were the new one."""
    explorer = DecodingExplorer(tiny_lm, dialogue, examples=miniwoz["train"][:9])
    box = list(every(explorer.box()))
    next(w for w in box if getattr(w, "description", "") == "worked examples").value = 9
    assert any("reads 512 tokens" in getattr(w, "value", "") for w in box if type(w).__name__ == "HTML")


def test_given_settings_are_kept_where_a_slider_is_narrower(tiny_lm, dialogue):
    """A slider up to 50 made top_k=50 out of 200 when the widgets were drawn."""
    config = DecodingConfig("sample", 300, top_k=200, seed=1234, min_new_tokens=250, temperature=3.0)
    explorer = DecodingExplorer(tiny_lm, dialogue, config=config)
    explorer.box()
    assert explorer.config == config


def test_another_dialogue_can_be_chosen_and_a_late_turn_becomes_its_last(tiny_lm, dialogue, miniwoz):
    """Turn 5 of a dialogue of two turns was an IndexError inside a callback, where nobody sees it."""
    explorer = DecodingExplorer(tiny_lm, [miniwoz["test"][0], dialogue])
    by_name = {getattr(widget, "description", ""): widget for widget in every(explorer.box())}
    by_name["turn"].value = by_name["turn"].max
    by_name["dialogue"].value = 1
    assert explorer.dialogue is dialogue and explorer.turn == by_name["turn"].value == by_name["turn"].max == 1


def test_names_and_numbers_are_for_reading_and_leave_the_reply_as_it_is(tiny_lm, miniwoz):
    explorer = DecodingExplorer(tiny_lm, miniwoz["test"], database=miniwoz.database)
    explorer.written = {"B": tiny_lm.codec.encode(" call [hotel_name] or [unknown_slot]")}
    assert "[hotel_name]" in explorer.shown().text
    explorer.set(lexical=True)
    name = explorer.dialogue.turns[0].state["hotel"]["name"]
    assert explorer.shown().text == f"bot> call {name} or [unknown_slot]"
    assert tiny_lm.codec.decode(explorer.written["B"]) == "call [hotel_name] or [unknown_slot]"


def test_where_there_are_no_widgets_the_chart_is_shown_as_html(explorer, monkeypatch):
    """A code host and nbconvert drop widgets without their state: the HTML beside it is what they show."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    explorer._ipython_display_()
    assert shown[0]["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "<table" in shown[0]["text/html"] and "tokens left" in shown[0]["text/plain"]


def test_steps_table_is_the_static_twin_of_stepping(tiny_lm, dialogue):
    prompt = DecodingExplorer(tiny_lm, dialogue).prompts[0].input_ids
    twin = steps_table(tiny_lm, prompt, DecodingConfig("sample", max_new_tokens=4, min_new_tokens=4, top_k=3))
    assert len(twin.text.split("\n")) == 5 and twin.html.count("<td>3</td>") == 4
    assert "entropy" in twin.html


def test_static_twin_shows_chart_and_reply_of_each_setting(tiny_lm, dialogue):
    configs = [DecodingConfig(max_new_tokens=4), DecodingConfig(strategy="sample", top_p=0.5, max_new_tokens=4)]
    twin = decoding_table(tiny_lm, dialogue, configs, turn=1, n=3)
    assert "greedy\n" in twin.text and "sample, top_p 0.5\n" in twin.text and twin.text.count("bot> ") == 2
    assert twin.html.count("<table") == 2


def test_explorer_takes_the_dialogue_of_a_notebook(tiny_lm, miniwoz):
    assert decoding_explorer(tiny_lm, miniwoz["test"][0], turn=1).chart().text
