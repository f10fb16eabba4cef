"""The cost card: what each notebook takes on a named machine, as JSON, and the table that the README makes of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.machine.hardware import Hardware, processor_name
from labkit.storage import Json, read_json, write_json, write_text
from labkit.tables import markdown_table

if TYPE_CHECKING:
    from labkit.course.executed import Run

CARD = "labkit/course/cost.json"
SETTING = ("model", "corpus")
_BLOCK = re.compile(r"(?<=<!-- cost:begin -->\n).*?(?=<!-- cost:end -->)", re.DOTALL)


@dataclass(frozen=True)
class Cost:
    """What one run of a notebook took, as cost.json has it."""

    notebook: str  # solutions/0_setup.ipynb
    profile: str
    seconds: float
    memory_gib: float  # the peak of its kernel's process; 0: not measured
    gpu_gib: float
    download_mb: float  # what it added to the caches
    machine: str  # where, and when
    date: str

    @property
    def name(self) -> str:
        """The notebook's name without its folder."""
        return Path(self.notebook).stem


def machine(hw: Hardware) -> str:
    """A machine in words: processor, memory, GPU."""
    unit = "thread" if hw.threads == 1 else "threads"
    gpu = "no GPU"
    if hw.gpu_name:
        gpu = f"{hw.gpu_name}, {hw.gpu_memory_gb:.0f} GiB"
    return f"{hw.threads} {unit} of {processor_name()}, {hw.ram_gb:.0f} GiB RAM, {gpu}"


def write_cost(runs: Iterable["Run"], facts: Mapping[str, str], root: Path) -> None:
    """Write cost.json of the clone at `root` from preflight's runs, and the table in its README.md from that.

    What was not run now keeps the row that it had, with its machine and date, if that is of the same model and corpus.

    Args:
        facts: the "machine", the "date", the "model" and the "corpus".
    """
    setting = {name: facts[name] for name in SETTING}
    costs = {}
    for cost in _earlier(root / CARD, setting):
        costs[cost.notebook, cost.profile] = cost
    measured = [field.name for field in fields(Cost) if field.name not in facts]
    for run in runs:
        values = {name: getattr(run, name) for name in measured}
        costs[run.notebook, run.profile] = Cost(**values, machine=facts["machine"], date=facts["date"])
    rows = [asdict(cost) for cost in costs.values()]
    write_json(root / CARD, {**setting, "runs": rows})
    readme = root / "README.md"
    write_text(readme, with_card(readme.read_text(encoding="utf-8"), read_json(root / CARD)))


def _earlier(card: Path, setting: Mapping[str, str]) -> list[Cost]:
    """The rows of a card of the same setting; none where there is no such card."""
    if not card.is_file():
        return []
    cost = read_json(card)
    if {name: cost.get(name) for name in SETTING} != setting:
        return []
    return [Cost(**run) for run in cost["runs"]]


def with_card(readme: str, cost: Json) -> str:  # what cost.json holds
    """A README with its cost card made anew, between the two markers."""
    return _BLOCK.sub(lambda _: cost_card(cost), readme)


def cost_card(cost: Json) -> str:  # what cost.json holds
    """Markdown: a row for each solved notebook, for each profile its time, peak memory and download."""
    runs = [Cost(**run) for run in cost["runs"]]
    solved = {}
    for run in runs:
        if "solutions" in run.notebook:
            solved[run.name, run.profile] = run
    names = sorted({name for name, _ in solved})
    profiles = list(dict.fromkeys(profile for _, profile in solved))
    rows = []
    for name in names:
        cells = [_cell(solved.get((name, profile))) for profile in profiles]
        rows.append([f"`{name}`", *cells])
    last = ["all"]
    occasions = []
    for profile in profiles:
        last.append(_minutes(solved.values(), profile))
        occasions.append(f"{profile}: {_occasions(runs, profile)}")
    rows.append(last)
    head = f"Measured by `make preflight`, {cost['model']} on {cost['corpus']}. {'; '.join(occasions)}."
    table = markdown_table(["notebook", *profiles], rows)
    return f"{head}\n\n{table}\n"


def _occasions(runs: Iterable[Cost], profile: str) -> str:
    """When and where the notebooks of a profile were run."""
    occasions = {f"{run.date}, {run.machine}" for run in runs if run.profile == profile}
    return ", and ".join(sorted(occasions))


def _minutes(runs: Iterable[Cost], profile: str) -> str:
    seconds = sum(run.seconds for run in runs if run.profile == profile)
    return f"{seconds / 60:.0f} min"


def _cell(run: Cost | None) -> str:
    if run is None:
        return "not run"
    memory = "memory not measured"
    if run.memory_gib:
        memory = f"{run.memory_gib:.1f} GiB"
    if run.gpu_gib:
        memory += f" + {run.gpu_gib:.1f} GiB of GPU"
    return f"{run.seconds:.0f} s, {memory}, {run.download_mb:.0f} MB"
