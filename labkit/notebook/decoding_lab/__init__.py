"""The decoding lab of notebook 1: a front end in one JavaScript module, a kernel that answers its questions."""

from labkit.notebook.decoding_lab.explorer import DecodingExplorer
from labkit.notebook.decoding_lab.tables import decoding_table, next_token_chart, settings_code, steps_table

__all__ = ["DecodingExplorer", "decoding_table", "next_token_chart", "settings_code", "steps_table"]
