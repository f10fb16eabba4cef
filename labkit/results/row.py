"""A row of the board: what ran, on what, with which settings, and its scores."""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from labkit import __version__
from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.machine.hardware import Hardware, hardware
from labkit.metrics.statistics import Interval
from labkit.models import LanguageModel
from labkit.storage import read_json

if TYPE_CHECKING:
    from labkit.metrics import Scores

SCORES = ("bleu", "inform", "success", "combined")
VERSIONS = ("torch", "transformers", "peft")  # beside labkit's own and CUDA's

Settings = Mapping[str, Any]  # {field: value} of a configuration; Any: whatever JSON can hold
Config = object  # a configuration: a dataclass (DecodingConfig, FinetuneConfig), a dict of settings, or None
Row = dict[str, Any]  # a row that was read; Any: students add fields of their own


class Result(TypedDict, total=False):
    """What `result_row` writes. A row may have more: students add fields of their own."""

    time: str  # when the row was made, ISO 8601
    task: str
    model: str  # a name, never a path of one machine: see `model_name`
    adapter: str | None  # its folder
    merged: str  # where an adapter was added into the weights: a fingerprint of it
    bits: int | None
    parameters: int | None
    corpus: str
    split: str
    dialogues: int  # how many were scored
    dialogue_ids: str | None  # which were scored: see `fingerprint`
    stand_in: bool  # the model or the corpus
    seed: int | None
    decoding: Settings | None
    training: Settings | None
    prompt: Settings  # its format, length, instruction and grammar, where a command-line run has told them
    bleu: float
    inform: float | None
    success: float | None
    combined: float | None
    richness: dict[str, float]
    dst: dict[str, float] | None
    notes: list[str]
    intervals: dict[str, Interval]  # 95 %
    seconds: float | None  # spent on writing the replies
    speed: dict[str, float]  # replies_per_second; tokens_per_second and steps_per_second of training
    device: str
    versions: dict[str, str | None]


@dataclass(frozen=True)
class Run:
    """What wrote predictions, and how: the part of a row that is known before anything is scored."""

    model: str
    adapter: str | None = None
    merged: str | None = None  # a fingerprint of the adapter that was added into the weights
    bits: int | None = None
    parameters: int | None = None
    stand_in: bool = False
    device: str = ""  # "Tesla T4", or "cpu (2 threads)"
    decoding: Settings | None = None
    training: Settings | None = None
    prompt: Settings = field(default_factory=dict)
    seconds: float | None = None  # spent on writing the replies
    speed: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        *,
        decoding: Config = None,
        training: Config = None,
        prompt: Settings | None = None,
        seconds: float | None = None,
        machine: Hardware | None = None,
    ) -> "Run":
        """The run of a model that is at hand.

        What `finetune` wrote beside an adapter is more exact than `training`, and goes before it.
        """
        speed = {}
        trained = settings_of(training)
        if lm.adapter and (Path(lm.adapter) / "result.json").is_file():
            trained = read_json(Path(lm.adapter) / "run.json")
            result = read_json(Path(lm.adapter) / "result.json")
            if "tokens_per_second" in result:
                speed["tokens_per_second"] = round(result["tokens_per_second"])
        return cls(
            model=lm.name,
            adapter=lm.adapter,
            merged=getattr(lm, "merged", None),
            bits=lm.bits,
            parameters=lm.n_parameters,
            stand_in=bool(lm.stand_in),
            device=_device(lm, machine or hardware()),
            decoding=settings_of(decoding),
            training=trained,
            prompt=prompt or {},
            seconds=seconds,
            speed=speed,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any], otherwise: str) -> "Run":  # Any: what JSON holds, not yet checked
        """A run from what `labkit generate` wrote beside predictions; `otherwise` is the name where it says none.

        Raises:
            LabError: a value is of a wrong type.
        """
        given = {_FIELDS.get(name, name): value for name, value in record.items()}
        known = {name: given[name] for name in _RECORDED if given.get(name) is not None}
        for name, value in known.items():
            _check_recorded(name, value)
        return cls(**{"model": otherwise, **known})

    def to_record(self) -> dict[str, Any]:  # Any: JSON
        """As JSON, for the file beside predictions."""
        return {_NAMES.get(name, name): value for name, value in asdict(self).items()}


_FIELDS = {"name": "model", "n_parameters": "parameters"}  # the names that .run.json has always had for these
_NAMES = {field: name for name, field in _FIELDS.items()}
# what a record may hold, and the types that JSON gives it
_RECORDED: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "adapter": str,
    "merged": str,
    "bits": int,
    "parameters": int,
    "stand_in": bool,
    "device": str,
    "decoding": dict,
    "training": dict,
    "prompt": dict,
    "seconds": (int, float),
    "speed": dict,
}


def _check_recorded(name: str, value: object) -> None:
    kind = _RECORDED[name]
    is_right = isinstance(value, kind)
    if isinstance(value, bool) and kind is not bool:
        is_right = False
    if name == "speed" and is_right:
        is_right = all(is_number(speed) for speed in value.values())
    if name == "seconds" and is_right:
        is_right = is_number(value) and value >= 0
    if not is_right:
        found = f"{name} is {str(value)[:40]!r}"
        raise LabError("the record beside the predictions (.run.json) makes no sense", found, "mend or delete it")


LARGEST = 1e300  # of a number in a row: above it sums overflow


def is_number(value: object) -> bool:
    """A finite number, and no bool."""
    kind = type(value)
    is_plain = kind is float or kind is int  # asked first, since nearly all are
    if is_plain or (isinstance(value, int | float) and kind is not bool):
        return -LARGEST < value < LARGEST  # NaN is not, either
    return False


def settings_of(config: Config) -> Settings | None:
    """A configuration as a dict; a dict, or None, as it is."""
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return config


def _device(lm: LanguageModel, machine: Hardware) -> str:
    if lm.device == "cuda":
        return str(machine.gpu_name)
    return f"{lm.device} ({machine.threads} threads)"


def model_name(name: str) -> str:
    """A model's name as rows have it: of a folder or file on this machine its last part, a Hub id as it is.

    >>> model_name("/home/me/models/pythia"), model_name("EleutherAI/pythia-70m")
    ('pythia', 'EleutherAI/pythia-70m')
    """
    is_path = name.startswith(("/", "~", ".")) or "\\" in name or name.count("/") > 1 or name[1:2] == ":"
    if not is_path:
        return name
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else name


def fingerprint(keys: Iterable[str]) -> str | None:
    """Which dialogues these are, as 12 hex digits, whatever their order; None where none is known."""
    ordered = sorted(keys)
    if not ordered:
        return None
    return hashlib.sha256("\n".join(ordered).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def result_row(
    task: str,
    lm: LanguageModel | Run,
    corpus: Corpus,
    split: str,
    scores: "Scores",
    *,
    decoding: Config = None,
    training: Config = None,
    seconds: float | None = None,
    lab: Lab | None = None,
) -> Result:
    """Everything that a result needs to be understood and repeated: what ran, on what, with which settings and where.

    Args:
        lm: the model that wrote the replies, or a `Run` where the model is not at hand. A `Run` has its own settings
            and seconds: `decoding`, `training` and `seconds` are for a model.
        decoding, training: configurations (dataclasses) or dicts of settings; what `finetune` wrote beside an adapter
            is more exact, and goes before `training`.
        seconds: spent on writing the replies.
    """
    machine = lab.hardware if lab else hardware()
    run = lm
    if not isinstance(run, Run):
        run = Run.of(lm, decoding=decoding, training=training, seconds=seconds, machine=machine)
    run = _nameable(run)
    row: Result = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "task": task,
        "model": run.model,
        "adapter": run.adapter,
        "bits": run.bits,
        "parameters": run.parameters,
        "corpus": corpus.name,
        "split": split,
        "dialogues": scores.n_dialogues,
        "dialogue_ids": fingerprint(getattr(scores, "keys", ())),
        "stand_in": bool(run.stand_in or corpus.stand_in),
        "seed": _seed(run, lab),
        "decoding": run.decoding,
        "training": run.training,
        "bleu": scores.bleu,
        "inform": scores.inform,
        "success": scores.success,
        "combined": scores.combined,
        "richness": scores.richness,
        "dst": scores.dst,
        "notes": list(scores.notes),
    }
    intervals = getattr(scores, "intervals", None)
    if intervals:
        row["intervals"] = intervals
    if run.merged:
        row["merged"] = run.merged
    if run.prompt:
        row["prompt"] = run.prompt
    row["seconds"] = round(run.seconds, 1) if run.seconds else run.seconds
    row["speed"] = _speed(run, scores.n_turns)
    row["device"] = run.device
    row["versions"] = {"labkit": __version__, "cuda": machine.cuda, **_versions()}
    return row


def _nameable(run: Run) -> Run:
    """The run with names in place of this machine's paths; the adapter's folder is the board's to shorten."""
    training = run.training
    if training and isinstance(training.get("model"), str):
        training = {**training, "model": model_name(training["model"])}
    return replace(run, model=model_name(run.model), training=training)


def _seed(run: Run, lab: Lab | None) -> int | None:
    """The seed of decoding, else of training, else of the session."""
    for settings in (run.decoding, run.training):
        if settings and "seed" in settings:
            return settings["seed"]
    return lab.seed if lab else None


def _speed(run: Run, n_replies: int) -> dict[str, float]:
    speed = dict(run.speed)
    if run.seconds:
        speed = {"replies_per_second": round(n_replies / run.seconds, 2), **speed}
    return speed


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONS}


# --- old rows ---------------------------------------------------------------------------------------------------------


def same_settings(recorded: Settings | None, config: Config) -> bool:
    """Whether a record, perhaps an older labkit's, says the same as a configuration (a dataclass, or None).

    The one rule for old files: a field that the record does not have had the default that it has now, and a field that
    the configuration no longer has must be empty.
    """
    if recorded is None or config is None:
        return recorded is None and config is None
    if not isinstance(recorded, dict):
        return False
    names = [option.name for option in fields(config)]
    for option in fields(config):
        before = recorded.get(option.name, option.default)
        if _as_json(before) != _as_json(getattr(config, option.name)):
            return False
    return all(value is None for name, value in recorded.items() if name not in names)


def _as_json(value: object) -> str:
    """A value as a record holds it: a tuple is a list there."""
    return json.dumps(value, sort_keys=True, default=str)


# --- in words ---------------------------------------------------------------------------------------------------------


def in_words(value: object, names: Iterable[str] | None = None) -> object:
    """Settings in one line, `strategy=sample, top_p=0.9`, with `names` only these; a boolean as a word."""
    if isinstance(value, dict):
        return ", ".join([f"{name}={value[name]}" for name in value if names is None or name in names])
    if isinstance(value, bool):
        return "stand-in" if value else "real"
    return value


def is_tuned(row: Row) -> bool:
    """Whether the model of a row has learnt: by an adapter, by one that was merged into its weights, or in full."""
    training = row.get("training")
    in_full = isinstance(training, dict) and training.get("full_finetune") is True
    return bool(row.get("adapter") or row.get("merged") or in_full)


def tuned_or_not(row: Row) -> str:
    """ "tuned" or "untuned"."""
    return "tuned" if is_tuned(row) else "untuned"


def label(row: Row, index: int | None = None) -> str:
    """A row's name in a table, or in a chart with its number, corpus and task."""
    parts = [row.get("model"), tuned_or_not(row)]
    if index is not None:
        parts += [row.get("corpus"), row.get("task")]
    text = ", ".join(str(part) for part in parts if part)
    if row.get("stand_in"):
        text += " (stand-in)"
    return f"{index} {text}" if index else text
