"""The board as a figure: a line a run, a dot for each score with its interval."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.results.best import intervals_of, repeats
from labkit.results.differs import common, differing
from labkit.results.row import Row, model_name
from labkit.shown import readable

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 60  # runs; the newest
LONGEST = 60  # letters of a label
LINE = 26  # pixels a run
AROUND = 130  # pixels for title and axes


def dot_plot(rows: Sequence[Row]) -> "go.Figure":
    """BLEU, Inform and Success side by side; the height follows the number of runs, and a repeated run stands once."""
    from plotly.subplots import make_subplots

    from labkit.figures import MARKERS, METRICS, error_bars, plain, titled

    scored = [row for row in rows if any(row.get(metric) is not None for metric in METRICS)]
    once = [row for row, _ in repeats(scored)]
    runs = once[-SHOWN:]
    title = titled("Results", runs)
    if len(once) > len(runs):
        title += f": the newest {len(runs)} of {len(once)} runs"
    names = [plain(name) for name in labels(runs)]
    figure = make_subplots(cols=len(METRICS), shared_yaxes=True, horizontal_spacing=0.03)
    for column, (metric, name) in enumerate(METRICS.items(), start=1):
        known = [(label, row) for label, row in zip(names, runs, strict=True) if row.get(metric) is not None]
        shown = [{**row, "intervals": intervals_of(row)} for _, row in known]
        figure.add_scatter(
            x=[row[metric] for row in shown],
            y=[label for label, _ in known],
            error_x=error_bars(shown, metric),
            mode="markers",
            marker={"symbol": MARKERS[column - 1], "size": 10},
            name=name,
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text=name, rangemode="tozero", row=1, col=column)
        if metric != "bleu":  # the shares go up to 100, BLEU hardly ever does
            figure.update_xaxes(range=[0, 105], row=1, col=column)
    ends = [len(names) - 0.5, -0.5]  # the oldest on top, and no empty lines above and below
    order = {"categoryorder": "array", "categoryarray": names, "range": ends}
    figure.update_yaxes(order)
    height = AROUND + LINE * max(2, len(runs))
    return figure.update_layout(template="lab", title=plain(title), height=height, showlegend=False)


def labels(runs: Sequence[Row]) -> list[str]:
    """A short name for each run: its task, and what differs from the others; no two are the same."""
    told_once = common(runs, ("model", "corpus", "split"))
    some_are_real = any(not row.get("stand_in") for row in runs)
    result: list[str] = []
    for row, differ in zip(runs, differing(runs), strict=True):
        words = [str(row.get("task") or "run")]
        for field in ("model", "corpus", "split"):
            if field not in told_once and row.get(field):
                words.append(model_name(str(row[field])))
        if row.get("stand_in") and some_are_real:
            words[0] += " (stand-in)"
        name = _short(readable(", ".join([*words, differ] if differ else words)))
        result.append(_another(name, result))
    return result


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _another(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where there is one like it."""
    number = 2
    result = name
    while result in taken:
        result = f"{name} ({number})"
        number += 1
    return result
