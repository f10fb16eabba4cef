"""Figures and widgets of notebook 4: what the eye sees must be there without colour, kernel, script or trust."""

import json
import re
from html import unescape

import numpy as np
import pytest

from labkit import structure
from labkit.corpora.types import Dialogue, Turn
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

    monkeypatch.setattr(plots, "umap_map", counted)
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
