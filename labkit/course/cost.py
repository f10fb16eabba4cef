"""The cost card: what each notebook takes on a named machine, as JSON, and the table that the README makes of it."""

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.machine.hardware import Hardware
from labkit.storage import read_json, write_json, write_text

CARD = "labkit/course/cost.json"
_BLOCK = re.compile(r"(?<=<!-- cost:begin -->\n).*?(?=<!-- cost:end -->)", re.DOTALL)


def machine(hw: Hardware) -> str:
    """A machine in words: processor, memory, GPU."""
    try:
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:  # no Linux
        name = None
    gpu = f"{hw.gpu_name}, {hw.gpu_memory_gb:.0f} GiB" if hw.gpu_name else "no GPU"
    threads = f"{hw.threads} thread{'s' * (hw.threads > 1)} of {name[1] if name else platform.processor()}"
    return f"{threads}, {hw.ram_gb:.0f} GiB RAM, {gpu}"


def write_cost(runs: Iterable[Any], facts: Mapping[str, Any], root: Path) -> None:
    """Write cost.json of the clone at `root` from preflight's runs, and the table in its README.md from that.

    `facts` are the "machine", the "date", the "model" and the "corpus".
    """
    named = ("notebook", "profile", "seconds", "memory_gib", "gpu_gib", "download_mb")
    rows = [{name: asdict(run)[name] for name in named} for run in runs]
    write_json(root / CARD, {**facts, "runs": rows})
    write_text(root / "README.md", with_card((root / "README.md").read_text(encoding="utf-8"), read_json(root / CARD)))


def with_card(readme: str, cost: Mapping[str, Any]) -> str:
    """A README with its cost card made anew, between the two markers."""
    return _BLOCK.sub(lambda _: cost_card(cost), readme)


def cost_card(cost: Mapping[str, Any]) -> str:
    """Markdown: a row for each solved notebook, for each profile its time, peak memory and download."""
    runs = {(Path(run["notebook"]).stem, run["profile"]): run for run in cost["runs"] if "solutions" in run["notebook"]}
    names, profiles = (list(dict.fromkeys(keys)) for keys in zip(*runs, strict=True))
    head = f"Measured by `make preflight` on {cost['date']}: {cost['machine']}; {cost['model']} on {cost['corpus']}.\n"
    lines = [["notebook", *profiles], ["---"] * (1 + len(profiles))]
    lines += [[f"`{name}`", *(_cell(runs.get((name, profile))) for profile in profiles)] for name in names]
    total = [sum(run["seconds"] for (_, where), run in runs.items() if where == profile) for profile in profiles]
    lines.append(["all", *(f"{seconds / 60:.0f} min" for seconds in total)])
    return "\n".join([head, *("| " + " | ".join(line) + " |" for line in lines), ""])


def _cell(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "not run"
    gpu = f" + {run['gpu_gib']:.1f} GiB of GPU" if run["gpu_gib"] else ""
    memory = f"{run['memory_gib']:.1f} GiB" if run["memory_gib"] else "memory not measured"
    return f"{run['seconds']:.0f} s, {memory}{gpu}, {run['download_mb']:.0f} MB"
