"""Figures that are chosen from without a kernel, as a browser draws them: what a script does, no unit test sees.

Pages are files; nothing is asked of a network or of a Jupyter server.
"""

import numpy as np
import pandas
import pytest
from browser import PICTURES

from labkit import structure
from labkit.corpora.types import Dialogue, Turn
from labkit.notebook import model_plots
from labkit.notebook import structure_plots as plots

N = 12  # turns of a dialogue: more than its list shows at once


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.on("pageerror", lambda error: pytest.fail(f"an error in the page: {error}"))
    yield page
    page.close()


def opened(page, folder, html):
    path = folder / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{html}", encoding="utf-8")
    page.goto(path.as_uri())


def drawn(page, folder, figure):
    """A figure in the page; what its traces are is read with `traces`."""
    opened(page, folder, figure.to_html(full_html=False, include_plotlyjs=True, div_id="figure"))
    page.wait_for_selector(".main-svg")


def traces(page, name):
    return page.evaluate(f"document.getElementById('figure').data.map(trace => trace.{name})")


def choose(page, number):
    page.locator(".updatemenu-header").click()
    page.locator(".updatemenu-dropdown-button").nth(number).click()


def slide(page, share):
    box = page.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(box["x"] + 5 + share * (box["width"] - 10), box["y"] + box["height"] / 2)


@pytest.fixture(scope="module")
def linked(page, tmp_path_factory):
    """The map of three dialogues, with its frame."""
    long = "a sentence that fills a line or two of the narrow column beside the map, as real ones do, "
    dialogues = []
    for d in range(3):
        turns = [Turn("bot" if i % 2 else "user", f"{long} {d} {i}") for i in range(N)]
        dialogues.append(Dialogue(f"D{d}", ("hotel",), turns))
    rows = structure.representations(dialogues)
    table = rows.assign(cluster=pandas.Categorical([f"{i % 9} · words" for i in range(len(rows))]))
    places = np.random.default_rng(0).normal(size=(len(rows), 2))
    figure = plots.utterance_map({"a": places, "b": -places}, table)
    opened(page, tmp_path_factory.mktemp("map"), plots.linked_map(figure, dialogues).html)
    frame = page.frames[1]
    frame.wait_for_selector("li.chosen")
    return frame


def test_a_click_on_a_point_shows_its_turn_beside_the_map(page, linked):
    """The dialogue stood 730 px further down: a click seemed to do nothing."""
    linked.locator("#dialogue").select_option("D2")
    linked.locator("#turn").fill(str(N - 1))
    linked.locator("#turn").press("Enter")
    chosen, around = linked.locator("li.chosen"), linked.locator("#shown").bounding_box()
    box = chosen.bounding_box()
    assert around["y"] <= box["y"] and box["y"] + box["height"] <= around["y"] + around["height"], "in sight"
    assert around["x"] > linked.locator("#map").bounding_box()["x"] + 300, "beside the map"
    (ring,) = linked.evaluate("map.layout.shapes.map(shape => [shape.xanchor, shape.yanchor])")
    own = "map.data.filter(t => t.visible === true && t.customdata)"
    place = f"{own}.flatMap(t => t.customdata.map((c, i) => [...c, t.x[i], t.y[i]]))"
    assert ["D2", N - 1, *ring] in linked.evaluate(place)

    dot = linked.locator("g.trace .point").first.bounding_box()
    page.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    linked.wait_for_function("document.getElementById('turn').value !== '11'")
    assert linked.locator("li.chosen").count() == 1
    page.screenshot(path=PICTURES / "linked_map.png")


def test_a_narrow_window_has_the_dialogue_below_the_map(page, linked):
    page.set_viewport_size({"width": 700, "height": 900})
    linked.wait_for_function("!map.layout.showlegend")
    picture, told = (linked.locator(f"#{name}").bounding_box() for name in ("map", "shown"))
    assert told["y"] >= picture["y"] + picture["height"] and picture["height"] > 300
    page.set_viewport_size({"width": 1100, "height": 900})


def test_slider_and_menu_of_the_graph_leave_each_other_alone(page, tmp_path):
    chain = structure.transition_matrix([[0, 1, 2], [0, 1], [0, 2, 2, 1]] * 3, 3)
    drawn(page, tmp_path, plots.transition_graph(chain, {0: "0 · north", 1: "1 · bye", 2: "2 · book"}))
    choose(page, 1)
    opacity, mode = traces(page, "opacity"), traces(page, "mode")
    assert min(opacity) < 0.1 and "lines+markers+text" in mode
    slide(page, 1)
    page.wait_for_function("document.getElementById('figure').data.some(trace => !trace.visible)")
    assert traces(page, "opacity") == opacity and traces(page, "mode") == mode
    page.screenshot(path=PICTURES / "graph.png")


def test_every_layer_and_head_can_be_chosen_without_a_kernel(page, tmp_path):
    weights = [np.stack([np.eye(5) * (10 * layer + head) / 100 for head in range(3)]) for layer in range(4)]
    drawn(page, tmp_path, model_plots.attention(weights, list("abcde")))
    choose(page, 2)
    slide(page, 1)
    page.wait_for_function("document.getElementById('figure').data[3].visible")
    visible, z = traces(page, "visible"), traces(page, "z[0][0]")
    assert visible == [False, False, False, True] and z == [0.02, 0.12, 0.22, 0.32]


def test_names_are_drawn_letter_by_letter(page, tmp_path):
    name = "<b>bold</b> & <a href='x'>link</a>"
    shown = model_plots.heat([[1.0, 0.5]], [name, "b"], ["row"], name)
    drawn(page, tmp_path, shown)
    assert page.locator(".gtitle").text_content() == name
    assert name in page.locator(".xaxislayer-above").text_content() and not page.locator(".main-svg a").count()
