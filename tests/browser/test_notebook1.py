"""Notebook 1 as a student uses it: JupyterLab in headless Chromium, run all cells, move a slider, generate, stop.

An exception inside a widget's callback is swallowed by the front end and by nbmake: only a browser shows that a slider
does nothing. Screenshots go to build/browser, to be looked at.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
RUN_SECONDS = 600  # for all cells, on a machine that does other work too

if CHROMIUM is None:
    pytest.skip("no Chromium on this machine: apt install chromium", allow_module_level=True)
sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[browser]'")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of notebook 1: it saves what it runs, and the source has no outputs."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "notebooks" / "1_zero_shot_evaluation.ipynb", home / "notebook1.ipynb")
    with serving(home) as address:
        yield address


@contextmanager
def serving(home):
    """The address of a JupyterLab in a folder, as long as it is needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    paths |= {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    quiet = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    setting = {"LAB_PROFILE": "smoke", "LAB_MODEL": "mini-pythia-8m", "LAB_CORPUS": "miniwoz"}
    setting |= {"LAB_HOME": str(home / "results"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={home}"]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=home, env={**os.environ, **paths, **setting}, stdout=log, stderr=log)
    try:
        yield _answering(f"http://127.0.0.1:{port}", server, home / "server.log")
    finally:
        server.terminate()
        server.wait(20)


def _answering(address, server, log, seconds=120):
    for _ in range(seconds):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return address
        except OSError:
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(1)
    raise TimeoutError(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def page(lab):
    """The notebook, open in a window, with all of its cells run."""
    with opened(f"{lab}/lab/tree/notebook1.ipynb") as page:
        yield page
        page.screenshot(path=PICTURES / "end.png")


@contextmanager
def opened(address):
    """A window on a notebook with all of its cells run."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1700})
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(f"{CODE}.every(cell => cell.execution_count)", timeout=RUN_SECONDS * 1000)
        yield page
        browser.close()


CODE = "jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells.filter(c => c.cell_type == 'code')"


def picture(page, name):
    page.screenshot(path=PICTURES / f"{name}.png")


@pytest.fixture(scope="module")
def widget(page):
    """The widgets of the cell `explorer`, on the screen: cells outside it are not drawn."""
    show = """() => {
        const notebook = jupyterapp.shell.currentWidget.content;
        const at = notebook.widgets.findIndex(cell => cell.model.id == 'explorer');
        notebook.activeCellIndex = at;
        return notebook.scrollToItem(at, 'start');
    }"""
    page.evaluate(show)
    box = page.locator(".jp-OutputArea-output .widget-vbox").first
    box.wait_for()
    box.scroll_into_view_if_needed()
    return box


def slider(widget, name):
    """The handle of a slider, which listens to arrow keys."""
    return widget.locator(".widget-hslider", has_text=name).locator(".noUi-handle")


def html(widget, number):
    """What the explorer's HTML widgets hold: 0 the question, 1 the chart, 2 the reply, 3 the settings as Python."""
    return widget.locator(".widget-html-content").nth(number).inner_text()


def until(page, condition, what, seconds=60):
    """Wait until `condition()` is true."""
    for _ in range(seconds * 20):
        if value := condition():
            return value
        page.wait_for_timeout(50)
    picture(page, "failed")
    raise AssertionError(f"{what}: not within {seconds} s")


def test_all_cells_run_without_an_error(page):
    """JupyterLab goes on drawing whatever failed; an error is in the outputs only."""
    picture(page, "1-all-cells-run")
    cells = page.evaluate(CODE)
    errors = [(cell["id"], out["evalue"]) for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert not errors
    assert any("READY" in str(out) for out in cells[0]["outputs"])


def test_a_slider_redraws_the_chart(page, widget):
    """A callback that raises leaves the old chart standing."""
    picture(page, "2-before-the-slider")
    before = html(widget, 1)
    assert "tokens left" in before and "cut by top_k" not in before
    handle = slider(widget, "top k")
    handle.focus()
    for _ in range(3):
        handle.press("ArrowRight")
    after = until(page, lambda: html(widget, 1) != before and "top_k 3" in html(widget, 1) and html(widget, 1), "chart")
    assert "cut by top_k" in after and "3 of" in after
    picture(page, "3-after-the-slider")


def test_generate_streams_text_and_stop_ends_it(page, widget):
    """A reply that is written in the kernel's main thread comes all at once, and Stop is heard when it is over."""
    handle = slider(widget, "at least")
    handle.focus()
    handle.press("End")
    until(page, lambda: "200" in widget.locator(".widget-hslider", has_text="at least").inner_text(), "200 tokens")
    writing = lambda: html(widget, 2).endswith("…") and html(widget, 2)  # noqa: E731
    widget.get_by_role("button", name="Generate").click()
    assert until(page, writing, "text").startswith("bot>")
    picture(page, "4-text-arrives")  # takes as long as a short reply, so it is the next one that is stopped
    until(page, lambda: not writing(), "the end of the reply")
    widget.get_by_role("button", name="Generate").click()
    first = until(page, writing, "text again")
    widget.get_by_role("button", name="Stop").click()
    stopped = until(page, lambda: html(widget, 2).endswith("(stopped)") and html(widget, 2), "a stop")
    assert len(stopped) > len(first) - 2
    page.wait_for_timeout(500)
    assert html(widget, 2) == stopped, "it goes on writing"
    picture(page, "5-stopped")


def test_a_reply_can_be_stepped_through(page, widget):
    """The slider's range comes from the thread that wrote the reply: a front end may never hear of it."""
    before = html(widget, 1)
    handle = slider(widget, "token of the reply")
    handle.focus()
    handle.press("ArrowRight")
    until(page, lambda: html(widget, 1) != before and "drawn" in html(widget, 1), "the second token")
    picture(page, "6-step")


def test_two_settings_stand_side_by_side_and_can_be_used(page, widget):
    """Two columns that a narrow notebook puts outside the window are seen by nobody."""
    for name in ("Keep as A", "Use these settings"):
        widget.get_by_role("button", name=name).click()
    handle = slider(widget, "top k")
    handle.focus()
    handle.press("Home")
    handle.press("ArrowRight")
    short = slider(widget, "at least")
    short.focus()
    short.press("Home")
    widget.get_by_role("button", name="Generate").click()
    until(page, lambda: "B: sample, top_k 1" in html(widget, 2) and not html(widget, 2).count("…"), "A and B")
    assert "A: sample, top_k 3" in html(widget, 2)
    assert "labkit.DecodingConfig(strategy='sample'" in html(widget, 3) and "lm.base.generate" in html(widget, 3)
    picture(page, "7-side-by-side")
