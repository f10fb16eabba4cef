"""The decoding sliders of notebook 1, and the same as a table for where there is no kernel.

Core widgets only, and a chart of plain HTML, which should look the same in JupyterLab, Colab, Kaggle and VS Code. An
exception inside a callback is swallowed by some front ends, so callbacks only call methods that tests call too.
Checked: JupyterLab 4.6.6 with ipywidgets 8.1.9 in Chromium, by tests/browser; ipywidgets 7.7.1, which Colab has, by the
unit tests without a browser. Not checked: Colab, Kaggle and VS Code themselves.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.corpora.types import Dialogue
from labkit.decoding.config import FILTERS, DecodingConfig, transformers_call
from labkit.decoding.filters import Stage, entropy, filter_stages, remaining
from labkit.decoding.generate import next_token_logits, reply_steps, stream
from labkit.errors import LabError
from labkit.notebook.view import highlighted, lexical_view, side_by_side
from labkit.prompts.build import prompts
from labkit.prompts.format import exchanges
from labkit.prompts.sequences import Prompt
from labkit.shown import Shown

if TYPE_CHECKING:
    from labkit.models import LanguageModel

# field of DecodingConfig -> (smallest, largest, step); temperature 0 is not among them: greedy is a mode
SLIDERS = {"temperature": (0.1, 2.0, 0.1), "top_k": (0, 50, 1), "top_p": (0.05, 1.0, 0.05), "min_p": (0.0, 0.5, 0.01)}
SLIDERS |= {"typical_p": (0.05, 1.0, 0.05), "repetition_penalty": (1.0, 2.0, 0.05)}
SLIDERS |= {"seed": (0, 99, 1), "min_new_tokens": (0, 200, 1)}
LONGEST = 256  # room for a reply, in tokens
_HEAD = ("token", "before", "after", "striped: before, plain: after", "so it is")
_CELL = "padding:.1em .5em;text-align:left"
_STRIPES = "repeating-linear-gradient(45deg,#D55E00 0 3px,transparent 3px 7px)"


def explain(stages: Sequence[Stage], token: int) -> str:
    """What became of a token, in words: "kept", or the filter that cut it."""
    return next((f"cut by {stage.name}" for stage in stages if not stage.kept[token]), "kept")


def next_token_chart(
    lm: "LanguageModel",
    logits: np.ndarray,
    config: DecodingConfig,
    context: Sequence[int] = (),
    n: int = 12,
    drawn: int | None = None,
) -> Shown:
    """The `n` likeliest next tokens before and after the filters of `config`, and the mass that each filter removed.

    Args:
        logits: [V], from `next_token_logits`; the model itself is not called.
        context: the ids before the token, which the repetition penalty looks at.
        drawn: the token that a reply went on with here; it has a row of its own where it is not among the likeliest.
    """
    raw, stages = remaining(logits, ()), filter_stages(logits, config, context)  # [V]
    after, rows = remaining(logits, stages), []
    tokens = np.argsort(-raw)[:n].tolist()
    for token in tokens if drawn is None or drawn in tokens else [*tokens, drawn]:
        taken = "taken" if token == after.argmax() else "not taken"
        fate = explain(stages, token) if config.strategy == "sample" else taken
        fate += " ← drawn" * (token == drawn)
        rows.append((repr(lm.tokenizer.decode([int(token)])), raw[token], after[token], fate))
    lines = [f"{stage.name} {stage.value:g} {_effect(stage)}" for stage in stages]
    lines.append(f"{(after > 0).sum()} of {len(raw)} tokens left, entropy {entropy(after):.2f} bits")
    text = [f"{token:<16} {before:7.1%} → {now:7.1%}  {fate}" for token, before, now, fate in rows]
    return Shown(_table(rows) + f"<p>{'<br>'.join(map(escape, lines))}</p>", "\n".join([*text, *lines]))


def _effect(stage: Stage) -> str:
    return "changes the shape" if stage.kept.all() else f"removes {stage.removed:.1%} of the mass"


def _table(rows: Sequence[tuple[str, float, float, str]]) -> str:
    head = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in _HEAD)
    widest = max(max(before, after) for _, before, after, _ in rows)
    body = "".join(
        f'<tr><th scope="row" style="{_CELL};font-family:monospace">{escape(token)}</th>'
        f'<td style="{_CELL}">{before:.1%}</td><td style="{_CELL}">{after:.1%}</td>'
        f'<td style="{_CELL};width:16em">{_bar(before / widest, _STRIPES)}{_bar(after / widest, "#0072B2")}</td>'
        f'<td style="{_CELL}">{fate}</td></tr>'
        for token, before, after, fate in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bar(share: float, paint: str) -> str:
    return f'<div aria-hidden="true" style="height:.5em;width:{share:.1%};background:{paint}"></div>'


def decoding_table(
    lm: "LanguageModel", dialogue: Dialogue, configs: Sequence[DecodingConfig], *, turn: int = 0, n: int = 8
) -> Shown:
    """The static twin of the sliders: the chart and one reply for each of several settings."""
    explorer = DecodingExplorer(lm, dialogue, turn=turn)
    html, text = [], []
    for config in configs:
        name, (*_, reply) = settings_text(config), ("", *explorer.replies(config))
        chart = explorer.chart(config, n)
        html.append(f"<div><p><b>{escape(name)}</b></p>{chart.html}<p>bot&gt; {highlighted(reply)}</p></div>")
        text.append(f"{name}\n{chart.text}\nbot> {reply}\n")
    return Shown(f'<div style="display:flex;flex-wrap:wrap;gap:2em">{"".join(html)}</div>', "\n".join(text))


def steps_table(lm: "LanguageModel", prompt: list[int], config: DecodingConfig) -> Shown:
    """A reply token by token, the static twin of the token slider: drawn from how many, how likely, at what entropy."""
    import pandas as pd

    table = pd.DataFrame(map(vars, reply_steps(lm, prompt, config))).round({"probability": 3, "entropy": 2})
    table["token"] = [repr(lm.tokenizer.decode([token])) for token in table["token"]]
    table = table.rename(columns={"entropy": "entropy (bits)"})
    return Shown(f"<p><b>{escape(settings_text(config))}</b></p>{table.to_html(escape=True)}", table.to_string())


def settings_text(config: DecodingConfig) -> str:
    """The strategy and the filters that are on."""
    on = [f"{name} {getattr(config, name):g}" for name, off in FILTERS.items() if getattr(config, name) != off]
    return ", ".join([config.strategy, *on])


def settings_code(config: DecodingConfig) -> str:
    """The settings as Python: labkit's configuration with what differs from the defaults, and transformers' call."""
    changed = [f"{f.name}={value!r}" for f in fields(config) if (value := getattr(config, f.name)) != f.default]
    return f"labkit.DecodingConfig({', '.join(changed)})\n\n# the same by transformers\n{transformers_call(config)}"


@dataclass(frozen=True)
class Place:
    """A point where the bot answers: which dialogue and user turn, and what stands before the history."""

    dialogue: int = 0
    turn: int = 0
    instruction: str = ""
    shots: int = 0  # worked examples


class DecodingExplorer:
    """A point in a dialogue, settings, and what they lead to. `box` holds the widgets, `chosen` the settings to use.

    Every callback of a widget is a method or plain function here, so that it can be tested, and called from a cell.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        dialogues: Dialogue | Sequence[Dialogue],
        *,
        turn: int = 0,
        config: DecodingConfig | None = None,
        examples: Sequence[Dialogue] = (),
        database: Mapping[str, list[dict[str, Any]]] | None = None,
    ):
        self.lm, self.examples, self.database = lm, examples, database or {}
        self.dialogues = [dialogues] if isinstance(dialogues, Dialogue) else list(dialogues)
        self.config = self.chosen = config or DecodingConfig(strategy="sample", max_new_tokens=40)
        self.kept: DecodingConfig | None = None  # the settings to compare with
        self.step, self.lexical = 0, False
        self.written: dict[str, list[int]] = {}  # {name of the settings: ids of the reply so far}
        self._logits: dict[tuple[int, ...], np.ndarray] = {}
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None
        self._go(Place(turn=turn))

    def _go(self, place: Place) -> None:
        """To another place; what was written stays behind, and what is being written ends."""
        if self._writer and self._writer.is_alive():
            self.stop()
        self.place, self.dialogue, self.written, self.step = place, self.dialogues[place.dialogue], {}, 0
        room = min(1024, self.lm.context_length) - LONGEST
        shown = {"instruction": place.instruction, "shots": self.examples[: place.shots]}
        self.prompts: list[Prompt] = prompts(self.dialogue, self.lm.codec, max_length=room, **shown)
        self.turn = min(place.turn, len(self.prompts) - 1)

    def point(self) -> list[int]:
        """The ids [T] that the model has read: the prompt, and as much of the reply as was stepped through."""
        return [*self.prompts[self.turn].input_ids, *self._reply()[: self.step]]

    def _reply(self) -> list[int]:
        return next(reversed(self.written.values()), [])

    def last_step(self) -> int:
        """The last token of the reply that can be stepped to, from 0."""
        return max(len(self._reply()) - 1, 0)

    def logits(self) -> np.ndarray:
        """Logits [V] at the point; the model runs once a point."""
        point = tuple(self.point())
        if point not in self._logits:
            self._logits[point] = next_token_logits(self.lm, point)
        return self._logits[point]

    def chart(self, config: DecodingConfig | None = None, n: int = 12) -> Shown:
        """The next-token chart of the point; the model is not touched once its logits are known."""
        drawn = next(iter(self._reply()[self.step :]), None)
        return next_token_chart(self.lm, self.logits(), config or self.config, self.point(), n, drawn)

    def set(self, **settings: Any) -> None:
        """Change the place or fields of the configuration; in greedy mode the sampling filters are off."""
        self.step, self.lexical = settings.pop("step", self.step), settings.pop("lexical", self.lexical)
        there = {f.name: settings.pop(f.name) for f in fields(Place) if f.name in settings}
        if (place := replace(self.place, **there)) != self.place:
            self._go(place)
        if settings.get("strategy", self.config.strategy) != "sample":
            settings |= dict(list(FILTERS.items())[1:])
        longest = max(self.config.max_new_tokens, settings.get("min_new_tokens", 0))
        self.config = replace(self.config, **{"max_new_tokens": longest, **settings})

    def keep(self) -> Shown:
        """Keep the settings as A: each reply is then written with A and with B, the sliders'. Twice the same: no A."""
        self.kept = None if self.kept == self.config else self.config
        text = f"A: {settings_text(self.kept)}. Change B and generate." if self.kept else "A is forgotten."
        return Shown(f"<p>{escape(text)}</p>", text)

    def use(self) -> Shown:
        """Hand the settings to the notebook as `chosen`, and say them as Python."""
        self.chosen = self.config
        return Shown(f"<pre>{escape(settings_code(self.config))}</pre>", settings_code(self.config))

    def replies(self, config: DecodingConfig | None = None, name: str = "") -> Iterator[str]:
        """The reply as far as it is written, after each token, until it ends or `stop` is called."""
        ids = self.written[name] = []
        for token in stream(self.lm, self.prompts[self.turn].input_ids, config or self.config):
            ids.append(token)
            yield self.lm.codec.decode(ids)
            if self._stop.is_set():
                return

    def shown(self, note: str = "") -> Shown:
        """What is written: one reply, or A and B side by side with B's differences underlined."""
        said = {name: self.lm.codec.decode(ids) for name, ids in self.written.items()}
        if self.lexical:
            said = {name: lexical_view(text, self.dialogue, self.turn, self.database) for name, text in said.items()}
        if len(said) > 1:
            return side_by_side(said, f"seed {self.config.seed}{note}", differences=not note.endswith("…"))
        text = "".join(f"bot> {reply}{note}" for reply in said.values())
        return Shown(highlighted(text), text)

    def stop(self) -> None:
        """End the reply that is being written after its next token."""
        self._stop.set()

    def write(self, put: Callable[[str], None]) -> None:
        """Stream the replies as HTML to `put`; an error is shown there too, since nobody sees a thread's error."""
        self.written, self.step = {}, 0
        configs = {f"B: {settings_text(self.config)}": self.config}
        if self.kept:
            configs = {f"A: {settings_text(self.kept)}": replace(self.kept, seed=self.config.seed), **configs}
        try:
            for name, config in configs.items():
                for _ in self.replies(config, name):
                    put(self.shown(" …").html)
                if self._stop.is_set():
                    break
            put(self.shown(" (stopped)" * self._stop.is_set()).html)
        except Exception as error:
            put(f"⚠ {escape(str(error) if isinstance(error, LabError) else repr(error))}")
        self._stop.clear()

    def start_writing(self, put: Callable[[str], None]) -> threading.Thread:
        """`write` in a thread, so that the Stop button is heard; a reply that is still being written ends first."""
        self.stop()
        if self._writer:
            self._writer.join()
        self._stop.clear()  # here and not in the thread, which may begin after the next click on Stop
        self._writer = threading.Thread(target=self.write, args=(put,), daemon=True)
        self._writer.start()
        return self._writer

    def question(self) -> Shown:
        """What the bot has to answer, and what was put before the history."""
        before = [self.place.instruction, f"({self.place.shots} worked examples)" * (self.place.shots > 0)]
        text = " ".join([*filter(None, before), exchanges(self.dialogue)[self.turn][0].text])
        return Shown(f"<p>{highlighted(text)}</p>", text)

    def _ipython_display_(self) -> None:
        twin = self.chart()
        display_with_twin(self.box(), Shown(self.question().html + twin.html, twin.text))

    def box(self) -> Any:
        """The widgets: sliders and chart, Generate and Stop, comparing and using settings, stepping through a reply."""
        import ipywidgets as w

        chart, reply, prompt, code = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        controls = _controls(self)

        def redraw(_: Any = None) -> None:
            self.set(**{name: control.value for name, control in controls.items()})
            controls["turn"].max, controls["step"].max = len(self.prompts) - 1, self.last_step()
            prompt.value, reply.value = self.question().html, self.shown().html
            try:
                chart.value = self.chart().html
            except LabError as error:  # a front end would swallow it
                chart.value = f"⚠ {escape(str(error))}"

        def put(html: str) -> None:
            reply.value, controls["step"].max = html, self.last_step()
            if not self.last_step():  # the first token is known: mark it
                chart.value = self.chart().html

        def generate() -> None:
            controls["step"].value = 0
            self.start_writing(put)

        actions = {
            "Generate": generate,
            "Stop": self.stop,
            "Keep as A": lambda: setattr(code, "value", self.keep().html),
            "Use these settings": lambda: setattr(code, "value", self.use().html),
        }
        buttons = [w.Button(description=name) for name in actions]
        for button in buttons:
            button.on_click(lambda clicked: actions[clicked.description]())
        for control in controls.values():
            control.observe(redraw, names="value")
        redraw()
        below = ("step", "lexical")
        sliders = w.VBox([control for name, control in controls.items() if name not in below])
        last = w.HBox([controls[name] for name in below])
        return w.VBox([prompt, w.HBox([sliders, chart]), w.HBox(buttons), reply, last, code])


def display_with_twin(box: Any, twin: Shown) -> None:
    """The widgets, and for where no kernel is (a code host, the HTML report), the same as HTML."""
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    kinds = {"application/vnd.jupyter.widget-view+json": view, "text/plain": twin.text}
    if "google.colab" not in sys.modules:  # which of the two Colab would prefer is not known
        kinds["text/html"] = twin.html
    display(kinds, raw=True)


def _controls(explorer: DecodingExplorer) -> dict[str, Any]:
    import ipywidgets as w

    style, config, last = {"description_width": "9em"}, explorer.config, len(explorer.dialogues) - 1

    def slider(name: str, value: float, low: float, high: float, step: float) -> Any:
        make = w.IntSlider if isinstance(step, int) else w.FloatSlider
        said = {"min_new_tokens": "at least … tokens"}.get(name, name.replace("_", " "))
        # a value from outside the range would be moved into it, silently
        return make(value=value, min=min(low, value), max=max(high, value), step=step, description=said, style=style)

    modes = w.Dropdown(options=["sample", "greedy"], value=config.strategy, description="mode", style=style)
    controls = {"dialogue": slider("dialogue", 0, 0, last, 1), "turn": slider("turn", explorer.turn, 0, 99, 1)}
    controls |= {"strategy": modes}
    controls |= {name: slider(name, getattr(config, name), *scale) for name, scale in SLIDERS.items()}
    controls["instruction"] = w.Textarea(description="instruction", continuous_update=False, style=style)
    controls["shots"] = slider("worked examples", 0, 0, len(explorer.examples), 1)
    controls["step"] = slider("token of the reply", 0, 0, 0, 1)
    controls["lexical"] = w.Checkbox(description="with names and numbers", disabled=not explorer.database)
    return controls


decoding_explorer = DecodingExplorer  # sliders for the next token of any turn of a dialogue, as a notebook calls them
