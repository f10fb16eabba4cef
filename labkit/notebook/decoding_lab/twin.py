"""The decoding lab where no kernel is: the same front end with the answers that were recorded, in the cell's output.

Without scripts (a code host) a table stands there. In a notebook with its kernel the twin stays hidden behind the
widget; in one that is opened again it takes the place of the front end's "model not found".
"""

import base64
import json
import sys
import uuid
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING

from labkit.notebook.decoding_lab.files import MODULE, STYLE
from labkit.notebook.decoding_lab.recording import opening_answers, recorded_answers
from labkit.notebook.stand_in import stand_in
from labkit.shown import Shown

if TYPE_CHECKING:
    from ipywidgets import Widget

    from labkit.decoding.config import DecodingConfig
    from labkit.notebook.decoding_lab.answers import Answers, Content

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def dials(config: "DecodingConfig", grammar: str = "none") -> dict[str, object]:
    """The settings that the lab has a dial for, and the name of the grammar."""
    settings = {**asdict(config), "grammar": grammar}
    for unused in ("num_beams", "penalty_alpha", "batch_size"):
        del settings[unused]
    if settings["strategy"] not in ("sample", "greedy"):
        settings["strategy"] = "greedy"  # the lab has no beams
    return settings


def start_of(explorer: "Answers", *, recorded: bool = False) -> "Content":
    """What the front end begins with."""
    return {
        "id": uuid.uuid4().hex[:12],
        "recorded": recorded,
        "dialogues": len(explorer.dialogues),
        "shots": len(explorer.examples),
        "place": explorer.place.asked(),
        "config": dials(explorer.config, explorer.grammar),
        "formats": explorer.formats,
        "stop": explorer.lm.codec.stop_ids,
    }


# --- HTML -------------------------------------------------------------------------------------------------------------

# Where widgets may come up, the twin waits, hidden; on a plain page there is nothing to wait for.
BOOT = """
(() => {
  const element = document.querySelector('[data-twin-of="ID"]');
  const data = JSON.parse(document.querySelector('script[data-recorded-for="ID"]').textContent);
  const host = document.getElementById("main") || window.Jupyter || window.google?.colab || window.acquireVsCodeApi;
  element.hidden = Boolean(host);
  const style = document.createElement("style");
  style.textContent = data.style;
  document.head.append(style);
  import(data.module)
    .then((lab) => lab.standIn(element, data.start, data.answers, host ? 2500 : 0))
    .catch((error) => { console.error(error); element.hidden = false; });
})();
"""


def twin_html(explorer: "Answers", start: "Content") -> str:
    """The lab with recorded answers as HTML; `start["id"]` names the widget that it stands in for."""
    module = base64.b64encode(MODULE.read_bytes()).decode()
    data = {
        "module": f"data:text/javascript;base64,{module}",
        "style": STYLE.read_text(encoding="utf-8"),
        "start": {**start, "recorded": True, "opening": {}},
        "answers": recorded_answers(explorer),
    }
    text = json.dumps(data, ensure_ascii=False)
    text = text.replace("</", "<\\/").replace("<!--", "<\\u0021--")  # neither ends the script nor opens a comment
    name = start["id"]
    table = f'<div data-twin-of="{name}">{explorer.static().html}</div>'
    recorded = f'<script type="application/json" data-recorded-for="{name}">{text}</script>'
    boot = BOOT.replace("ID", name)
    return f"{table}{recorded}<script>{boot}</script>"


def page(explorer: "Answers", title: str = "The decoding lab") -> str:
    """A page of its own with the recorded lab: one file, no server, no network."""
    twin = twin_html(explorer, start_of(explorer, recorded=True))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    dark = "@media(prefers-color-scheme:dark){body{background:#141414;color:#f0f0f0}}"
    look = f"<style>:root{{color-scheme:light dark}}body{{margin:0}}{dark}</style>"
    body = f"<main><h1 style='font:600 1.4em system-ui;margin:.4em'>{escape(title)}</h1>{twin}</main>"
    return f'<!doctype html><html lang="en"><head>{head}{look}</head><body>{body}</body></html>'


# --- display ----------------------------------------------------------------------------------------------------------


def display_live(explorer: "Answers") -> None:
    """The widget, and behind it the twin. The first output has no HTML of its own: an untrusted notebook shows one."""
    from IPython.display import display

    from labkit.notebook.decoding_lab.live import DecodingLab

    start = start_of(explorer)
    start["opening"] = opening_answers(explorer)
    twin = Shown(twin_html(explorer, start), "")
    widget = DecodingLab(explorer, start)
    display_with_twin(widget, Shown("", explorer.static().text))
    display({"text/html": twin.html, "text/plain": twin.text}, raw=True)


def display_with_twin(box: "Widget", twin: Shown) -> None:
    """A widget, and for where it cannot come up (no kernel, a code host, the HTML report), the same as HTML.

    A front end draws the first kind of an output that it knows, and an error box where that fails: so the HTML is an
    output of its own, hidden behind the widget.
    """
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    kinds = {WIDGET_VIEW: view, "text/plain": twin.text}
    if "google.colab" in sys.modules:  # what it does with two outputs, or with two kinds of one, is not known
        display(kinds, raw=True)
        return
    kinds["text/html"] = ""  # an untrusted notebook shows HTML in place of a widget
    display(kinds, raw=True)
    if twin.html:
        name = uuid.uuid4().hex[:12]
        display({"text/html": stand_in(twin.html, name), "text/plain": ""}, raw=True)
