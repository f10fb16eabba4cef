"""The path that notebooks import; the code is in `labkit.results`."""

from labkit.results.board import Board
from labkit.results.report import markdown_table, model_card
from labkit.results.row import Run, label, result_row

__all__ = ["Board", "Run", "label", "markdown_table", "model_card", "result_row"]
