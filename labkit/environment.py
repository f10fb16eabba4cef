"""What this machine can do and what the lab uses on it: decided once, in `start()`, and shown on the READY card."""

import html
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import threading
import time
import timeit
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from labkit import failures
from labkit.errors import LabError
from labkit.storage import shipped

REAL_MODEL, REAL_CORPUS = "EleutherAI/pythia-70m", "multiwoz22"
STAND_IN_MODEL, STAND_IN_CORPUS = "mini-pythia", "miniwoz"
STAND_IN_SIZES = ("mini-pythia-500k", "mini-pythia-2m", "mini-pythia-8m")
STAND_INS = (STAND_IN_MODEL, *STAND_IN_SIZES)
STAND_IN = {"LAB_MODEL": STAND_IN_MODEL, "LAB_CORPUS": STAND_IN_CORPUS}
OTHERS = {  # what a variable may name instead
    "LAB_MODEL": "a Hub id, a folder with config.json, a .gguf file, or mini-pythia",
    "LAB_CORPUS": "miniwoz, multiwoz22, or a folder in the MultiWOZ 2.2 layout",
}
MODULES = {"scikit-learn": "sklearn", "umap-learn": "umap"}  # where the import name is not the package's
GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """The device and its number type. Memory and disk in GiB (disk: what is free where results go)."""

    device: str  # "cpu" | "cuda" | "mps"
    gpu_name: str
    gpu_memory_gb: float
    cuda: str  # the version that torch was built for; "" for a CPU build
    threads: int
    ram_gb: float
    disk_gb: float
    dtype: str  # "float32" | "bfloat16" | "float16"
    dtype_reason: str


@dataclass(frozen=True)
class Hub:
    """Whether models can be downloaded from the Hugging Face Hub."""

    reachable: bool
    reason: str
    endpoint: str


@dataclass(frozen=True)
class Problem:
    """Something that keeps the lab from running as asked, and what to do about it."""

    what: str
    action: str


@dataclass(frozen=True)
class Version:
    """A package as it is required, pinned, installed and imported by this process ("" where it is not)."""

    package: str
    required: str
    pinned: str
    installed: str
    imported: str


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


def _version_line(versions: tuple[Version, ...]) -> str:
    pinned = [v for v in versions if v.pinned]
    moved = ", ".join(f"{v.package} {v.installed} (pin {v.pinned})" for v in pinned if not _same(v.pinned, v.installed))
    shown = ", ".join(f"{v.package} {v.installed}" for v in versions if v.package in ("torch", "transformers", "peft"))
    state = f"{len(pinned)} of {len(versions)} as pinned" if pinned else "no pins here"
    return f"{shown}; " + (f"not as pinned: {moved}" if moved else state)


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


# --- hardware ---------------------------------------------------------------------------------------------------------


def hardware() -> Hardware:
    """The device that torch would use, and a number type that it is fast in."""
    import psutil
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    gpu, memory = "Apple GPU" if device == "mps" else "", 0
    if device == "cuda":
        gpu, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    ram = min(psutil.virtual_memory().total, _container_memory())
    disk = shutil.disk_usage(next(folder for folder in (lab_home(), *lab_home().parents) if folder.exists())).free
    sizes = (torch.get_num_threads(), ram / GIB, disk / GIB)
    return Hardware(device, gpu, memory / GIB, torch.version.cuda or "", *sizes, *choose_dtype(device))


def choose_dtype(device: str) -> tuple[str, str]:
    """(dtype, reason) for a device. float32 on a CPU even where bfloat16 is fast: scores stay comparable."""
    import torch

    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        if major >= 8 and torch.cuda.is_bf16_supported():  # which is True for emulation as well: ask both
            return "bfloat16", f"compute capability {major}.{minor} has bfloat16 units"
        return "float16", f"compute capability {major}.{minor} has no bfloat16 units"
    if device == "mps":
        return "float32", "the safe type on an Apple GPU"
    trains = ", and training at 4 bits" if bf16_speedup() > FAST_BF16 else ""
    speed = f"bfloat16 has {bf16_speedup():.2g}x its speed here, measured (bits=16{trains})"
    return "float32", f"scores stay comparable; {speed}"


FAST_BF16 = 1.3  # a CPU with units for bfloat16 measures about 2, one without them far below 1


@cache
def bf16_speedup() -> float:
    """Measured speed of a bfloat16 matrix product over a float32 one on this CPU; 0.02 to 1 without hardware for it.

    Two or so with such hardware: what a 4-bit training run computes in is decided by it.
    """
    import torch

    def seconds(dtype: torch.dtype) -> float:  # the fastest of many: other work on the machine only ever adds
        x = torch.ones(512, 512, dtype=dtype)
        return min(timeit.repeat("x[:64] @ x", globals={"x": x}, number=5, repeat=10))

    return seconds(torch.float32) / seconds(torch.bfloat16)


def _container_memory() -> float:
    """The container's limit in bytes, which psutil does not see; infinite without one."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return float("inf")


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


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


# --- paths ------------------------------------------------------------------------------------------------------------


def clone_root() -> Path | None:
    """The clone of the repository around the working directory, or around labkit's own file."""
    folders = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[1]]
    return next((f for f in folders if (f / "pyproject.toml").is_file() and (f / "labkit").is_dir()), None)


def lab_home() -> Path:
    """Where results go: LAB_HOME, else a mounted Google Drive, Kaggle's working folder, or outputs/ of the clone."""
    if named := os.environ.get("LAB_HOME"):
        return Path(named).expanduser().absolute()
    drive, kaggle = Path("/content/drive/MyDrive"), Path("/kaggle/working")
    if drive.is_dir():
        return drive / "neural-dialogue-lab"
    return kaggle if kaggle.is_dir() else (clone_root() or Path.cwd()) / "outputs"


def cache_dir() -> Path:
    """Where downloads go: LAB_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("LAB_CACHE") or f"{base}/neural-dialogue-lab").expanduser().absolute()


# --- network ----------------------------------------------------------------------------------------------------------


def multiwoz_url() -> str:
    """The code host that MultiWOZ 2.2 is downloaded from; LAB_MULTIWOZ_URL names a mirror."""
    return (os.environ.get("LAB_MULTIWOZ_URL") or "https://raw.githubusercontent.com").rstrip("/")


def hub_status(timeout: float = 3.0) -> Hub:
    """Whether the Hub answers within `timeout` seconds in all; where it does not, offline mode is set."""
    return look_outside(timeout)[0]


def look_outside(timeout: float = 3.0) -> tuple[Hub, list[int | str]]:
    """The Hub, and what it says about the model and what MultiWOZ's host says: HTTP codes, or what went wrong."""
    from huggingface_hub import constants, utils

    endpoint = constants.ENDPOINT
    if constants.is_offline_mode():
        return Hub(False, "offline mode is on (HF_HUB_OFFLINE)", endpoint), []
    model = f"{endpoint}/{os.environ.get('LAB_MODEL') or REAL_MODEL}/resolve/main/config.json"
    token = utils.build_hf_headers()  # for the Hub only
    hub, *answers = _probe([(endpoint, {}), (model, token), (multiwoz_url(), {})], timeout)
    if isinstance(hub, int) and hub < 500:
        return Hub(True, "answers", endpoint), answers
    os.environ["HF_HUB_OFFLINE"] = "1"  # else transformers asks an absent Hub for up to 70 s, again and again
    constants.HF_HUB_OFFLINE = True
    return Hub(False, f"{hub}; offline mode is on from here", endpoint), answers


def _probe(targets: list[tuple[str, dict[str, str]]], timeout: float) -> list[int | str]:
    """HEAD each (URL, headers) in its own thread; who has not answered after `timeout` s in all is left behind."""
    import httpx

    answers: list[int | str] = [f"no answer within {timeout:g} s"] * len(targets)
    end = time.monotonic() + timeout

    def ask(index: int, url: str, headers: dict[str, str]) -> None:
        try:
            answers[index] = httpx.head(url, headers=headers, timeout=timeout).status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            answers[index] = f"no answer: {type(error).__name__}"

    threads = [threading.Thread(target=ask, args=(i, *target), daemon=True) for i, target in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)


# --- choices ----------------------------------------------------------------------------------------------------------


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
        where = "local files" if _has_dialogues(name) else ""
    elif (cache_dir() / name / "COMPLETE").is_file():
        where = "in the local cache"
    elif isinstance(answer, int) and answer < 500:
        where = "can be downloaded"
    return _settle("LAB_CORPUS", name, where, answer)


def _has_dialogues(folder: str) -> bool:
    """Whether a folder has the MultiWOZ layout: any other JSON files would only fail when they are read."""
    from labkit.corpora.multiwoz import has_dialogues

    return has_dialogues(folder)


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


# --- versions ---------------------------------------------------------------------------------------------------------


def versions() -> tuple[Version, ...]:
    """Every package that labkit requires, as pinned, installed and already imported."""
    from packaging.requirements import Requirement

    root = clone_root() or Path(__file__).resolve().parents[1]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", _text(root / "constraints.txt").lower(), re.MULTILINE))
    try:
        lines = importlib.metadata.requires("labkit") or []
    except importlib.metadata.PackageNotFoundError:  # a clone that is only on sys.path
        lines = tomllib.loads(_text(root / "pyproject.toml")).get("project", {}).get("dependencies", [])
    needs = [Requirement(line) for line in lines if "extra ==" not in line]
    return tuple(_version(need.name, str(need.specifier), pins.get(need.name.lower(), "")) for need in needs)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _version(name: str, required: str, pinned: str) -> Version:
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed = ""
    imported = str(getattr(sys.modules.get(MODULES.get(name, name)), "__version__", ""))
    return Version(name, required, pinned, installed, imported)


def _version_problems(packages: tuple[Version, ...]) -> Iterator[Problem]:
    from packaging.specifiers import SpecifierSet

    for v in packages:
        if not SpecifierSet(v.required).contains(v.installed, prereleases=True):
            action = f"make install, or pip install '{v.package}{v.required}'"
            yield Problem(f"{v.package} {v.installed} is installed, {v.required} is needed", action)
        elif v.imported and not _same(v.imported, v.installed):
            what = f"{v.package} {v.installed} is installed, but {v.imported} is imported"
            yield Problem(what, "restart the kernel and run the first cell again")


def _same(left: str, right: str) -> bool:
    return left.split("+")[0] == right.split("+")[0]  # 2.13.0+cpu is 2.13.0
