"""What transformers says about a model that it cannot read, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.models.names import STAND_IN_MODEL

NAMES = f"choose {STAND_IN_MODEL}, a folder with config.json and model.safetensors, a .gguf file or a Hub id"


@contextmanager
def clear_errors(name: str, path: Path) -> Iterator[None]:
    """What transformers says about an unreadable model, in one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
        raise LabError(f"cannot load model {name!r}", f"{first_line(error)} (in {path.name})", NAMES) from error
