"""What the site's generator is given, and the README's first screen; the site itself is opened in tests/browser."""

import base64
import json
import re
import zlib
from copy import deepcopy
from hashlib import sha256
from html import escape
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest

from labkit.corpora.types import USER, Dialogue, Turn
from labkit.course.accessibility import PLOTLY
from labkit.course.report import WIDGET, notebook_page
from labkit.course.site import build
from labkit.course.site.notebooks import launch_line, notebook_for_site
from labkit.course.site.outputs import smaller
from labkit.course.site.pages import with_links
from labkit.course.site.picture import PICTURE, RECORD, shown_files
from labkit.errors import LabError
from labkit.notebook.maps import linked_map

ROOT = Path(__file__).parents[3]
CODE = nbformat.v4.new_code_cell
TEXT = nbformat.v4.new_markdown_cell


def test_the_picture_of_the_readme_is_younger_than_the_module_it_shows():
    """A picture of last year's lab promises what is not there: `make picture` takes it anew."""
    assert json.loads(RECORD.read_text(encoding="utf-8")) == shown_files(), "run `make picture`"
    assert PICTURE.stat().st_size < 200_000
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    address = PICTURE.relative_to(ROOT).as_posix()
    (alt,) = re.findall(rf"!\[([^]]+)\]\({re.escape(address)}\)", readme)
    assert len(alt) > 40


def test_the_first_screen_of_the_readme_has_all_that_a_newcomer_looks_for():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = readme.split("## ")[0]
    for wanted in ("git clone", "make lab", "make site", "decoding-lab.png", "labkit finetune", "<!-- badges -->"):
        assert wanted in first, wanted
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"](notebooks/{notebook.name})" in first
    assert "On Windows" in readme
    folded = readme.split("<details>")[1].split("</details>")[0]
    assert "<!-- questions:begin -->" in folded and "<!-- questions:end -->" in folded


def test_the_result_of_the_readme_is_the_one_in_the_results():
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("## ")[0]
    results = (ROOT / "labkit/course/results.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^labkit finetune .*$", first, re.MULTILINE)
    assert command in results
    of_miniwoz = results.split("on MiniWOZ (a stand-in)")[1]
    untuned, tuned = re.findall(r"^\| .* beam search of 2.*$", of_miniwoz, re.MULTILINE)
    seconds = re.search(r"(\d+) s to train", tuned)[1]
    before, after = (re.findall(r"(\d+)\**  *\[", row)[-1] for row in (untuned, tuned))
    assert f"**{seconds} seconds of fine-tuning**" in first
    assert f"from {before} to {after} of 100 dialogues" in first


def source(folder, repository=""):
    path = folder / "0_a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[TEXT("# A"), CODE(f'REPOSITORY = "{repository}"')]), path)
    return path


def test_a_notebook_needs_no_kernel_and_no_network_on_the_site(tmp_path):
    figure = {"data": [go.Bar(x=["a"], y=[1]).to_plotly_json()], "layout": {}}
    output = nbformat.v4.new_output
    outputs = [
        output("display_data", {PLOTLY: figure}),
        output("display_data", {WIDGET: {}, "text/plain": "0 %"}),
        output("display_data", {WIDGET: {}, "text/html": "<b>twin</b>", "text/plain": ""}),
        output("stream", text="printed"),
    ]
    block = "### BEGIN SOLUTION\nx = 1\n### END SOLUTION"
    cells = [
        TEXT("# A"),
        CODE('REPOSITORY = ""'),
        CODE("plot", outputs=[*outputs, deepcopy(outputs[0])]),
        CODE(block),
        TEXT("the answer", metadata={"tags": ["solution"]}),
        TEXT("![a](attachment:a.png)", attachments={"a.png": {"image/png": "AAAA"}}),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"application/x": {}}})
    shown = notebook_for_site(notebook, source(tmp_path), "plotly.js")
    title, set_up, plot, solution, answer, picture = shown.cells
    assert set_up.metadata["tags"] == solution.metadata["tags"] == ["hide-input"] and not plot.metadata
    first, twin, printed, second = plot.outputs
    assert first.data["text/html"].startswith('<script src="plotly.js"></script>')
    assert "Plotly.newPlot" in second.data["text/html"] and "plotly.js" not in second.data["text/html"]
    assert twin.data["text/html"] == "<b>twin</b>" and WIDGET not in twin.data and printed.text == "printed"
    assert answer.source.startswith("<details>") and "base64,AAAA" in picture.source
    assert "widgets" not in shown.metadata and title.source == "# A"


@pytest.mark.slow
def test_a_figure_in_a_frame_of_its_own_takes_plotly_from_the_site(tmp_path):
    """Notebook 4 is a page of 7 MB otherwise, 5 of them a script that stands beside it anyway."""
    dialogue = Dialogue("A1", (), [Turn(USER, "hello")])
    figure = go.Figure(go.Scatter(x=[0], y=[0], customdata=[["A1", 0]], name="</script>"))
    map_and_dialogue = linked_map(figure, [dialogue]).html
    alone = figure.to_html(full_html=False, include_plotlyjs=True)
    outputs = [nbformat.v4.new_output("display_data", {"text/html": html}) for html in (map_and_dialogue, alone)]
    notebook = nbformat.v4.new_notebook(cells=[TEXT("# A"), CODE("map", outputs=outputs)])
    shown = notebook_for_site(deepcopy(notebook), source(tmp_path), "static/plotly.js").cells[1].outputs
    framed, whole = (output.data["text/html"] for output in shown)
    assert len(framed) < 20_000 and len(whole) < 20_000
    assert escape('<script src="static/plotly.js"></script>') in framed and "hello" in framed
    assert '<script src="static/plotly.js"></script>' in whole and whole.count("Plotly.newPlot") == 1
    assert len(notebook_page(notebook, "map")) < 1_000_000, "the report has the script beside its pages, too"


def test_large_outputs_stand_in_a_page_compressed_and_none_of_their_letters_is_lost():
    """The site was 30.01 MB, 1.3 of it hovers of notebook 4's maps: each utterance once for every colouring."""
    script = "\n".join(f'Plotly.newPlot("an é & <b>utterance</b> {number % 50}")' for number in range(2_000))
    page = f'<p class="a">it\'s 1 < 2 &amp; 3</p><script>{script.replace("</", "<&#47;")}</script>'
    html = f'<script>small()</script><script>{script}</script><iframe title="a" srcdoc="{escape(page)}"></iframe>'
    shown = smaller(html)
    assert len(shown) < len(html) / 8 and shown.startswith("<script>small()</script>")
    kinds = dict(re.findall(r'unpacked(\w+)\(document.currentScript, "([^"]+)"\)', shown))
    texts = {kind: zlib.decompress(base64.b64decode(packed)).decode() for kind, packed in kinds.items()}
    assert texts == {"Script": script, "Frame": page} and '<iframe title="a"></iframe>' in shown
    random = "".join(sha256(bytes([number])).hexdigest() for number in range(256) for _ in range(3))
    framed = smaller(f'<iframe srcdoc="{escape(page + random + random[::-1])}"></iframe>')
    assert len(framed) > 20_000 and framed.count("unpacked") == framed.count("unpackedFrame") == 1, "compressed twice"
    data = f'<script type="application/json">{script}</script>'
    assert smaller(data) == data, "what a script reads is no script"


def test_a_notebook_says_where_it_opens_once_its_repository_is_known(tmp_path):
    assert launch_line(source(tmp_path)) == ""
    line = launch_line(source(tmp_path, "git+https://github.com/me/lab@main"))
    assert [name for name in ("Colab", "Kaggle", "Binder") if f"[{name}](https://" in line] == [
        "Colab",
        "Kaggle",
        "Binder",
    ]
    assert "![" not in line, "a badge is a picture from outside"


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("[a](b.md#c)", "[a](b.md#c)"),
        ("[a](../../README.md)", "[a](../../index.md)"),
        ("[a](../../notebooks/0_a.ipynb)", "[a](../../solutions/0_a.ipynb)"),
        ("[a](https://x.org)", "[a](https://x.org)"),
        ("[a](#here)", "[a](#here)"),
        ("[a](../models/families.py)", "a"),
        ("```\n[a](gone.md)\n```", "```\n[a](gone.md)\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_are_text(link, found):
    staged = {"labkit/course/b.md", "solutions/0_a.ipynb", "index.md"}
    assert with_links(link, "labkit/course/a.md", staged, "") == found
    known = with_links("[a](../models/families.py)", "labkit/course/a.md", staged, "https://x.org/blob/main/")
    assert known == "[a](https://x.org/blob/main/labkit/models/families.py)"


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ('<script src="https://cdn.org/a.js"></script>', True),
        ("<img alt='x' src='//cdn.org/a.png'>", True),
        ('<link rel="stylesheet" href="https://fonts.org/a.css">', True),
        ("<style>@import 'https://fonts.org/a.css'</style>", True),
        ("<style>p { background: url(https://x.org/a.png) }</style>", True),
        ('<a href="https://x.org">a link is followed by a person</a>', False),
        ('<script src="_static/a.js"></script><img src="data:image/png;base64,AA">', False),
    ],
)
def test_what_a_page_would_load_from_outside_is_found(tmp_path, text, asks):
    (tmp_path / "a.html").write_text(text, encoding="utf-8")
    assert bool(build.outside_addresses(tmp_path)) == asks


def test_what_the_site_needs_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PACKAGES", ("no_such_package",))
    with pytest.raises(LabError, match=r"the site needs more packages: no_such_package missing → run `make site`"):
        build.build_site(tmp_path / "site")
    monkeypatch.setattr(build, "PACKAGES", ())
    with pytest.raises(LabError, match=r"no notebooks in .*empty"):
        build.build_site(tmp_path / "site", tmp_path / "empty")
    assert not (tmp_path / "site").exists()
