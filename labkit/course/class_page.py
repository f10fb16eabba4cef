"""The class's boards as files: a page with tables and figures, and a table for a spreadsheet."""

import time
from collections.abc import Sequence
from pathlib import Path

from labkit.course.pages import HTML, figure_html, table_html, whole_page
from labkit.results.pool import Pool, as_csv_rows, figures, pool, tables
from labkit.storage import writable_file, write_text
from labkit.tables import as_csv

TITLES = {"speed": "Machines", "untuned": "Untuned models", "tuned": "Tuned models"}


def write_pool(files: Sequence[Path], csv_file: Path | None, html: Path | None) -> Pool:
    """Pool boards, and write what is asked for.

    Raises:
        LabError: no board at all, or a file that cannot be written; nothing is written then.
    """
    for path, kinds in ((csv_file, (".csv",)), (html, HTML)):
        if path is not None:
            writable_file(path, kinds=kinds)
    pooled = pool(files)
    if csv_file is not None:
        rows = as_csv_rows(pooled)
        write_text(csv_file, as_csv(list(rows[0]), [list(row.values()) for row in rows]))
    if html is not None:
        write_text(html, _page(pooled))
    return pooled


def _page(pooled: Pool) -> str:
    date = time.strftime("%Y-%m-%d %H:%M")
    parts = [f"<p>{date}. {len(pooled.students)} boards, {len(pooled.rows)} rows. Compare rows of one split only.</p>"]
    parts += [f'<div class="figure">{figure_html(figure)}</div>' for figure in figures(pooled)]
    rows = as_csv_rows(pooled)
    parts.append("<h2>All runs</h2>" + table_html(list(rows[0]), [list(row.values()) for row in rows]))
    if pooled.left_out:
        parts.append("<h2>Left out</h2>" + table_html(["file"], [[line] for line in pooled.left_out]))
    return whole_page("Neural Conversational AI Lab: the class", "\n".join(parts), with_figures=True)


def in_words(pooled: Pool) -> str:
    """The three tables of the 2023 lab as Markdown, and what was left out."""
    parts = []
    for name, markdown in tables(pooled).items():
        has_rows = markdown.count("\n") > 1
        if has_rows:
            parts.append(f"## {TITLES[name]}\n\n{markdown}")
    parts += pooled.left_out
    return "\n\n".join(parts)
