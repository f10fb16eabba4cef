"""What notebook 1 imports for its decoding lab; the lab itself is `labkit.notebook.decoding_lab`."""

from labkit.notebook.decoding_lab.explorer import DecodingExplorer
from labkit.notebook.decoding_lab.tables import decoding_table, next_token_chart, settings_code, steps_table
from labkit.notebook.decoding_lab.twin import display_with_twin

decoding_explorer = DecodingExplorer  # as a notebook calls it

__all__ = ["DecodingExplorer", "decoding_explorer", "decoding_table", "display_with_twin", "next_token_chart"]
__all__ += ["settings_code", "steps_table"]
