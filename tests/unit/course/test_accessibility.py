"""Nobody is shut out: palettes under colour blindness, headings, alt texts, names of widgets; checks find barriers."""

import json
from itertools import combinations
from pathlib import Path

import nbformat
import numpy as np
import pytest

from labkit.course.accessibility import (
    figure_findings,
    html_findings,
    markdown_findings,
    notebook_findings,
    widget_findings,
)
from labkit.course.links import anchors, broken_links
from labkit.notebook import model_plots, plots

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "labkit").rglob("*.md"))]
PAGES = [page for page in PAGES if page.exists() and "weights" not in page.parts]  # those are model cards with a header
NOTEBOOKS = [*sorted((ROOT / "solutions").glob("*.ipynb")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]

# Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", at 1.0
SEES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all colours": np.eye(3),
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def lab(colour, matrix):
    """CIELAB of an sRGB colour "#rrggbb" as somebody sees it (matrix in linear RGB)."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(np.array(matrix) @ linear, 0, 1) / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(palette, sight):
    """The smallest distance between two colours of a palette: CIE76, where about 2.3 is just noticeable."""
    seen = [lab(colour, SEES[sight]) for colour in palette]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def test_the_distance_is_the_one_of_the_textbooks():
    """Red is (53.2, 80.1, 67.2) in CIELAB; and a red-green pair must collapse, else the simulation does nothing."""
    assert np.allclose(lab("#ff0000", np.eye(3)), [53.24, 80.09, 67.20], atol=0.05)
    assert nearest(("#a45a00", "#5a7a00"), "deuteranopia") < nearest(("#a45a00", "#5a7a00"), "all colours") / 3


@pytest.mark.parametrize("sight", SEES)
def test_the_palette_is_told_apart_by_colour_blind_readers(sight):
    assert nearest(plots.PALETTE, sight) > 15  # a lighter grey, #999999, was 7 from the pink under deuteranopia


def as_json(figure):
    return json.loads(figure.to_json())


def figures():
    history = [{"step": s, "loss": 3.0 - s, "eval_loss": 2.0, "eval_bleu": 1.0, "eval_inform": 2.0} for s in (1, 2)]
    row = {"bleu": 9.0, "inform": 50.0, "success": 20.0, "richness": {"entropy": 5.0}, "parameters": 8, "model": "m"}
    yield plots.training(history)
    yield plots.weights(np.arange(9.0), [-1.0, 1.0])
    yield plots.memory({"32 bit": {"base": 34.0, "gradients": 1.0}, "4 bit": {"base": 10.0}}, limits={"T4": 16000})
    yield plots.scores({"a": row, "b": row})
    yield model_plots.against([row, row | {"parameters": 9, "adapter": "a"}], title="size")
    yield model_plots.by_domain([row | {"per_domain": {"success": {"taxi": 10.0, "hotel": 30.0}}}])
    yield plots.quality_diversity([row | {"label": str(i)} for i in range(7)])


@pytest.mark.parametrize("figure", list(figures()), ids=lambda figure: figure.layout.title.text)
def test_no_figure_tells_by_colour_alone(figure):
    assert list(figure_findings(as_json(figure))) == []


def test_colour_alone_and_a_missing_title_are_found():
    import plotly.express as px

    figure = px.line(x=[1, 2, 1, 2], y=[1, 2, 3, 4], color=["a", "a", "b", "b"])
    assert len(list(figure_findings(as_json(figure)))) == 2
    told = px.line(
        x=[1, 2, 1, 2], y=[1, 2, 3, 4], color=["a", "a", "b", "b"], line_dash=["a", "a", "b", "b"], title="t"
    )
    assert list(figure_findings(as_json(told))) == []


def test_every_widget_has_a_name_and_works_by_keyboard(tiny_lm, miniwoz):
    from ipywidgets.embed import dependency_state

    from labkit.notebook.widgets import DecodingExplorer

    state = dependency_state(DecodingExplorer(tiny_lm, miniwoz["dev"][:2]).box(), drop_defaults=False)
    kinds = {model["model_name"] for model in state.values()}
    assert {"FloatSliderModel", "DropdownModel", "ButtonModel"} <= kinds
    assert list(widget_findings(state.values())) == []


def test_a_nameless_slider_and_a_widget_of_elsewhere_are_found():
    slider = {"model_module": "@jupyter-widgets/controls", "model_name": "IntSliderModel", "state": {"description": ""}}
    other = {"model_module": "anywidget", "model_name": "AnyModel", "state": {"_anywidget_id": "elsewhere.Widget"}}
    assert len(list(widget_findings([slider, other]))) == 2


def test_the_decoding_lab_is_no_widget_of_elsewhere(tiny_lm, miniwoz):
    """The report of the course would call the lab a barrier, which the browser tests say it is not."""
    from ipywidgets.embed import dependency_state

    from labkit.notebook.decoding_lab.live import DecodingLab
    from labkit.notebook.decoding_lab.twin import start_of
    from labkit.notebook.widgets import DecodingExplorer

    explorer = DecodingExplorer(tiny_lm, miniwoz["dev"][:2])
    state = dependency_state(DecodingLab(explorer, start_of(explorer)), drop_defaults=False)
    assert "AnyModel" in {model["model_name"] for model in state.values()}
    assert list(widget_findings(state.values())) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_in_order_and_their_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert list(markdown_findings(text)) == [] and broken_links(page, text) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_notebooks_are_in_order_and_their_links_lead_somewhere(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert notebook_findings(notebook) == [] and broken_links(path, text) == []


def test_barriers_in_text_are_found(tmp_path):
    assert list(markdown_findings("## late\n\n#### deeper ![](x.png) [here](y) <img src='z'>"))[1:] == [
        "heading level 4 follows 2",
        "link text tells nothing: [here](y)",
        "no alt text: ![](x.png)",
        "no alt text: <img src='z'>",
    ]
    assert list(markdown_findings("# one\n```\n# no heading\n![](x)\n```")) == []
    assert list(html_findings('<svg viewBox="0 0 1 1">')) and not list(html_findings('<svg aria-label="a loss curve">'))
    assert broken_links(tmp_path / "page.md", "[a](gone.md) [b](#nowhere) [c](https://example.org)") == [
        "gone.md",
        "#nowhere",
    ]


def test_barriers_in_outputs_are_found():
    cell = nbformat.v4.new_code_cell("show")
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": "", "text/html": "<img src='a'>"})]
    text = nbformat.v4.new_markdown_cell("# title")
    found = notebook_findings(nbformat.v4.new_notebook(cells=[text, cell]))
    assert found == ["cell 2: no alt text: <img src='a'>", "cell 2: a picture, which has no alt text"]


def test_anchors_are_those_of_github():
    assert anchors("# A\n## GPU out of memory\n### `x`: what, why?") == {"a", "gpu-out-of-memory", "x-what-why"}
