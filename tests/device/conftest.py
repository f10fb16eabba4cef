"""`make test-device`: what no CPU can show, in under 8 minutes on one card, and a table for labkit/course/results.md.

Without a GPU every test skips and says why. LAB_DEVICE_REHEARSAL=1 runs here what a CPU can run, in small: it shows
that the tests work, and nothing about a GPU; its table says so.
"""

import importlib.util
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import pytest

MINUTES = 8.0
NEEDED = ("torch", "transformers", "peft", "accelerate", "datasets", "httpx", "filelock", "tqdm", "psutil", "packaging")
TABLE = Path(__file__).parents[2] / "build" / "device" / "table.md"
STARTED = time.monotonic()
ROWS: list[tuple[str, str]] = []


@cache
def why_not() -> str:
    """Why nothing can be shown on this machine; "" where there is a GPU, or a rehearsal is asked for."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"packages are missing: {', '.join(missing)}"
    if rehearsing():
        return ""
    import torch

    if not torch.cuda.is_available():
        return f"no GPU that torch {torch.__version__} sees (LAB_DEVICE_REHEARSAL=1 runs in small what a CPU can)"
    return ""


def rehearsing() -> bool:
    return bool(os.environ.get("LAB_DEVICE_REHEARSAL"))


@pytest.fixture
def seconds_left() -> Callable[[], float]:
    """The seconds until the 8 minutes are over, whenever it is called."""
    return lambda: MINUTES * 60 - (time.monotonic() - STARTED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The notebooks last: they take what time is left."""
    items.sort(key=lambda item: "notebooks" in item.path.name)
    if why_not():
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason=why_not()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        table = markdown()
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(table, encoding="utf-8")
        terminalreporter.write_line("")
        terminalreporter.write_line(table)


def markdown() -> str:
    """The table, which names the machine it was measured on."""
    import torch
    import transformers

    from labkit.machine.hardware import processor_name

    card = f"a rehearsal on a CPU ({processor_name()}): it says nothing about a GPU"
    if torch.cuda.is_available():
        card = f"one {torch.cuda.get_device_name(0)}"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    head = f"Measured by `make test-device` on {date.today()}: {card}; {versions}."
    lines = [head, "", "| what | measured |", "|---|---|"]
    lines += [f"| {what} | {figure} |" for what, figure in ROWS]
    return "\n".join(lines) + "\n"


@pytest.fixture
def note() -> Callable[[str, str], None]:
    """Add a row to the table at the end: what, and what was measured."""
    return lambda what, figure: ROWS.append((what, figure))


@pytest.fixture(scope="session")
def device() -> str:
    from labkit.machine.device import best_device, process_device

    return process_device(best_device())


@pytest.fixture(scope="session")
def is_rehearsal() -> bool:
    return rehearsing()


@pytest.fixture
def gpu() -> None:
    """For what only a GPU can show."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("only a GPU counts the bytes that are allocated on it")


@pytest.fixture
def bitsandbytes():
    """bitsandbytes, where it is installed and has a library for this device."""
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no 4 and 8 bits here")


@pytest.fixture(autouse=True)
def memory_is_given_back():
    """Each test begins with an empty card."""
    yield
    from labkit.machine.device import free_memory

    free_memory()


@pytest.fixture
def shape(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a model by the name of its shape (see device_shapes), made once in a session."""
    import device_shapes

    return lambda name: device_shapes.folder(name, tmp_path_factory.getbasetemp())
