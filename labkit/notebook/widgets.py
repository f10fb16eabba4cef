"""The decoding sliders of notebook 1, and the same as a table for where there is no kernel.

Core widgets only, and a chart of plain HTML: both look the same in JupyterLab, Colab, Kaggle and VS Code. An exception
inside a callback is swallowed by some front ends, so callbacks only call methods that tests call too.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.corpora.types import Dialogue
from labkit.decoding import FILTERS, DecodingConfig, Stage, filter_stages, next_token_logits, stream
from labkit.errors import LabError
from labkit.notebook.view import Shown, highlighted
from labkit.prompts import Prompt, exchanges, prompts

if TYPE_CHECKING:
    from labkit.models import LanguageModel

# field of DecodingConfig -> (smallest, largest, step); temperature 0 is not among them: greedy is a mode
SLIDERS = {"temperature": (0.1, 2.0, 0.1), "top_k": (0, 50, 1), "top_p": (0.05, 1.0, 0.05), "min_p": (0.0, 0.5, 0.01)}
SLIDERS |= {"typical_p": (0.05, 1.0, 0.05), "repetition_penalty": (1.0, 2.0, 0.05)}
_HEAD = ("token", "before", "after", "striped: before, plain: after", "so it is")
_CELL = "padding:.1em .5em;text-align:left"
_STRIPES = "repeating-linear-gradient(45deg,#D55E00 0 3px,transparent 3px 7px)"


def explain(stages: Sequence[Stage], token: int) -> str:
    """What became of a token, in words: "kept", or the filter that cut it."""
    return next((f"cut by {stage.name}" for stage in stages if not stage.kept[token]), "kept")


def next_token_chart(
    lm: "LanguageModel", logits: np.ndarray, config: DecodingConfig, context: Sequence[int] = (), n: int = 12
) -> Shown:
    """The `n` likeliest next tokens before and after the filters of `config`, and the mass that each filter removed.

    Args:
        logits: [V], from `next_token_logits`; the model itself is not called.
        context: the prompt's ids, which the repetition penalty looks at.
    """
    raw = np.exp(logits - logits.max())
    raw /= raw.sum()  # [V]
    stages = filter_stages(logits, config, context)
    after = stages[-1].probabilities if stages else raw
    rows = []
    for token in np.argsort(-raw)[:n]:
        taken = "taken" if token == after.argmax() else "not taken"
        fate = explain(stages, token) if config.strategy == "sample" else taken
        rows.append((repr(lm.tokenizer.decode([int(token)])), raw[token], after[token], fate))
    left = after[after > 0]
    lines = [f"{stage.name} {stage.value:g} {_effect(stage)}" for stage in stages]
    lines.append(f"{len(left)} of {len(raw)} tokens left, entropy {-(left * np.log2(left)).sum():.2f} bits")
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
        name, chart, (*_, reply) = settings_text(config), explorer.chart(config, n), ("", *explorer.replies(config))
        html.append(f"<div><p><b>{escape(name)}</b></p>{chart.html}<p>bot&gt; {highlighted(reply)}</p></div>")
        text.append(f"{name}\n{chart.text}\nbot> {reply}\n")
    return Shown(f'<div style="display:flex;flex-wrap:wrap;gap:2em">{"".join(html)}</div>', "\n".join(text))


def settings_text(config: DecodingConfig) -> str:
    """The strategy and the filters that are on."""
    on = [f"{name} {getattr(config, name):g}" for name, off in FILTERS.items() if getattr(config, name) != off]
    return ", ".join([config.strategy, *on])


class DecodingExplorer:
    """Settings, the cached logits of a point in a dialogue, and what they lead to. `box` holds the widgets."""

    def __init__(self, lm: "LanguageModel", dialogue: Dialogue, *, turn: int = 0, config: DecodingConfig | None = None):
        self.lm, self.dialogue, self.turn = lm, dialogue, turn
        self.config = config or DecodingConfig(strategy="sample", max_new_tokens=40)
        self.prompts: list[Prompt] = prompts(dialogue, lm.codec)
        self._logits: dict[int, np.ndarray] = {}
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None

    def logits(self) -> np.ndarray:
        """Logits [V] after the prompt of the chosen turn; the model runs once a turn."""
        if self.turn not in self._logits:
            self._logits[self.turn] = next_token_logits(self.lm, self.prompts[self.turn].input_ids)
        return self._logits[self.turn]

    def chart(self, config: DecodingConfig | None = None, n: int = 12) -> Shown:
        """The next-token chart of the chosen turn; the model is not touched once its logits are known."""
        return next_token_chart(self.lm, self.logits(), config or self.config, self.prompts[self.turn].input_ids, n)

    def set(self, **settings: Any) -> None:
        """Change the turn or fields of the configuration; in greedy mode the sampling filters are off."""
        self.turn = settings.pop("turn", self.turn)
        if settings.get("strategy", self.config.strategy) != "sample":
            settings |= dict(list(FILTERS.items())[1:])
        self.config = replace(self.config, **settings)

    def replies(self, config: DecodingConfig | None = None) -> Iterator[str]:
        """The reply as far as it is written, after each token, until it ends or `stop` is called."""
        self._stop.clear()
        ids: list[int] = []
        for token in stream(self.lm, self.prompts[self.turn].input_ids, config or self.config):
            ids.append(token)
            yield self.lm.codec.decode(ids)
            if self._stop.is_set():
                return

    def stop(self) -> None:
        """End the reply that is being written after its next token."""
        self._stop.set()

    def write(self, put: Callable[[str], None]) -> None:
        """Stream a reply as HTML to `put`; an error is shown there too, since a thread's error is seen by nobody."""
        shown = ""
        try:
            for shown in self.replies():
                put(f"bot&gt; {highlighted(shown)} …")
            put(f"bot&gt; {highlighted(shown)}{' (stopped)' if self._stop.is_set() else ''}")
        except Exception as error:
            put(f"⚠ {escape(str(error) if isinstance(error, LabError) else repr(error))}")

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box())

    def box(self) -> Any:
        """The widgets: sliders, the chart, a Generate and a Stop button."""
        import ipywidgets as w

        chart, reply, prompt = w.HTML(), w.HTML(), w.HTML()
        controls = _controls(self)

        def redraw(_: Any = None) -> None:
            self.set(**{name: control.value for name, control in controls.items()})
            prompt.value = f"<p>{highlighted(exchanges(self.dialogue)[self.turn][0].text)}</p>"
            chart.value = self.chart().html

        for control in controls.values():
            control.observe(redraw, names="value")
        generate, stop = w.Button(description="Generate", button_style="primary"), w.Button(description="Stop")
        generate.on_click(lambda _: self.start_writing(lambda html: setattr(reply, "value", html)))
        stop.on_click(lambda _: self.stop())
        redraw()
        return w.VBox([prompt, w.HBox([w.VBox(list(controls.values())), chart]), w.HBox([generate, stop]), reply])

    def start_writing(self, put: Callable[[str], None]) -> threading.Thread:
        """`write` in a thread, so that the Stop button is heard; a reply that is still being written ends first."""
        self.stop()
        if self._writer:
            self._writer.join()
        self._writer = threading.Thread(target=self.write, args=(put,), daemon=True)
        self._writer.start()
        return self._writer


def _controls(explorer: DecodingExplorer) -> dict[str, Any]:
    import ipywidgets as w

    style, config = {"description_width": "9em"}, explorer.config
    last = max(len(explorer.prompts) - 1, 0)
    modes = w.Dropdown(options=["sample", "greedy"], value=config.strategy, description="mode", style=style)
    turns = w.IntSlider(value=explorer.turn, min=0, max=last, description="turn", style=style)
    controls = {"turn": turns, "strategy": modes}
    for name, (low, high, step) in SLIDERS.items():
        make = w.IntSlider if isinstance(step, int) else w.FloatSlider
        scale = {"value": getattr(config, name), "min": low, "max": high, "step": step}
        controls[name] = make(**scale, description=name.replace("_", " "), style=style)
    return controls


decoding_explorer = DecodingExplorer  # sliders for the next token of any turn of a dialogue, as a notebook calls them
