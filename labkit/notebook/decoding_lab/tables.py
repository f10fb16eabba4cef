"""The decoding lab as plain tables: for a terminal, for a code host, and for comparing settings in a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from labkit.corpora.types import Dialogue
from labkit.decoding.config import FILTERS, DecodingConfig, transformers_call
from labkit.decoding.filters import Stage, entropy, filter_stages, remaining
from labkit.decoding.generate import generate, next_token_logits, reply_steps
from labkit.decoding.vocabulary import only
from labkit.notebook.view import highlighted
from labkit.prompts.build import prompts
from labkit.shown import Shown

if TYPE_CHECKING:
    from labkit.models import LanguageModel

LONGEST = 256  # room for a reply, in tokens
CELL = "padding:.1em .5em;text-align:left"
STRIPES = "repeating-linear-gradient(45deg,#D55E00 0 3px,transparent 3px 7px)"
PLAIN = "#0072B2"


@dataclass(frozen=True)
class Row:
    """One token of the chart."""

    token: str
    before: float  # its probability by the model
    after: float  # and after all filters
    fate: str  # what became of it, in words

    def text(self) -> str:
        return f"{self.token:<16} {self.before:7.1%} → {self.after:7.1%}  {self.fate}"

    def html(self, widest: float) -> str:
        """A table row; bars are drawn relative to the probability `widest`."""
        striped = _bar(self.before / widest, STRIPES)
        plain = _bar(self.after / widest, PLAIN)
        cells = [
            f'<th scope="row" style="{CELL};font-family:monospace">{escape(self.token)}</th>',
            f'<td style="{CELL}">{self.before:.1%}</td>',
            f'<td style="{CELL}">{self.after:.1%}</td>',
            f'<td style="{CELL};width:16em">{striped}{plain}</td>',
            f'<td style="{CELL}">{escape(self.fate)}</td>',
        ]
        return f"<tr>{''.join(cells)}</tr>"


def _bar(share: float, paint: str) -> str:
    return f'<div aria-hidden="true" style="height:.5em;width:{share:.1%};background:{paint}"></div>'


def room_for_prompt(lm: "LanguageModel") -> int:
    """The most tokens that a prompt of the lab may have: the model's context, less a long reply."""
    return min(1024, lm.context_length) - LONGEST


def next_token_chart(
    lm: "LanguageModel",
    logits: np.ndarray,
    config: DecodingConfig,
    context: Sequence[int] = (),
    *,
    n: int = 12,
    drawn: int | None = None,
    allowed: Sequence[int] | None = None,
) -> Shown:
    """The `n` likeliest next tokens before and after the filters of `config`, and the mass that each filter removed.

    Args:
        logits: [V], from `next_token_logits`; the model itself is not called.
        context: the ids before the token, which the repetition penalty looks at.
        drawn: the token that a reply went on with here; it has a row of its own where it is not among the likeliest.
        allowed: the tokens that a grammar lets through, before all other filters; None where there is none.
    """
    exact = logits.astype(np.float64)  # [V] in single precision a cold temperature rounds the tail to 0
    before = remaining(exact, ())  # [V]
    stages: list[Stage] = []
    if allowed is not None:
        stages.append(_grammar_stage(exact, allowed))
        logits = only(logits, allowed)
    if allowed is None or allowed:  # else no token is left for another filter
        stages += filter_stages(logits, config, context)
    after = remaining(exact, stages)  # [V]
    tokens = np.argsort(-before)[:n].tolist()
    if drawn is not None and drawn not in tokens:
        tokens.append(drawn)
    rows = []
    for token in tokens:
        fate = _fate(token, config, stages, after)
        if token == drawn:
            fate += " ← drawn"
        name = _quoted(lm, token)
        rows.append(Row(name, float(before[token]), float(after[token]), fate))
    lines = [_line(stage) for stage in stages]
    size = len(logits)
    left = _n_left(stages, size)
    lines.append(f"{left:,} of {size:,} tokens left, entropy {entropy(after):.2f} bits")
    below = "<br>".join(map(escape, lines))
    text = [row.text() for row in rows]
    return Shown(f"{_table(rows)}<p>{below}</p>", "\n".join([*text, *lines]))


def _grammar_stage(logits: np.ndarray, allowed: Sequence[int]) -> Stage:
    """What a grammar leaves of the distribution of logits [V]."""
    before = remaining(logits, ())  # [V]
    left = only(before, allowed)  # [V]
    kept = ~np.isneginf(left)  # [V]
    mass = float(before[kept].sum())
    probabilities = np.where(kept, before, 0) / (mass or 1)  # [V]
    return Stage("grammar", len(allowed), kept, 1 - mass, probabilities)


def _quoted(lm: "LanguageModel", token: int) -> str:
    return repr(lm.tokenizer.decode([token]))


def _n_left(stages: Sequence[Stage], size: int) -> int:
    """Tokens that no filter cut; a probability that is rounded to 0 is not a cut."""
    left = np.ones(size, dtype=bool)  # [V]
    for stage in stages:
        left &= stage.kept
    return int(left.sum())


def _fate(token: int, config: DecodingConfig, stages: Sequence[Stage], after: np.ndarray) -> str:
    """What became of a token, in words: "kept", or the filter that cut it."""
    if stages and stages[0].name == "grammar" and not stages[0].kept[token]:
        return "cut by grammar"
    if config.strategy != "sample":
        return "taken" if token == after.argmax() else "not taken"
    for stage in stages:
        if not stage.kept[token]:
            return f"cut by {stage.name}"
    return "kept"


def _line(stage: Stage) -> str:
    """What a filter did, in words."""
    if stage.name == "grammar":
        return f"grammar: {stage.value:,} tokens allowed, removes {stage.removed:.1%} of the mass"
    effect = "changes the shape"
    if not stage.kept.all():
        effect = f"removes {stage.removed:.1%} of the mass"
    return f"{stage.name} {stage.value:g} {effect}"


def _table(rows: Sequence[Row]) -> str:
    head = ("token", "before", "after", "striped: before, plain: after", "fate")
    names = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in head)
    widest = max(max(row.before, row.after) for row in rows)
    body = "".join(row.html(widest) for row in rows)
    caption = "<caption>The likeliest next tokens</caption>"
    return f"<table>{caption}<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def decoding_table(
    lm: "LanguageModel",
    dialogue: Dialogue,
    configs: Sequence[DecodingConfig],
    *,
    turn: int = 0,
    n: int = 8,
) -> Shown:
    """The chart and one reply for each of several settings: the sliders without a kernel."""
    asked = prompts(dialogue, lm.codec, max_length=room_for_prompt(lm))
    prompt = asked[min(turn, len(asked) - 1)].input_ids
    logits = next_token_logits(lm, prompt)  # [V]
    html, text = [], []
    for config in configs:
        name = settings_text(config)
        chart = next_token_chart(lm, logits, config, prompt, n=n)
        (ids,) = generate(lm, [prompt], config)
        reply = lm.codec.decode(ids)
        title = f"<p><b>{escape(name)}</b></p>"
        said = f"<p>bot&gt; {highlighted(reply)}</p>"
        html.append(f"<div>{title}{chart.html}{said}</div>")
        text.append(f"{name}\n{chart.text}\nbot> {reply}\n")
    columns = "".join(html)
    flex = "display:flex;flex-wrap:wrap;gap:2em"
    return Shown(f'<div style="{flex}">{columns}</div>', "\n".join(text))


def steps_table(lm: "LanguageModel", prompt: list[int], config: DecodingConfig) -> Shown:
    """A reply token by token: drawn from how many, how likely, at what entropy."""
    import pandas as pd

    steps = reply_steps(lm, prompt, config)
    columns = {
        "token": [_quoted(lm, step.token) for step in steps],
        "candidates": [step.candidates for step in steps],
        "probability": [round(step.probability, 3) for step in steps],
        "entropy (bits)": [round(step.entropy, 2) for step in steps],
    }
    table = pd.DataFrame(columns)
    name = f"<p><b>{escape(settings_text(config))}</b></p>"
    return Shown(name + table.to_html(escape=True), table.to_string())


def settings_text(config: DecodingConfig) -> str:
    """The strategy and the filters that are on."""
    parts = [config.strategy]
    for name, off in FILTERS.items():
        value = getattr(config, name)
        if value != off:
            parts.append(f"{name} {value:g}")
    return ", ".join(parts)


def settings_code(config: DecodingConfig) -> str:
    """The settings as Python: labkit's configuration with what differs from the defaults, and transformers' call."""
    changed = []
    for one in fields(config):
        value = getattr(config, one.name)
        if value != one.default:
            changed.append(f"{one.name}={value!r}")
    own = f"labkit.DecodingConfig({', '.join(changed)})"
    return f"{own}\n\n# the same by transformers\n{transformers_call(config)}"
