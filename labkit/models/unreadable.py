"""A model that cannot be read: what is wrong with it, in one line; and what it declares, held to what it holds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.models.names import STAND_IN_MODEL

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NAMES = f"choose {STAND_IN_MODEL}, a folder with config.json and model.safetensors, a .gguf file or a Hub id"


@contextmanager
def clear_errors(name: str, path: Path) -> Iterator[None]:
    """Whatever transformers raises about a stranger's files becomes one line that names the model."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        raise LabError(f"cannot load model {name!r}", f"{_reason(error)} (in {path.name})", NAMES) from error


def _reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it asks for Python code of its own, which is never run here"
    return first_line(error)


def read_config(folder: Path) -> "PretrainedConfig":
    """The configuration of the model in `folder`, without code of its own.

    Raises:
        ValueError: it declares more layers than its weights have tensors, so that building it would not end.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config  # of a multimodal model
    layers = getattr(text, "num_hidden_layers", None) or 0
    tensors = _count_tensors(folder)
    if not isinstance(layers, int) or layers > tensors:
        raise ValueError(f"config.json declares {layers} layers, and the weights are {tensors} tensors")
    return config


def _count_tensors(folder: Path) -> int:
    """Tensors in the safetensors files at the top of a folder; only their headers are read."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return len(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            count += len(list(tensors.keys()))
    return count
