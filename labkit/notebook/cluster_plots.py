"""Figures of clusters: the choice of k, the words and acts that tell one cluster from another."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.notebook.look import PALETTE, line_look, plain
from labkit.notebook.model_plots import heat
from labkit.shown import Shown
from labkit.structure import Words, cluster_names

_CARD = "flex:1 1 24em;padding:.5em .9em;border:1px solid rgba(128,128,128,.5);border-radius:.6em"
_COLUMNS = 4  # small plots of words in a row


def choose_k_plot(rows: Sequence[Mapping[str, float]], chosen: int | None = None) -> go.Figure:
    """Silhouette and stability (with its standard deviation) against k, one above the other: their scales differ.

    A dotted line marks `chosen`; by default the largest k whose stability is within one standard deviation of the best
    (Breiman's one-standard-error rule, borrowed), as exercise 4.1 has it.
    """
    ks = [row["k"] for row in rows]
    deviations = [row["sd"] for row in rows]
    shown = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    shown.update_layout(template="lab", title="How many clusters?", height=480, showlegend=False)
    shown.add_scatter(
        x=ks,
        y=[row["silhouette"] for row in rows],
        name="silhouette",
        line_color=PALETTE[0],
        row=1,
        col=1,
        **line_look(0),
    )
    shown.add_scatter(
        x=ks,
        y=[row["stability"] for row in rows],
        error_y={"type": "data", "array": deviations},
        name="stability",
        line_color=PALETTE[3],
        row=2,
        col=1,
        **line_look(1),
    )
    shown.update_yaxes(title_text="silhouette", row=1)
    shown.update_yaxes(title_text="stability (ARI)", row=2)
    shown.update_xaxes(tickvals=ks, row=1)
    shown.update_xaxes(tickvals=ks, title_text="k", row=2)
    if rows:
        _mark_k(shown, chosen, rows)
    return shown


def _mark_k(figure: go.Figure, chosen: int | None, rows: Sequence[Mapping[str, float]]) -> None:
    """A vertical line through both panels, named above them."""
    name = f"k = {chosen}"
    if chosen is None:
        best = max(rows, key=lambda row: row["stability"])
        least = best["stability"] - best["sd"]
        chosen = max(row["k"] for row in rows if row["stability"] >= least)
        name = f"k = {chosen}: the largest within one sd of the most stable"
    figure.add_vline(x=chosen, line={"dash": "dot", "color": "#555555"})
    last = chosen == max(row["k"] for row in rows)
    figure.add_annotation(
        text=name,
        x=chosen,
        y=1.0,
        yref="paper",
        yanchor="bottom",
        xanchor="right" if last else "center",
        showarrow=False,
    )


def word_bars(words: Words, n: int = 6) -> go.Figure:
    """The `n` words with the highest class TF-IDF of each cluster, a small bar plot each."""
    clusters = list(words)
    lines = max(1, math.ceil(len(clusters) / _COLUMNS))
    titles = [f"cluster {cluster}" for cluster in clusters]
    shown = make_subplots(
        lines,
        _COLUMNS,
        subplot_titles=titles,
        horizontal_spacing=0.1,
        vertical_spacing=0.25 / lines,
    )
    shown.update_layout(template="lab", showlegend=False, height=130 + 170 * lines)
    shown.update_layout(title="Words that set a cluster apart (class TF-IDF)", margin_t=90)
    for place, cluster in enumerate(clusters):
        best = words[cluster][:n]
        line, column = divmod(place, _COLUMNS)
        shown.add_bar(
            x=[score for _, score in best],
            y=[plain(word) for word, _ in best],
            orientation="h",
            marker_color=PALETTE[0],
            name=f"cluster {cluster}",
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            row=line + 1,
            col=column + 1,
        )
    shown.update_xaxes(showticklabels=False, showgrid=False)
    return shown.update_yaxes(autorange="reversed", showgrid=False)


def heat_map(shares: pandas.DataFrame, title: str) -> go.Figure:
    """A table of shares, each written in its cell; the axes take the names of its index and columns."""
    values = shares.to_numpy(dtype=float)  # [R, C]
    texts = shares.map("{:.0%}".format)
    across = shares.columns.name or ""
    down = shares.index.name or ""
    shown = heat(
        values,
        columns=[str(name) for name in shares.columns],
        rows=[str(name) for name in shares.index],
        title=title,
        names=(str(across), str(down), "share"),
        texts=texts.to_numpy().tolist(),
    )
    shown.update_traces(colorbar_tickformat=".0%")
    shown.update_layout(height=220 + 30 * len(shares))
    return shown.update_xaxes(tickangle=-40)


def cluster_cards(
    words: Words, rows: pandas.DataFrame, labels: Sequence[int], typical: Mapping[int, Sequence[str]]
) -> Shown:
    """A card for each cluster: its words, the larger the higher their class TF-IDF; its commonest acts and slots, as
    shares of its utterances; and the utterances in `typical` (of `nearest_utterances`).
    """
    names = cluster_names(words)
    own = np.asarray(labels)  # [N]
    cards = []
    lines = []
    for cluster, pairs in words.items():
        mine = rows[own == cluster]
        acts = _shares(mine, "act")
        slots = _shares(mine, "slots")
        facts = [f"{len(mine)} utterances", f"act: {acts}", f"slots: {slots}"]
        said = list(typical[cluster])
        name = names[cluster]
        cards.append(_card(name, pairs, facts, said))
        lines.append(name)
        lines.extend(facts)
        lines.extend(f"    {text}" for text in said)
    all_cards = "".join(cards)
    html = f'<div style="display:flex;flex-wrap:wrap;gap:1em">{all_cards}</div>'
    return Shown(html, "\n".join(lines))


def _card(name: str, pairs: Sequence[tuple[str, float]], facts: Sequence[str], said: Sequence[str]) -> str:
    """HTML of a cluster: its name, its words by size, facts and utterances."""
    parts = [f"<b>{escape(name)}</b>", _cloud(pairs)]
    for fact in facts:
        parts.append(f"<div>{escape(fact)}</div>")
    parts.append("<ul>")
    for text in said:
        parts.append(f"<li>{escape(text)}</li>")
    parts.append("</ul>")
    inside = "".join(parts)
    return f'<section style="{_CARD}">{inside}</section>'


def _shares(rows: pandas.DataFrame, column: str, n: int = 3) -> str:
    """The `n` commonest values of a column (lists of values count each) with their shares of the rows."""
    values = rows[column].explode()
    commonest = values.value_counts().head(n)
    told = []
    for value, count in commonest.items():
        share = count / len(rows)
        told.append(f"{value} {share:.0%}")
    return ", ".join(told) or "none"


def _cloud(pairs: Sequence[tuple[str, float]]) -> str:
    """Words in alphabetical order, with a font size from 0.8 to 2 em that grows with the square root of the score."""
    best = max((score for _, score in pairs), default=1.0)
    spans = []
    for word, score in sorted(pairs):
        size = 0.8 + 1.2 * (score / best) ** 0.5
        style = f"font-size:{size:.2f}em"
        spans.append(f'<span style="{style}" title="{score:.3f}">{escape(word)}</span>')
    cloud = " ".join(spans)
    return f'<p style="line-height:1.3;margin:.4em 0">{cloud}</p>'
