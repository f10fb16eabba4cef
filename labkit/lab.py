"""What the lab uses on this machine: decided once, in `start()`, and shown on the READY card."""

import html
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit import failures
from labkit.choices import (
    REAL_CORPUS,
    STAND_IN_CORPUS,
    Choice,
    choose_corpus,
    choose_model,
    choose_scorer,
    look_outside,
    token_problems,
)
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.machine.hardware import Hardware, hardware, seed_everything
from labkit.machine.network import Hub
from labkit.machine.one_line import shortened
from labkit.machine.paths import lab_home
from labkit.machine.problem import Problem
from labkit.machine.versions import Version, version_line, version_problems, versions
from labkit.models.names import REAL_MODEL, STAND_IN_MODEL, STAND_IN_SIZES, STAND_INS
from labkit.shown import IN_THE_DARK, ON_PAPER
from labkit.storage import shipped

__all__ = [
    "OFFERED_PROFILES",
    "PROFILES",
    "REAL_CORPUS",
    "REAL_MODEL",
    "STAND_IN_CORPUS",
    "STAND_IN_MODEL",
    "Choice",
    "Lab",
    "Profile",
    "choose_corpus",
    "choose_model",
    "decide",
    "look_outside",
    "start",
]

# JupyterLab breaks printed lines in the middle of a word, and its dark theme has white charts. The styles go into the
# head of the page, since a cell that is scrolled out of sight takes its own styles with it.
STYLES = """<script data-for="printed lines and charts">(() => {
  const rules = `.jp-OutputArea .jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere }
    @media screen { body[data-jp-theme-light="false"] :is(PAPER) { DARK } }`;
  if (document.getElementById("lab-styles")) return;
  const style = Object.assign(document.createElement("style"), { id: "lab-styles", textContent: rules });
  document.head.append(style);
})();</script>""".replace("PAPER", ON_PAPER).replace("DARK", IN_THE_DARK)
MARKS = {"READY": ("✓", "#1a7f37"), "READY (stand-in)": ("◐", "#9a6700"), "BLOCKED": ("✗", "#cf222e")}
LEAST_DISK_GB = 0.5


def _size(help_text: str) -> Any:  # Any: a field has the type that its annotation says
    """A field of Profile: it has no default, because profiles.toml gives every size."""
    return field(metadata={"help": help_text})


@dataclass(frozen=True)
class Profile:
    """Sizes, and nothing else: every cell is the same in all profiles."""

    name: str = _size("smoke (tests), cpu or gpu")
    train_dialogues: int = _size("dialogues to train on, at most")
    dev_dialogues: int = _size("dialogues for evaluation during training")
    test_dialogues: int = _size("dialogues that a score is computed on")
    train_steps: int = _size("optimiser steps of a fine-tuning run")
    batch_dialogues: int = _size("dialogues per optimiser step")
    max_new_tokens: int = _size("longest reply, in tokens")
    max_length: int = _size("longest sequence given to the model, in tokens")
    utterances: int = _size("utterances to embed and cluster")
    clusters: int = _size("clusters of utterances")
    sweep_models: Sequence[str] = _size("models of the scaling experiment, small to large")
    sweep_steps: int = _size("optimiser steps of one run of the scaling experiment")
    extension_dialogues: int = _size("dialogues that an extension of notebook 5 is scored on")
    conversations: int = _size("goals for which a bot talks to a simulated user in notebook 6")


PROFILES = {name: Profile(name, **sizes) for name, sizes in shipped(__file__, "profiles.toml").items()}
OFFERED_PROFILES = ("smoke", "cpu", "gpu")  # `hub` is for `make test-hub` alone


@dataclass(frozen=True, repr=False)
class Lab:
    """What `start()` decided. Notebooks take sizes, paths and the seed from here; results rows take the setting."""

    model: str
    model_reason: str
    corpus: str
    corpus_reason: str
    scorer: str  # "mwzeval" | "labkit"
    scorer_reason: str
    profile: Profile
    profile_reason: str
    hardware: Hardware
    hub: Hub
    versions: tuple[Version, ...]
    home: Path
    seed: int
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def setting(self) -> str:
        """ "real" only if both the corpus and the model are; else "stand-in"."""
        if self.corpus == STAND_IN_CORPUS or self.model in STAND_INS:
            return "stand-in"
        return "real"

    @property
    def verdict(self) -> str:
        """ "READY", "READY (stand-in)" or "BLOCKED"."""
        if self.problems:
            return "BLOCKED"
        return "READY" if self.setting == "real" else "READY (stand-in)"

    def rows(self) -> list[tuple[str, str, str]]:
        """The card as (label, value, reason), without passwords and tokens."""
        rows = [*self._choices(), *self._facts()]
        rows += [("note", "", note) for note in self.notes]
        rows += [("PROBLEM", problem.what, f"→ {problem.action}") for problem in self.problems]
        return [(label, hidden(shortened(value)), hidden(reason)) for label, value, reason in rows]

    def _choices(self) -> list[tuple[str, str, str]]:
        return [
            ("model", self.model, self.model_reason),
            ("corpus", self.corpus, self.corpus_reason),
            ("scorer", self.scorer, self.scorer_reason),
            ("profile", self.profile.name, self.profile_reason),
        ]

    def _facts(self) -> list[tuple[str, str, str]]:
        hw = self.hardware
        hub = self.hub
        python = sys.version.split()[0]
        return [
            ("device", hw.device, _machine_in_words(hw)),
            ("dtype", hw.dtype, hw.dtype_reason),
            ("Hub", "reachable" if hub.reachable else "not used", f"{hub.endpoint}: {hub.reason}"),
            ("versions", f"Python {python}", version_line(self.versions)),
            ("results", f"seed {self.seed}", str(self.home)),
        ]

    def __repr__(self) -> str:
        lines = [f"  {label:<9} {value:<22} {reason}" for label, value, reason in self.rows()]
        return "\n".join([self.verdict, *lines])

    def _repr_html_(self) -> str:
        mark, colour = MARKS[self.verdict]
        rows = []
        for row in self.rows():
            cells = [f'<td style="text-align:left">{html.escape(text)}</td>' for text in row]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        style = f"border-left:6px solid {colour};padding-left:12px"
        return f'<div style="{style}"><b>{mark} {self.verdict}</b><table>{"".join(rows)}</table></div>{STYLES}'

    def to_json(self) -> dict[str, Any]:  # Any: what JSON holds
        """Everything on the card as plain values (`labkit doctor --json`), without passwords and tokens."""
        values = {"verdict": self.verdict, "setting": self.setting, **asdict(self), "home": str(self.home)}
        return _without_secrets(values)


def _without_secrets(value: Any) -> Any:  # Any: what JSON holds
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return value


def _machine_in_words(hw: Hardware) -> str:
    gpu = hw.gpu_name or "no GPU"
    if hw.gpu_memory_gb:
        gpu += f", {hw.gpu_memory_gb:.0f} GiB, CUDA {hw.cuda or '-'}"
    return f"{gpu}; {hw.threads} threads, {hw.ram_gb:.1f} GiB RAM, {hw.disk_gb:.0f} GiB free"


def start(profile: str | None = None, seed: int = 42, quiet: bool = False) -> Lab:
    """Decide device, model, corpus, scorer and sizes; show the READY card (not if `quiet`); seed everything.

    From here on, a notebook shows known failures in plain words (`labkit.failures`).

    Raises:
        LabError: the verdict is BLOCKED; every problem is named with its next action.
    """
    from IPython.display import display

    failures.install()
    lab = decide(profile, seed)
    if not quiet:
        display(lab)  # HTML in a notebook, text in a terminal
    if lab.problems:
        found = dict.fromkeys(hidden(problem.what) for problem in lab.problems)
        actions = dict.fromkeys(hidden(problem.action) for problem in lab.problems)
        raise LabError("the lab is BLOCKED", "; ".join(found), "; ".join(actions))
    seed_everything(seed)
    return lab


def decide(profile: str | None = None, seed: int = 42) -> Lab:
    """All that `start()` decides, problems included, without showing anything.

    Raises:
        LabError: a required package is not installed, or HF_ENDPOINT is no address.
    """
    packages = versions()
    _check_installed(packages)
    hub, answers = look_outside()  # before transformers is imported: offline mode must be on by then
    hw = hardware()
    home = lab_home()
    model = choose_model(*answers[:1])
    corpus = choose_corpus(*answers[1:])
    has_only_stand_ins = model.name in STAND_INS or not hub.reachable
    sizes, sizes_reason, profile_problems = _choose_profile(profile, hw, has_only_stand_ins)
    scorer, scorer_reason = choose_scorer(corpus.name)
    problems = [
        *model.problems,
        *token_problems(hub, model.name),
        *corpus.problems,
        *profile_problems,
        *version_problems(packages),
        *_disk_problems(home, hw),
    ]
    return Lab(
        model=model.name,
        model_reason=model.reason,
        corpus=corpus.name,
        corpus_reason=corpus.reason,
        scorer=scorer,
        scorer_reason=scorer_reason,
        profile=sizes,
        profile_reason=sizes_reason,
        hardware=hw,
        hub=hub,
        versions=packages,
        home=home,
        seed=seed,
        problems=tuple(problems),
        notes=tuple(_notes(hw)),
    )


def _check_installed(packages: tuple[Version, ...]) -> None:
    missing = [f"'{v.package}{v.required}'" for v in packages if not v.installed]
    if missing:
        raise LabError("packages are missing", ", ".join(missing), f"make install, or pip install {' '.join(missing)}")


def _choose_profile(
    argument: str | None, hw: Hardware, has_only_stand_ins: bool
) -> tuple[Profile, str, Sequence[Problem]]:
    """(profile, reason, problems) from LAB_PROFILE, the argument of `start()` and the device, in this order."""
    wanted = os.environ.get("LAB_PROFILE") or argument
    automatic = "gpu" if hw.device == "cuda" else "cpu"
    problems = []
    if wanted and wanted not in PROFILES:
        action = f"set LAB_PROFILE to {', '.join(OFFERED_PROFILES)}, or unset it"
        problems = [Problem(f"no profile {shortened(wanted)!r}", action)]
    reason = "asked for" if wanted else f"for a {hw.device} device"
    profile = PROFILES.get(wanted or automatic, PROFILES[automatic])
    if has_only_stand_ins:  # the scaling experiment needs models that are there
        profile = replace(profile, sweep_models=STAND_IN_SIZES[: len(profile.sweep_models)])
    return profile, reason, problems


def _disk_problems(home: Path, hw: Hardware) -> Iterator[Problem]:
    shown = shortened(str(home))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield Problem(f"no results folder {shown}: {reason}", "set LAB_HOME to a folder that you may write to")
        return
    if hw.disk_gb < LEAST_DISK_GB:
        yield Problem(f"{hw.disk_gb:.2f} GiB of disk free at {shown}", "free some, or set LAB_HOME to another disk")


def _notes(hw: Hardware) -> Iterator[str]:
    if hw.device == "cpu" and shutil.which("nvidia-smi"):
        yield "an NVIDIA driver is here, but torch sees no GPU: choose a GPU runtime, or a CUDA build of torch"
