"""labkit: the thin helper module of the Neural Conversational AI Lab.

Names are imported on first use, so that `import labkit` costs nothing until torch or plotly is needed.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# torch's threads spin while they wait, on cores that another notebook may need: two at once were several times slower
# than one after the other (tests/benchmarks/side_by_side.py). OpenMP reads this when torch is imported. In Colab and
# Kaggle each notebook has a virtual machine to itself, and there a thread that sleeps is slow to wake.
_ALONE = ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE")  # variables of theirs
if not any(name in os.environ for name in _ALONE):
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {  # public name -> the module that defines it
    "start": "lab",
    "LabError": "errors",
    "load_corpus": "corpora",
    "load_model": "models",
    "attach_adapter": "models",
    "load_adapter": "models",
    "merge": "models",
    "DecodingConfig": "decoding",
    "generate": "decoding",
    "predict": "decoding",
    "next_token_logits": "decoding",
    "state_grammar": "decoding",
    "tool_grammar": "decoding",
    "use_tool": "decoding",
    "plan_memory": "training.memory_plan",
    "FinetuneConfig": "training.config",
    "finetune": "training.run",
    "prefer": "training.preferences",
    "evaluate": "metrics",
    "converse": "interaction.converse",
    "power": "metrics",
    "Board": "results.board",
    "sweep": "results.sweep",
    "check": "notebook.exercises",
    "hint": "notebook.exercises",
    "solution": "notebook.exercises",
    "progress": "notebook.exercises",
    "glossary": "notebook.glossary",
    "diagram": "notebook.diagrams",
    "note": "notebook.exercises.notes",
    "guess": "notebook.exercises.notes",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # whatever the module that defines the name holds
    if name not in _HOME:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    return getattr(import_module(f"labkit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
