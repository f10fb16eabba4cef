"""What the lab uses on this machine: decided once, in `start()`, and shown on the READY card."""

import html
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit import failures
from labkit.corpora.download import multiwoz_url
from labkit.corpora.multiwoz import has_dialogues
from labkit.errors import LabError
from labkit.machine.hardware import Hardware, hardware, seed_everything
from labkit.machine.network import Hub, decided, offline, probe
from labkit.machine.paths import cache_dir, lab_home
from labkit.machine.problem import Problem
from labkit.machine.versions import Version, _version_line, _version_problems, versions
from labkit.models.names import REAL_MODEL, STAND_IN_MODEL, STAND_IN_SIZES, STAND_INS
from labkit.storage import shipped

REAL_CORPUS = "multiwoz22"
STAND_IN_CORPUS = "miniwoz"
STAND_IN = {"LAB_MODEL": STAND_IN_MODEL, "LAB_CORPUS": STAND_IN_CORPUS}


OTHERS = {  # what a variable may name instead
    "LAB_MODEL": "a Hub id, a folder with config.json, a .gguf file, or mini-pythia",
    "LAB_CORPUS": "miniwoz, multiwoz22, or a folder in the MultiWOZ 2.2 layout",
}


def _size(help_text: str) -> Any:
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


PROFILES = {name: Profile(name, **sizes) for name, sizes in shipped(__file__, "profiles.toml").items()}


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
        return "stand-in" if self.corpus == STAND_IN_CORPUS or self.model in STAND_INS else "real"

    @property
    def verdict(self) -> str:
        """ "READY", "READY (stand-in)" or "BLOCKED"."""
        return "BLOCKED" if self.problems else "READY" if self.setting == "real" else "READY (stand-in)"

    def rows(self) -> list[tuple[str, str, str]]:
        """The card as (label, value, reason)."""
        hw, hub = self.hardware, self.hub
        gpu = f"{hw.gpu_name}, {hw.gpu_memory_gb:.0f} GiB, CUDA {hw.cuda or '-'}" if hw.gpu_name else "no GPU"
        machine = f"{gpu}; {hw.threads} threads, {hw.ram_gb:.1f} GiB RAM, {hw.disk_gb:.0f} GiB free"
        return [
            *((name, getattr(self, name), getattr(self, f"{name}_reason")) for name in ("model", "corpus", "scorer")),
            ("profile", self.profile.name, self.profile_reason),
            ("device", hw.device, machine),
            ("dtype", hw.dtype, hw.dtype_reason),
            ("Hub", "reachable" if hub.reachable else "not used", f"{hub.endpoint}: {hub.reason}"),
            ("versions", f"Python {sys.version.split()[0]}", _version_line(self.versions)),
            ("results", f"seed {self.seed}", str(self.home)),
            *(("note", "", note) for note in self.notes),
            *(("PROBLEM", problem.what, f"→ {problem.action}") for problem in self.problems),
        ]

    def __repr__(self) -> str:
        return "\n".join([self.verdict, *(f"  {label:<9} {value:<22} {why}" for label, value, why in self.rows())])

    def _repr_html_(self) -> str:
        mark, colour = {"READY": ("✓", "#1a7f37"), "BLOCKED": ("✗", "#cf222e")}.get(self.verdict, ("◐", "#9a6700"))
        cell = '<td style="text-align:left">{}</td>'.format
        table = "".join(f"<tr>{''.join(cell(html.escape(text)) for text in row)}</tr>" for row in self.rows())
        style = f"border-left:6px solid {colour};padding-left:12px"
        return f'<div style="{style}"><b>{mark} {self.verdict}</b><table>{table}</table></div>'

    def to_json(self) -> dict[str, Any]:
        """Everything on the card as plain values (`labkit doctor --json`)."""
        return {"verdict": self.verdict, "setting": self.setting, **asdict(self), "home": str(self.home)}


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
        found, actions = (dict.fromkeys(parts) for parts in zip(*map(astuple, lab.problems), strict=True))
        raise LabError("the lab is BLOCKED", "; ".join(found), "; ".join(actions))
    seed_everything(seed)
    return lab


def decide(profile: str | None = None, seed: int = 42) -> Lab:
    """All that `start()` decides, problems included, without showing anything.

    Raises:
        LabError: a required package is not installed.
    """
    packages = versions()
    if missing := [f"'{v.package}{v.required}'" for v in packages if not v.installed]:
        raise LabError("packages are missing", ", ".join(missing), f"make install, or pip install {' '.join(missing)}")
    hub, answers = look_outside()  # before transformers is imported: offline mode must be on by then
    hw, home = hardware(), lab_home()
    *model, model_problems = choose_model(*answers[:1])
    *corpus, corpus_problems = choose_corpus(*answers[1:])
    *sizes, profile_problems = _choose_profile(profile, hw, model[0] in STAND_INS or not hub.reachable)
    problems = (*model_problems, *corpus_problems, *profile_problems, *_version_problems(packages))
    chosen = (*model, *corpus, *_choose_scorer(corpus[0]), *sizes, hw, hub, packages, home, seed)
    return Lab(*chosen, (*problems, *_disk_problems(home, hw)), tuple(_notes(hw)))


def _disk_problems(home: Path, hw: Hardware) -> Iterator[Problem]:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        yield Problem(f"no results folder {home}: {error.strerror}", "set LAB_HOME to a folder that you may write to")
    if hw.disk_gb < 0.5:
        yield Problem(f"{hw.disk_gb:.2f} GiB of disk free at {home}", "free some, or set LAB_HOME to another disk")


def _notes(hw: Hardware) -> Iterator[str]:
    if hw.device == "cpu" and shutil.which("nvidia-smi"):
        yield "an NVIDIA driver is here, but torch sees no GPU: choose a GPU runtime, or a CUDA build of torch"


def look_outside(timeout: float = 3.0) -> tuple[Hub, list[int | str]]:
    """The Hub, and what it says about the model and what MultiWOZ's host says: HTTP codes, or what went wrong."""
    from huggingface_hub import constants, utils

    endpoint = constants.ENDPOINT
    if constants.is_offline_mode():
        return offline(endpoint), []
    model = f"{endpoint}/{os.environ.get('LAB_MODEL') or REAL_MODEL}/resolve/main/config.json"
    token = utils.build_hf_headers()  # for the Hub only
    hub, *answers = probe([(endpoint, {}), (model, token), (multiwoz_url(), {})], timeout)
    return decided(endpoint, hub), answers


def choose_model(answer: int | str = "offline mode is on") -> tuple[str, str, list[Problem]]:
    """(name, reason, problems) from LAB_MODEL, the cache and the Hub's answer; the stand-in only for the default."""
    found = _attached(f"*{REAL_MODEL.split('/')[1]}*/config.json", f"*{REAL_MODEL.split('/')[1]}*/*/config.json")
    name = os.environ.get("LAB_MODEL") or (str(found.parent) if found else REAL_MODEL)
    path, where = Path(name).expanduser(), ""
    if name in STAND_INS:
        where = "a stand-in that ships with the lab"
    elif path.exists() or name[0] in "/.~" or path.suffix == ".gguf":
        answer = "no such folder or file, or no model in it"
        where = "local files" * (path.is_file() if path.suffix == ".gguf" else (path / "config.json").is_file())
    elif _model_cached(name):
        where = "in the local cache"
    elif isinstance(answer, int) and answer < 400:
        where = "can be downloaded"
    return _settle("LAB_MODEL", name, where, answer)


def _attached(*patterns: str) -> Path | None:
    """The first such file among those attached to this session: Kaggle's inputs, or below the folder LAB_ATTACHED."""
    files = Path(os.environ.get("LAB_ATTACHED") or "/kaggle/input")
    deeper = ("*/" * depth + pattern for depth in range(4) for pattern in patterns)  # not "**": inputs can be huge
    return next((path for pattern in deeper for path in sorted(files.glob(pattern))), None)


def _model_cached(name: str) -> bool:
    """Configuration and weights: a download that was cut off after config.json is no model."""
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots")
    return all(any(snapshots.glob(f"*/{file}")) for file in ("config.json", "model*.safetensors*"))


def choose_corpus(answer: int | str = "offline mode is on") -> tuple[str, str, list[Problem]]:
    """(name, reason, problems) from LAB_CORPUS, the cache and the code host's answer, likewise."""
    found = _attached("test/dialogues_001.json")
    name, where = os.environ.get("LAB_CORPUS") or (str(found.parents[1]) if found else REAL_CORPUS), ""
    if name == STAND_IN_CORPUS:
        where = "a stand-in that is generated, not downloaded"
    elif name != REAL_CORPUS:
        answer = "no such folder, or no dialogues in it"
        where = "local files" if has_dialogues(name) else ""
    elif (cache_dir() / name / "COMPLETE").is_file():
        where = "in the local cache"
    elif isinstance(answer, int) and answer < 500:
        where = "can be downloaded"
    return _settle("LAB_CORPUS", name, where, answer)


def _settle(variable: str, name: str, where: str, answer: int | str) -> tuple[str, str, list[Problem]]:
    """The name that was asked for, where it is to be had; else a problem, or the stand-in where nobody asked."""
    asked = os.environ.get(variable)
    if where:
        return name, f"asked for by {variable}; {where}" if asked else f"the default; {where}", []
    why = f"not to be had ({f'HTTP {answer}' if isinstance(answer, int) else answer})"
    if not asked:
        return STAND_IN[variable], f"stand-in for {name}, which is {why}", []
    problem = Problem(f"{variable}={name} is {why}", f"set {variable} to {OTHERS[variable]}; or unset it")
    return name, problem.what, [problem]


def _choose_scorer(corpus: str) -> tuple[str, str]:
    if corpus == STAND_IN_CORPUS:
        return "labkit", "mwzeval knows MultiWOZ only"
    if importlib.util.find_spec("mwzeval"):
        return "mwzeval", "the benchmark's own scorer is installed"
    return "labkit", "mwzeval is not installed; labkit's figures agree with it"


def _choose_profile(argument: str | None, hw: Hardware, stand_ins: bool) -> tuple[Profile, str, list[Problem]]:
    wanted = os.environ.get("LAB_PROFILE") or argument
    automatic = "gpu" if hw.device == "cuda" else "cpu"
    known = f"set LAB_PROFILE to {', '.join(PROFILES)}, or unset it"
    problems = [Problem(f"no profile {wanted!r}", known)] if wanted and wanted not in PROFILES else []
    profile = PROFILES.get(wanted or automatic, PROFILES[automatic])
    if stand_ins:  # the scaling experiment needs models that are there
        profile = replace(profile, sweep_models=STAND_IN_SIZES[: len(profile.sweep_models)])
    return profile, "asked for" if wanted else f"for a {hw.device} device", problems
