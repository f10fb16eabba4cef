"""Models: load one by name, quantise it, attach, save and merge an adapter."""

import logging

from labkit.machine.out_of_memory import memory_errors
from labkit.models.adapters import attach_adapter, load_adapter, save_adapter
from labkit.models.language_model import LanguageModel, count_parameters
from labkit.models.layers import embedding_names, layer_kinds, lora_targets
from labkit.models.load import load_model
from labkit.models.merging import folded, merge, push_to_hub, save_model

__all__ = [
    "LanguageModel",
    "attach_adapter",
    "count_parameters",
    "embedding_names",
    "folded",
    "layer_kinds",
    "load_adapter",
    "load_model",
    "lora_targets",
    "memory_errors",
    "merge",
    "push_to_hub",
    "save_adapter",
    "save_model",
]

# it warns that an optional kernel of the Hub is not there, which labkit would turn off anyway
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
