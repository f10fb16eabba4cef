"""The decoding sliders: their callbacks are tested here, since a front end or nbmake may swallow what they raise."""

import threading

import numpy as np
import pytest

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding import DecodingConfig, generate
from labkit.notebook import widgets
from labkit.notebook.widgets import DecodingExplorer, decoding_explorer, decoding_table, next_token_chart


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


def test_the_widgets_redraw_the_chart_and_generate(explorer):
    import ipywidgets

    box = explorer.box()
    prompt, (controls, chart), (generate_button, _), reply = [
        getattr(child, "children", child) if isinstance(child, ipywidgets.HBox) else child for child in box.children
    ]
    by_name = {control.description: control for control in controls.children}
    before = chart.value
    by_name["top k"].value = 1
    assert chart.value != before and "cut by top_k" in chart.value
    assert explorer.config.top_k == 1 and "<b>" not in prompt.value and "&lt;b&gt;" in prompt.value
    by_name["mode"].value = "greedy"
    assert explorer.config.strategy == "greedy" and "not taken" in chart.value
    by_name["turn"].value = 1
    assert "the north" in prompt.value
    generate_button.click()
    explorer._writer.join(30)
    assert reply.value.startswith("bot&gt;")
    assert not any(type(widget).__name__ == "FigureWidget" for widget in box.children)  # it needs anywidget


def test_static_twin_shows_chart_and_reply_of_each_setting(tiny_lm, dialogue):
    configs = [DecodingConfig(max_new_tokens=4), DecodingConfig(strategy="sample", top_p=0.5, max_new_tokens=4)]
    twin = decoding_table(tiny_lm, dialogue, configs, turn=1, n=3)
    assert "greedy\n" in twin.text and "sample, top_p 0.5\n" in twin.text and twin.text.count("bot> ") == 2
    assert twin.html.count("<table") == 2


def test_explorer_takes_the_dialogue_of_a_notebook(tiny_lm, miniwoz):
    assert decoding_explorer(tiny_lm, miniwoz["test"][0], turn=1).chart().text
