"""What the tests in a browser share: Chromium, a Jupyter server of their own, a notebook with all of its cells run.

A test that imports this module is skipped where there is no Chromium or no playwright, and says which.
"""

import json
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
CODE = "jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells.filter(c => c.cell_type == 'code')"

if CHROMIUM is None:
    pytest.skip("no Chromium on this machine: apt install chromium", allow_module_level=True)
sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[browser]'")


# --- windows ----------------------------------------------------------------------------------------------------------


@contextmanager
def chromium():
    """A browser; what it is shown goes to `PICTURES`."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def watched(browser, own=""):
    """Gives a function that makes new pages, each with the look it is asked for; in the end all are closed.

    What a page logs as an error fails the test. With `own`, the only address that pages may load from, the network is
    shut, and every other address that was asked for fails the test, too.
    """
    pages, errors, asked = [], [], []

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # a page that is left takes back what it still asks for
            errors.append(f"failed: {request.url[:100]} {request.failure}")

    def new_page(**look):
        page = browser.new_page(**{"viewport": {"width": 1440, "height": 1000}, **look})
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        if own:
            page.context.set_offline(True)
            page.on("requestfailed", failed)
            page.on("request", lambda request: asked.append(request.url))
        pages.append(page)
        return page

    yield new_page
    for page in pages:
        page.close()
    assert not errors, errors
    assert not [url[:100] for url in asked if not url.startswith(("data:", "blob:", own))]


def picture(page, name):
    page.screenshot(path=PICTURES / f"{name}.png")


def until(page, condition, what, seconds=60):
    """Wait until `condition()` is true."""
    for _ in range(seconds * 20):
        if value := condition():
            return value
        page.wait_for_timeout(50)
    picture(page, "failed")
    raise AssertionError(f"{what}: not within {seconds} s")


def axe(page, selector):
    """What axe-core finds in a part of the page: [(rule, [HTML of the first places])]."""
    package = pytest.importorskip("axe_core_python", reason="no axe-core: pip install '.[browser]'")
    page.evaluate(Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    run = "selector => axe.run(document.querySelector(selector)).then(result => result.violations)"
    found = page.evaluate(run, selector)
    return [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]


def move(page, name, value):
    """Set a dial as a hand would: the value, and the event that the browser fires."""
    dial = page.get_by_label(name, exact=True)
    dial.evaluate("(dial, value) => { dial.value = value; dial.dispatchEvent(new Event('input')); }", str(value))


def own_milliseconds(cdp):
    """Time that the page's thread has spent in scripts, styles and layout."""
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    return 1000 * sum(metrics[name] for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration"))


# --- JupyterLab -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(home, **setting):
    """The address of a JupyterLab in a folder, as long as it is needed; `setting` is added to its environment."""
    quiet = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True, exist_ok=True)
    no_news = {"fetchNews": "false", "checkForUpdates": False}
    (quiet / "notification.jupyterlab-settings").write_text(json.dumps(no_news))
    command = [sys.executable, "-m", "jupyterlab", "--IdentityProvider.token=", f"--ServerApp.root_dir={home}"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    with _server(command, home, setting) as address:
        yield address


@contextmanager
def serving_classic(home, python):
    """The address of a classic notebook server, run by another Python."""
    command = [str(python), "-m", "notebook", "--NotebookApp.token=", f"--NotebookApp.notebook_dir={home}"]
    with _server(command, home, {"JUPYTER_PATH": ""}) as address:  # its kernel is that Python's
        yield address


@contextmanager
def _server(command, home, setting):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    paths |= {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    given = {"LAB_PROFILE": "smoke", "LAB_MODEL": "mini-pythia-500k", "LAB_CORPUS": "miniwoz"}
    given |= {"LAB_HOME": str(home / "results"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **setting}
    command = [*command, "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=home, env={**os.environ, **paths, **given}, stdout=log, stderr=log)
    try:
        yield _answering(f"http://127.0.0.1:{port}", server, home / "server.log")
    finally:
        server.terminate()
        server.wait(20)


def _answering(address, server, log, seconds=120):
    for _ in range(seconds * 2):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return address
        except OSError:
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
    raise TimeoutError(log.read_text()[-2000:])


def lab_address(jupyter, notebook, workspace=""):
    """Where a notebook of the fixture `jupyter` is opened, alone: a workspace opens what it had open before."""
    address, _ = jupyter
    return f"{address}/lab/workspaces/{workspace or notebook.stem}/tree/{notebook.name}"


@contextmanager
def opened(address, browser):
    """A window on a notebook with all of its cells run."""
    page = window(browser, address)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(f"{CODE}.every(cell => cell.execution_count)", timeout=RUN_SECONDS * 1000)
    yield page
    page.close()


def window(browser, address):
    """A window on a notebook as it was saved."""
    page = browser.new_page(viewport={"width": 1500, "height": 1700})
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'")
    return page
