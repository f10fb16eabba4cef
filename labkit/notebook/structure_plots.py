"""Figures of notebook 4: clusters, maps of utterances, the chain of a dialogue. Each subject has a module of its own.

Colours tell nothing alone: symbols, labels and hover text say the same again.
"""

from labkit.notebook.chain_plots import transition_graph, transition_heat_map
from labkit.notebook.cluster_plots import choose_k_plot, cluster_cards, heat_map, word_bars
from labkit.notebook.maps import COLUMNS, linked_map, map_sliders, utterance_map

__all__ = [
    "COLUMNS",
    "choose_k_plot",
    "cluster_cards",
    "heat_map",
    "linked_map",
    "map_sliders",
    "transition_graph",
    "transition_heat_map",
    "utterance_map",
    "word_bars",
]
