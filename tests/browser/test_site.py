"""The course as a site, opened as files in headless Chromium with the network shut.

Two notebooks with made-up outputs stand for the course: that every notebook runs is tested elsewhere. Screenshots go to
build/browser.
"""

import base64
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
from browser import PICTURES, axe, watched

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.course.accessibility import PLOTLY
from labkit.course.report import WIDGET
from labkit.notebook.maps import linked_map

ROOT = Path(__file__).parents[2]
pytest.importorskip("sphinx_book_theme", reason="no Sphinx: make site")
pytest.importorskip("myst_nb", reason="no myst-nb: make site")
NOTEBOOKS = ("0_setup", "1_zero_shot_evaluation")
PIXEL = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)).decode()  # fmt: skip
ADDED = """A formula, $\\frac{1}{2}$, a picture, ![a pixel](attachment:pixel.png), and \
[the command line](../labkit/course/commands.md#two-settings-the-same-cells)."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from labkit.course.site.build import build_site

    executed = tmp_path_factory.mktemp("executed")
    long = [f"an utterance, number {number}" for number in range(1_000)]
    cloud = go.Scatter(x=list(range(1_000)), y=[0] * 1_000, hovertext=long, mode="markers", customdata=[["A1", 0]])
    large = {"data": [cloud.to_plotly_json()], "layout": {"title": {"text": "a cloud"}}}
    said = [Turn(USER, "hello"), Turn(BOT, "how can i help ?")]
    framed = linked_map(go.Figure(cloud), [Dialogue("A1", (), said)]).html
    figure = {"data": [go.Bar(x=["a"], y=[1]).to_plotly_json()], "layout": {"title": {"text": "a bar"}}}
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4)
        output = nbformat.v4.new_output
        outputs = [
            output("display_data", {PLOTLY: figure}),
            output("display_data", {WIDGET: {"model_id": "x"}, "text/plain": "0 %"}),
            output("display_data", {"text/html": "<p>a result</p>"}),
            output("display_data", {PLOTLY: large}),
            output("display_data", {"text/html": framed}),
            output("stream", name="stdout", text=f"written to {ROOT}/outputs\n"),
        ]
        notebook.cells.insert(2, nbformat.v4.new_code_cell("figure", outputs=outputs))
        notebook.cells.insert(3, nbformat.v4.new_markdown_cell(ADDED, attachments={"pixel.png": {"image/png": PIXEL}}))
        nbformat.write(notebook, executed / f"smoke_solutions_{name}.ipynb")
    out = tmp_path_factory.mktemp("site") / "site"
    return build_site(out, executed).parent


@pytest.fixture
def opened(browser, site):
    """Opens a page of the site; what fails, or asks for another place, fails the test."""
    with watched(browser, own=site.as_uri()) as new_page:

        def open_page(name, **look):
            page = new_page(**look)
            page.goto((site / name).as_uri())
            return page

        yield open_page


def test_a_notebook_shows_figures_formulas_and_pictures_and_folds_solutions(opened):
    page = opened("solutions/0_setup.html")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    fraction = page.locator("math mfrac").first.bounding_box()
    assert fraction["height"] > 15 and fraction["width"] < 15, "numerator above denominator, drawn by the browser"
    assert page.get_by_alt_text("a pixel").evaluate("(image) => image.naturalWidth") == 1
    assert "0 %" not in page.locator("main").inner_text() and str(ROOT) not in page.content()
    solutions = page.locator("details", has_text="Show the solution")
    assert solutions.count() == 3 and not solutions.first.evaluate("(details) => details.open")
    page.locator("details", has_text="Show the set-up").first.locator("summary").click()
    page.get_by_text("REPOSITORY", exact=True).first.wait_for()


def test_pages_lead_to_one_another_and_to_what_is_searched(opened):
    page = opened("index.html")
    page.locator("main").get_by_role("link", name="0 · Setup").click()
    page.locator(".prev-next-footer a.right-next").click()
    assert page.locator("main h1").first.inner_text().startswith("1 · Zero-shot")
    page.locator("main").get_by_role("link", name="the command line").first.click()
    assert page.url.endswith("commands.html#two-settings-the-same-cells")
    page.locator("#two-settings-the-same-cells").wait_for(state="attached")
    page.goto(page.url.split("/labkit/")[0] + "/search.html?q=BLEU")
    page.wait_for_selector("ul.search li a")
    assert "Zero-shot" in page.locator("ul.search").inner_text()


def test_the_public_names_and_the_live_lab_are_there(opened):
    page = opened("api.html")
    assert page.locator("[id='labkit.generate']").count() == 1
    text = page.locator("main").inner_text()
    assert "LabError" in text and "DecodingConfig" in text
    page = opened("live.html")
    assert "class GPTNeoX" in page.locator("main").inner_text()
    page.get_by_role("link", name="Open the decoding lab").click()
    page.wait_for_function("document.querySelector('.dl-share')?.textContent.includes('%')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_is_whole_at_every_width_and_axe_finds_nothing_in_the_front_page(opened, scheme):
    for name in ("index", "solutions/1_zero_shot_evaluation"):
        page = opened(f"{name}.html", color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        for width in (400, 800, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            page.screenshot(path=PICTURES / f"site-{Path(name).name}-{width}-{scheme}.png")
        if name == "index":
            assert axe(page, "main") == []


def test_nothing_is_in_the_folder_twice_or_for_the_theme_s_developers_and_icons_are_drawn(opened, site):
    """The site was 50 MB: 4 of source maps, 2 of MathJax, icons as a script and as a font, plotly again in a frame."""
    assert not [path.name for path in site.rglob("*") if path.suffix == ".map" or path.name == "fontawesome.js"]
    page = opened("index.html")
    assert "fontawesome.js" not in page.content()
    page.wait_for_function(
        "[...document.fonts].some((font) => /Awesome/.test(font.family) && font.status === 'loaded')"
    )
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    print(f"{size / 1e6:.1f} MB with two notebooks that hold nearly nothing")
    assert size < 26e6, "the seven notebooks with their outputs take 3 MB, and the mark is 30 in all"


def test_large_charts_and_frames_are_drawn_from_what_is_compressed(opened, site):
    assert "an utterance, number 7" not in (site / "solutions/0_setup.html").read_text(encoding="utf-8")
    page = opened("solutions/0_setup.html")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 4")
    hovers = page.evaluate("document.querySelectorAll('.js-plotly-plot')[1].data[0].hovertext")
    assert len(hovers) == 1_000 and hovers[7] == "an utterance, number 7"
    frame = page.frame_locator("iframe.lab-paper")
    frame.locator(".main-svg").first.wait_for()
    frame.get_by_text("how can i help ?").wait_for()
    assert page.locator(".js-plotly-plot").nth(1).evaluate("(one) => one.closest('.output') !== null"), "in its place"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_follow_the_theme(opened, scheme):
    """They stayed white in the dark theme: a lamp in the face."""
    page = opened("solutions/0_setup.html", color_scheme=scheme)
    chart = page.locator(".js-plotly-plot").first
    chart.locator(".main-svg").first.wait_for()
    turned = chart.evaluate("(one) => getComputedStyle(one).filter")
    assert turned == ("none" if scheme == "light" else "invert(0.92) hue-rotate(180deg)")
    frame = page.locator("iframe.lab-paper")
    assert frame.evaluate("(one) => getComputedStyle(one).filter") == turned, "a map with its dialogue, too"
    chart.screenshot(path=PICTURES / f"site-chart-{scheme}.png")
    page.emulate_media(media="print")
    assert chart.evaluate("(one) => getComputedStyle(one).filter") == "none", "paper is white"


def test_on_paper_a_page_is_its_text(opened):
    page = opened("solutions/0_setup.html")
    page.emulate_media(media="print")
    assert not page.locator(".bd-sidebar-primary").is_visible()
    assert page.locator("main h1").first.is_visible()
