"""Figures and widgets of notebook 4: what the eye sees must be there without colour, kernel, script or trust."""

import json
import re
from html import unescape

import numpy as np
import pytest

from labkit import structure
from labkit.corpora.types import Dialogue, Turn
from labkit.errors import LabError
from labkit.notebook import maps
from labkit.notebook import structure_plots as plots

EVIL = "</script><b>&'\" hello"


@pytest.fixture(scope="module")
def dialogues():
    turns = [
        Turn("user", EVIL, acts={"Hotel-Inform": [("area", "north")]}),
        Turn("bot", "bye", acts={"general-bye": []}),
    ]
    return [Dialogue(f"D{i}.json", ("hotel",), turns) for i in range(10)]


@pytest.fixture(scope="module")
def table(dialogues):
    rows = structure.representations(dialogues)
    return rows.assign(cluster=[f"c{i % 12}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def figure(table):
    xy = np.random.default_rng(0).normal(size=(len(table), 2))
    return plots.utterance_map({"15 / 0.1": xy, "50 / 0.1": -xy}, table)


def test_no_two_groups_of_a_map_share_colour_and_symbol(figure):
    looks = [(t.marker.color, t.marker.symbol) for t in figure.data if t.legendgroup.startswith("cluster:")]
    assert len(looks) == len(set(looks)) == 12


def test_a_large_map_draws_a_part_and_says_so(table):
    xy = np.zeros((len(table), 2))
    shown = plots.utterance_map({"": xy}, table, most=7)
    assert sum(len(t.x) for t in shown.data if t.legendgroup.startswith("act:")) == 7
    assert "7 of 20" in shown.layout.title.text


def test_the_linked_map_needs_no_kernel_and_no_utterance_ends_its_script(figure, dialogues):
    html = plots.linked_map(figure, dialogues).html
    assert html.count("<iframe") == 1 and "<script" not in html  # everything is within the quoted page
    page = unescape(re.search(r'srcdoc="([^"]*)"', html)[1])
    data = re.search(r'id="data">(.*?)</script>', page, re.S)[1]
    assert json.loads(data)["D3.json"] == [["user", EVIL], ["bot", "bye"]]
    assert 'id="dialogue"' in page and 'id="turn"' in page  # the way without a mouse
    assert not re.search(r'<script[^>]*src=|<link[^>]*href="http', page)  # nor the network


def test_a_slider_lays_each_setting_out_once_from_the_neighbours_that_are_there(table, monkeypatch):
    calls = []

    def counted(vectors, near, dist, seed, knn):
        calls.append((near, dist))
        return np.random.default_rng(len(calls)).normal(size=(len(vectors), 2))

    monkeypatch.setattr(maps, "umap_map", counted)
    vectors = np.random.default_rng(0).normal(size=(len(table), 4))
    near, dist, column, shown = plots.map_sliders(vectors, table, structure.neighbours(vectors, 12)).children
    assert near.options == (2, 5, 10) and calls == [(10, 0.1)]
    first = shown.value
    dist.value = 0.5
    near.value = 2
    assert calls == [(10, 0.1), (10, 0.5), (2, 0.5)] and shown.value != first
    near.value, dist.value = 10, 0.1
    assert shown.value == first and (10, 0.1) in calls[:1] and calls.count((10, 0.1)) == 1
    column.value = "speaker"
    assert "by speaker" in shown.value and calls.count((10, 0.1)) == 1
    assert "<b>" not in shown.value and shown.value.count("<title>") == len(table)


def test_the_sliders_leave_their_map_in_the_notebook(table, monkeypatch):
    """A notebook that was opened again without its kernel had an error box where the map had been."""
    monkeypatch.setattr(maps, "umap_map", lambda vectors, *_: vectors[:, :2])
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: outputs.append(data))
    vectors = np.random.default_rng(0).normal(size=(len(table), 4))
    plots.map_sliders(vectors, table, structure.neighbours(vectors, 12))._ipython_display_()
    widget, twin = outputs
    assert "application/vnd.jupyter.widget-view+json" in widget and widget["text/html"] == ""
    assert "<svg" in twin["text/html"] and "data-twin-of" in twin["text/html"]


def test_cards_say_words_shares_and_utterances_and_are_escaped(table):
    labels = np.arange(len(table)) % 2
    words = {0: [("north", 0.4), ("<i>", 0.1)], 1: [("bye", 0.3)]}
    shown = plots.cluster_cards(words, table, labels, {0: [EVIL], 1: ["bye"]})
    assert "act: inform 100%" in shown.text and "slots: area 100%" in shown.text and "slots: none" in shown.text
    assert "<b>&" not in shown.html and "&lt;i&gt;" in shown.html
    sizes = dict(re.findall(r"font-size:([\d.]+)em[^>]*>(\S+?)</span>", shown.html))
    assert sizes["2.00"] and sizes["1.40"] == "&lt;i&gt;"  # 0.8 + 1.2 * sqrt(0.1 / 0.4)


def test_the_threshold_slider_of_the_graph_shows_exactly_the_arrows_above_it():
    matrix = structure.transition_matrix([[0, 1, 2], [0, 1], [0, 2, 2, 1]] * 3, 3)
    shown = plots.transition_graph(matrix, {0: "a", 1: "b", 2: "c"}, threshold=0.12)
    steps = {step.label: step.args[0]["visible"] for step in shown.layout.sliders[0].steps}
    leaving = matrix - np.diag(matrix.diagonal())
    for limit in (0.05, 0.3, 0.5):
        assert sum(steps[f"{limit:.0%}"]) == (leaving >= limit).sum() + 1  # and the states
    assert [bool(trace.visible) for trace in shown.data] == steps["12%"]


CHAIN = structure.transition_matrix([[0, 1, 2], [0, 1], [0, 2, 2, 1]] * 3, 3)
MARKUP = {0: "0 · <b>bold</b>", 1: "1 · <a href='x'>link</a>", 2: "2 · $x$"}


def test_every_state_has_its_name_on_white_above_the_arrows():
    """Arrows struck the names through: "4 · south located number" was not to be read."""
    shown = plots.transition_graph(CHAIN, {0: "0 · south located number", 1: "b", 2: "c"})
    notes = shown.layout.annotations
    assert [note.text.split("<br>")[0] for note in notes] == ["0 · south", "b", "c", "BEGIN", "END"]
    assert all("255,255,255" in note.bgcolor for note in notes)
    assert "↻ 33%" in notes[2].text, "c follows c once in three times"


def test_a_state_of_the_menu_shows_its_own_arrows_with_their_shares():
    """The slider changes what is visible, the menu what is faint: each leaves the other alone."""
    shown = plots.transition_graph(CHAIN, {0: "a", 1: "b", 2: "c"}, utterances={0: ["good <i>day</i>"]})
    *arrows, states = shown.data
    everything, first, *_ = (button.args[0] for button in shown.layout.updatemenus[0].buttons)
    assert [button.label for button in shown.layout.updatemenus[0].buttons] == ["all states", *"abc", "BEGIN", "END"]
    assert "visible" not in first and set(shown.layout.sliders[0].steps[0].args[0]) == {"visible"}
    assert everything["opacity"][:-1] == [arrow.opacity for arrow in arrows]
    for arrow, opacity, mode in zip(arrows, first["opacity"], first["mode"], strict=False):
        of_a = "a" in arrow.hovertext[12].split(":")[0].split(" → ")
        assert (opacity == 1) == of_a and ("text" in mode) == of_a
    assert "→ b 67%" in states.hovertext[0] and "← BEGIN 100%" in states.hovertext[0]
    assert "good &lt;i&gt;day" in states.hovertext[0]


def test_the_heat_map_of_transitions_has_shares_of_each_row():
    shown = plots.transition_heat_map(CHAIN, {0: "a", 1: "b", 2: "c"})
    assert shown.layout.yaxis.ticktext == ("a", "b", "c", "BEGIN")
    assert shown.layout.xaxis.ticktext == ("a", "b", "c", "END")
    assert (shown.layout.yaxis.title.text, shown.layout.xaxis.title.text) == ("now", "next")
    cells = np.array(shown.data[0].z)
    assert np.allclose(cells.sum(axis=1), 1) and shown.data[0].text[0][1] == f"{CHAIN[0, 1]:.0%}"


def test_choose_k_names_both_axes_and_marks_the_rules_k():
    """Both axes said "value"; the rule of exercise 4.1 takes the largest k within one sd of the best."""
    rows = [{"k": k, "silhouette": 0.1, "stability": s, "sd": 0.05} for k, s in ((8, 0.82), (12, 0.78), (16, 0.6))]
    shown = plots.choose_k_plot(rows)
    assert shown.layout.yaxis.title.text == "silhouette" and shown.layout.yaxis2.title.text == "stability (ARI)"
    assert not shown.layout.yaxis.matches and shown.layout.xaxis2.tickvals == (8, 12, 16)
    assert shown.data[1].y == (0.82, 0.78, 0.6) and shown.data[1].error_y.array == (0.05,) * 3
    assert {line.x0 for line in shown.layout.shapes} == {12} and "k = 12" in shown.layout.annotations[0].text
    assert {line.x0 for line in plots.choose_k_plot(rows, chosen=16).layout.shapes} == {16}
    assert not plots.choose_k_plot([]).layout.shapes


def test_word_bars_draw_the_best_words_of_each_cluster():
    words = {c: [(f"word{c}", 0.5), ("<b>x", 0.4), ("last", 0.1)] for c in range(5)}
    shown = plots.word_bars(words, n=2)
    assert [trace.y for trace in shown.data] == [(f"word{c}", "&lt;b&gt;x") for c in range(5)]
    assert shown.data[0].x == (0.5, 0.4) and shown.layout.yaxis.autorange == "reversed"
    assert [note.text for note in shown.layout.annotations] == [f"cluster {c}" for c in range(5)]
    assert not plots.word_bars({}).data


def test_names_of_clusters_are_letters_in_every_figure(table):
    """`<b>` in a corpus' words became bold letters in tick labels, hover texts and menus."""
    xy = np.random.default_rng(0).normal(size=(len(table), 2))
    named = table.assign(cluster=[MARKUP[i % 3] for i in range(len(table))])
    words = {0: [("<b>bold</b>", 1.0)]}
    drawn = [
        plots.transition_graph(CHAIN, MARKUP, utterances={0: ["<b>bold</b>"]}),
        plots.transition_heat_map(CHAIN, MARKUP),
        plots.utterance_map({"<b>bold</b>": xy}, named),
        plots.word_bars(words),
    ]
    for figure in drawn:
        text = figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")
        assert "<b>bold" not in text and "<a href" not in text and "$x$" not in text, figure.layout.title.text


def test_clusters_are_named_in_the_middle_of_their_points_on_every_map(table):
    """Seven colours for sixteen clusters: a name at the place tells what a colour cannot."""
    xy = np.random.default_rng(0).normal(size=(len(table), 2))
    shown = plots.utterance_map({"a": xy, "b": -xy}, table)
    names = shown.data[-1]
    rows = (table["cluster"] == names.text[0].replace("<b>", "").replace("</b>", "")).to_numpy()
    assert names.mode == "text" and names.x[0] == pytest.approx(np.median(xy[rows, 0]), abs=1e-3)
    assert shown.layout.sliders[0].steps[1].args[0]["x"][-1][0] == pytest.approx(-names.x[0], abs=1e-3)
    by_act = shown.layout.updatemenus[0].buttons[3].args[0]["visible"]
    assert names.visible and not by_act[-1], "another column has no regions"


@pytest.mark.parametrize("wrong", [{"maps": {}}, {"maps": {"a": np.zeros((3, 2))}}, {"by": ("cluster", "nothing")}])
def test_a_map_that_is_not_of_the_table_is_one_line(table, wrong):
    given = {"maps": {"a": np.zeros((len(table), 2))}, "table": table} | wrong
    with pytest.raises(LabError):
        plots.utterance_map(**given)
