"""The decoding lab where no kernel is: the same front end with the answers that were recorded, in the cell's output.

Without scripts (a code host) a table stands there. In a notebook with its kernel the twin stays hidden behind the
widget; in one that is opened again it takes the place of the front end's "model not found".
"""

import base64
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import stream
from labkit.notebook.decoding_lab.files import MODULE, STYLE
from labkit.shown import Shown

if TYPE_CHECKING:
    from ipywidgets import Widget

    from labkit.models import LanguageModel
    from labkit.notebook.decoding_lab.explorer import Content, DecodingExplorer

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LONGEST = 40  # tokens of each recorded reply, where the vocabulary is small
SIZE = 1_000_000  # characters for the logits of a recorded reply; those of one position take V
EXACT = 64  # tokens whose logits are recorded as they are
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SEEDS = 10  # whose random numbers are recorded: 0, 1, …
DRAWS = 256  # random numbers that the front end asks for


def start_of(explorer: "DecodingExplorer", *, recorded: bool = False) -> "Content":
    """What the front end begins with."""
    config = asdict(explorer.config)
    for unused in ("num_beams", "penalty_alpha", "batch_size"):
        del config[unused]
    if config["strategy"] not in ("sample", "greedy"):
        config["strategy"] = "greedy"  # the lab has no beams
    return {
        "id": uuid.uuid4().hex[:12],
        "recorded": recorded,
        "dialogues": len(explorer.dialogues),
        "shots": len(explorer.examples),
        "place": asdict(explorer.place),
        "config": config,
        "stop": explorer.lm.codec.stop_ids,
    }


# --- recorded answers -------------------------------------------------------------------------------------------------


def question_key(question: "Content") -> str:
    """A question as text, spelt as `questionKey` of lab.mjs spells it."""
    return json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def recorded_answers(explorer: "DecodingExplorer") -> dict[str, "Content"]:
    """{question: answer} at the explorer's place: along greedy's reply and the reply of its first settings."""
    place = asdict(explorer.place)
    answers = {question_key({"ask": "place", **place}): explorer.described()}
    for seed in {*range(SEEDS), explorer.config.seed}:
        question = {"ask": "draws", **place, "seed": seed, "n": DRAWS}
        numbers = explorer.draws(explorer.place, seed, LONGEST)
        answers[question_key(question)] = {"numbers": numbers}
    for reply in _replies(explorer):
        for length, logits in enumerate(_logits_along(explorer, reply)):
            question = {"ask": "logits", **place, "reply": reply[:length]}
            answers[question_key(question)] = _shortened(explorer, logits, reply)
        question = {"ask": "score", **place, "reply": reply}
        answers[question_key(question)] = explorer.answer(question)[0]
    return answers


def opening_answers(explorer: "DecodingExplorer") -> dict[str, "Content"]:
    """The answers to the first questions, for a kernel that is still busy; the logits come as bytes of their own."""
    place = asdict(explorer.place)
    seed = explorer.config.seed
    logits = {"ask": "logits", **place, "reply": []}
    texts = explorer.answer(logits)[0]
    draws = explorer.draws(explorer.place, seed, DRAWS)
    return {
        question_key({"ask": "place", **place}): explorer.described(),
        question_key({"ask": "draws", **place, "seed": seed, "n": DRAWS}): {"numbers": draws},
        question_key(logits): {**texts, "isFirst": True},
    }


def _replies(explorer: "DecodingExplorer") -> Iterator[list[int]]:
    """Greedy's reply, and that of the explorer's settings."""
    prompt = explorer.prompt_at(explorer.place)
    vocabulary = len(explorer.logits(explorer.place))
    longest = max(1, min(explorer.config.max_new_tokens, LONGEST, SIZE // vocabulary))
    configs = [DecodingConfig(max_new_tokens=longest)]
    if explorer.config.strategy == "sample":
        least = min(explorer.config.min_new_tokens, longest)
        configs.append(replace(explorer.config, max_new_tokens=longest, min_new_tokens=least))
    for config in configs:
        tokens = stream(explorer.lm, prompt, config)
        yield list(islice(tokens, longest))


def _logits_along(explorer: "DecodingExplorer", reply: Sequence[int]) -> np.ndarray:
    """Logits [R + 1, V] before each token of a reply and after its last one, by one pass of the model."""
    import torch

    lm: LanguageModel = explorer.lm
    prompt = explorer.prompt_at(explorer.place)
    ids = torch.tensor([[*prompt, *reply]], device=lm.base.device)  # [1, T]
    with torch.inference_mode():
        logits = lm.base(ids, logits_to_keep=len(reply) + 1).logits  # [1, R + 1, V]
    return logits[0].float().cpu().numpy()


def _shortened(explorer: "DecodingExplorer", logits: np.ndarray, reply: Sequence[int]) -> "Content":
    """Logits [V] in V characters and a little more: the likeliest as they are, the tail in 64 levels.

    A level keeps the mass of its tokens. Each token has its own: on which token a random number lands
    depends on what lies before it in the vocabulary.
    """
    order = np.argsort(-logits)  # [V]
    likeliest = order[:EXACT].tolist()
    listed = [*likeliest, *sorted(set(reply) - set(likeliest))]
    exact = np.isin(order, listed)  # [V]
    level_of = np.zeros(len(logits), dtype=int)  # [V]
    levels = []
    groups = np.array_split(order[~exact], len(LEVELS))  # of like logits
    for number, ids in enumerate(groups):
        level_of[ids] = number
        level = _mean_of_weights(logits[ids]) if len(ids) else 0.0
        levels.append(_rounded(level))
    return {
        "ids": listed,
        "logits": [_rounded(logits[token]) for token in listed],
        "levels": levels,
        "level": "".join(LEVELS[number] for number in level_of),
        "texts": explorer.texts(listed),
    }


def _mean_of_weights(logits: np.ndarray) -> float:
    """The logit that n tokens would have to have to weigh, all together, what `logits` [n] do."""
    exact = logits.astype(np.float64)
    highest = exact.max()
    return highest + np.log(np.exp(exact - highest).mean())


def _rounded(value: float) -> float:
    return float(f"{value:.8g}")


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


def twin_html(explorer: "DecodingExplorer", start: "Content") -> str:
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


def page(explorer: "DecodingExplorer", title: str = "The decoding lab") -> str:
    """A page of its own with the recorded lab: one file, no server, no network."""
    twin = twin_html(explorer, start_of(explorer, recorded=True))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    dark = "@media(prefers-color-scheme:dark){body{background:#141414;color:#f0f0f0}}"
    look = f"<style>:root{{color-scheme:light dark}}body{{margin:0}}{dark}</style>"
    body = f"<main><h1 style='font:600 1.4em system-ui;margin:.4em'>{escape(title)}</h1>{twin}</main>"
    return f'<!doctype html><html lang="en"><head>{head}{look}</head><body>{body}</body></html>'


# --- display ----------------------------------------------------------------------------------------------------------


def display_live(explorer: "DecodingExplorer") -> None:
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
    """A widget, and for where no kernel is (a code host, the HTML report), the same as HTML."""
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    kinds = {WIDGET_VIEW: view, "text/plain": twin.text}
    if "google.colab" not in sys.modules:  # which of the two Colab would prefer is not known
        kinds["text/html"] = twin.html
    display(kinds, raw=True)
