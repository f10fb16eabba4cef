"""The decoding lab in core widgets only, for a front end where custom widgets are off.

A callback writes one token when the front end asks for it, by a click or by a tick of its Play widget: no thread.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import numpy as np

from labkit.decoding.config import FILTERS, DecodingConfig
from labkit.decoding.filters import filter_stages
from labkit.decoding.vocabulary import only
from labkit.errors import LabError
from labkit.notebook.decoding_lab.state_lines import NONE
from labkit.notebook.decoding_lab.tables import next_token_chart, settings_code
from labkit.notebook.view import highlighted
from labkit.shown import Shown

if TYPE_CHECKING:
    from labkit.notebook.decoding_lab.answers import Answers

SLIDERS = {  # field of DecodingConfig -> (smallest, largest, step); greedy is a mode, not temperature 0
    "temperature": (0.1, 2.0, 0.1),
    "top_k": (0, 50, 1),
    "top_p": (0.05, 1.0, 0.05),
    "min_p": (0.0, 0.5, 0.01),
    "typical_p": (0.05, 1.0, 0.05),
    "repetition_penalty": (1.0, 2.0, 0.05),
    "seed": (0, 99, 1),
}
STYLE = {"description_width": "9em"}
TICK = 400  # milliseconds between two tokens of Play


class CoreLab:
    """Sliders, a chart and a reply that grows by one token a tick; every callback is a method that tests call too."""

    def __init__(self, explorer: "Answers"):
        self.explorer = explorer
        self.place = explorer.place
        self.reply: list[int] = []
        self.config = explorer.config
        self.chart = w.HTML()
        self.text = w.HTML()
        self.code = w.HTML()
        self.controls = self._controls()
        self.play = w.Play(value=0, min=0, max=10_000, interval=TICK, description="write")
        self.redraw()

    def _controls(self) -> dict[str, Any]:  # widgets of several classes
        mode = "greedy" if self.config.strategy == "greedy" else "sample"
        modes = w.Dropdown(options=["sample", "greedy"], value=mode, description="mode", style=STYLE)
        controls = {"strategy": modes}
        for name, (low, high, step) in SLIDERS.items():
            value = getattr(self.config, name)
            kind = w.IntSlider if isinstance(step, int) else w.FloatSlider
            controls[name] = kind(
                value=value,
                min=min(low, value),  # a value from outside the range would be moved into it, silently
                max=max(high, value),
                step=step,
                description=name.replace("_", " "),
                style=STYLE,
            )
        grammars = self.explorer.state_lines.names(self.place.format)
        if grammars:
            chosen = self.explorer.grammar if self.explorer.grammar in grammars else NONE
            controls["grammar"] = w.Dropdown(
                options=[NONE, *grammars], value=chosen, description="grammar", style=STYLE
            )
        return controls

    def box(self) -> w.VBox:
        """The widgets."""
        again = w.Button(description="Start over")
        use = w.Button(description="Use these settings")
        again.on_click(lambda _: self.start_over())
        use.on_click(lambda _: self.use())
        self.play.observe(lambda _: self.write_token(), names="value")
        for control in self.controls.values():
            control.observe(lambda _: self.redraw(), names="value")
        question = w.HTML(self.explorer.question().html)
        controls = list(self.controls.values())
        sliders = w.VBox(controls, layout={"min_width": "20em"})
        both = w.HBox([sliders, self.chart], layout={"flex_flow": "row wrap"})
        buttons = w.HBox([self.play, again, use])
        return w.VBox([question, both, buttons, self.text, self.code])

    def redraw(self) -> None:
        """The chart and the reply with the settings of the controls."""
        greedy = self.controls["strategy"].value == "greedy"
        for name in SLIDERS:
            has_effect = not greedy or name == "repetition_penalty"
            self.controls[name].disabled = not has_effect
        self.config = self._settings()
        try:
            self.chart.value = self._chart().html
        except LabError as error:  # a front end would swallow it
            self.chart.value = f"⚠ {highlighted(str(error))}"
        reply = self.explorer.lm.codec.decode(self.reply)
        self.text.value = f"<p>bot&gt; {highlighted(reply)}</p>"

    def _settings(self) -> DecodingConfig:
        values = {name: control.value for name, control in self.controls.items() if name != "grammar"}
        if values["strategy"] == "greedy":
            for name, off in FILTERS.items():
                if name in values and name != "repetition_penalty":
                    values[name] = off
        return replace(self.explorer.config, min_new_tokens=0, **values)

    def _chart(self) -> Shown:
        logits = self.explorer.logits(self.place, self.reply)
        allowed = self._allowed(logits)
        return next_token_chart(self.explorer.lm, logits, self.config, self._context(), allowed=allowed)

    def _allowed(self, logits: np.ndarray) -> list[int] | None:
        """The tokens that the grammar lets through, of logits [V]; None where there is none."""
        if "grammar" not in self.controls:
            return None
        return self.explorer.allowed_by(self.controls["grammar"].value, logits, self.reply)

    def _context(self) -> list[int]:
        """The ids before the next token."""
        prompt = self.explorer.prompt_at(self.place)
        return [*prompt, *self.reply]

    def write_token(self) -> None:
        """One token more, unless the reply is finished."""
        stop = self.explorer.lm.codec.stop_ids
        last = self.reply[-1] if self.reply else None
        if last in stop or len(self.reply) >= self.config.max_new_tokens:
            return
        token = self.next_token()
        if token is not None:
            self.reply.append(token)
        self.redraw()

    def next_token(self) -> int | None:
        """The token that `labkit.generate` would write here; None where the grammar allows none."""
        import torch

        logits = self.explorer.logits(self.place, self.reply)  # [V]
        allowed = self._allowed(logits)
        if allowed is not None:
            logits = only(logits, allowed)
        if np.isneginf(logits).all():
            return None
        stages = filter_stages(logits, self.config, self._context())
        if stages:
            probabilities = torch.as_tensor(stages[-1].probabilities).double()  # [V]
        else:
            probabilities = torch.as_tensor(logits).double().softmax(-1)  # [V]
        if self.config.strategy == "greedy":
            return int(probabilities.argmax())
        needed = len(self.reply) + 1
        *_, drawn = self.explorer.draws(self.place, self.config.seed, needed)
        cumulative = probabilities.cumsum(-1)  # [V]
        before = cumulative <= drawn * cumulative[-1]  # [V] bool
        return min(int(before.sum()), len(probabilities) - 1)

    def start_over(self) -> None:
        """Forget the reply."""
        self.reply = []
        self.redraw()

    def use(self) -> None:
        """Hand the settings to the notebook as `explorer.chosen`, and say them as Python."""
        self.explorer.chosen = self.config
        code = highlighted(settings_code(self.config))
        self.code.value = f"<pre>{code}</pre>"
