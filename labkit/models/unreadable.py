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
FULLEST = 8  # parameters in a byte of weights, at most


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
        ValueError: it declares more than its weights hold, so that building it would not end, or rotary positions on
            more than a head.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config  # of a multimodal model
    _check_size(text, folder)
    _check_rotary(text)
    return config


def _check_size(text: "PretrainedConfig", folder: Path) -> None:
    """Whether the weights can be of so many layers of that width, with so many words.

    transformers fills what is missing with random numbers, however much that is. Each layer has at least one matrix of
    the width's square, whatever the architecture; weights of 4 bits are packed into an eighth.
    """
    layers = getattr(text, "num_hidden_layers", None) or 0
    width = getattr(text, "hidden_size", None) or 0
    words = getattr(text, "vocab_size", None) or 0
    tensors = _count_tensors(folder)
    if not isinstance(layers, int) or layers > tensors:
        raise ValueError(f"config.json declares {layers} layers, and the weights are {tensors} tensors")
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))  # bytes, at least as many as parameters
    declared = max(layers * width, words) * width
    if declared > FULLEST * stored:
        found = f"{layers} layers of width {width} and {words} words"
        raise ValueError(f"config.json declares {found}, and the weights are {stored:,} bytes")


def _check_rotary(text: "PretrainedConfig") -> None:
    """Rotary positions cannot turn more than a head; building such a model does not fail, and its first step does."""
    rope = getattr(text, "rope_parameters", None)
    share = rope.get("partial_rotary_factor", 1.0) if isinstance(rope, dict) else 1.0
    if not 0 < share <= 1:
        raise ValueError(f"config.json, partial_rotary_factor is {share}, not a share from 0 to 1")


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
