"""What a run writes about itself, and reads when it goes on: run.json before the first step, result.json last."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.models import LanguageModel, save_adapter, save_model
from labkit.storage import last_checkpoint, read_json, sha256, write_json
from labkit.training.config import SCORES, FinetuneConfig, FinetuneResult, History, HistoryRow, OwnScore

if TYPE_CHECKING:
    from labkit.training.trainer import TargetTrainer

RUN = "run.json"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
WEIGHT_FILES = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
# Settings that change the memory a step takes, and not what it learns: a run may go on with others
MEMORY_SETTINGS = ("batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
WRITTEN_LATER = ("own_score", "merged")  # an earlier labkit did not write them
NOT_COMPARED = ("computes_in",)  # found out on the machine, not asked for
ONE_RUN = "delete it or change --out"

Json = dict[str, object]


@dataclass(frozen=True)
class RunRecord:
    """run.json: the configuration, and what else decides the weights."""

    config: FinetuneConfig
    corpus: str
    own_score: str | None  # a fingerprint of the student's function
    callbacks: tuple[str, ...] = ()  # fingerprints of the student's callbacks
    computes_in: str | None = None  # number type of a step's matrix products; None before it was found out
    preferences: str | None = None  # what `prefer` learns from, and how, in words
    merged: str | None = None  # of the adapter that the model had taken in before: two bots may have one name

    def to_json(self) -> Json:
        record: Json = {**asdict(self.config), "corpus": self.corpus, "merged": self.merged}
        if self.own_score:
            record["own_score"] = self.own_score
        if self.callbacks:
            record["callbacks"] = list(self.callbacks)
        if self.preferences:
            record["preferences"] = self.preferences
        if self.computes_in:
            record["computes_in"] = self.computes_in
        return record


def record_of(
    lm: LanguageModel | None,
    corpus: Corpus,
    config: FinetuneConfig,
    own_score: OwnScore | None,
    callbacks: Sequence[object] = (),
) -> RunRecord:
    """What this call is about to do."""
    merged = None
    if lm is not None:
        config = replace(config, model=lm.name, bits=lm.bits)
        merged = lm.merged
    fingerprints = [_fingerprint_of_callback(callback) for callback in callbacks]
    return RunRecord(
        config=config,
        corpus=corpus.name,
        own_score=fingerprint(own_score) if own_score else None,
        callbacks=tuple(fingerprints),
        merged=merged,
    )


def fingerprint(function: OwnScore) -> str:
    """A function's name and a hash of what it does: the same in another process, another for another body."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    if code is None:
        return name
    digest = hashlib.sha256(repr(_content(code)).encode("utf-8", "backslashreplace")).hexdigest()
    return f"{name}:{digest[:12]}"


def _fingerprint_of_callback(callback: object) -> str:
    """The name of its class, and what its methods do."""
    methods = [method for method in vars(type(callback)).values() if isinstance(method, FunctionType)]
    told = [fingerprint(method) for method in methods]
    return " ".join([type(callback).__qualname__, *told])


def _content(code: CodeType) -> tuple[object, ...]:
    """Instructions, names and constants, those of functions inside included; no file and no line numbers."""
    constants = []
    for constant in code.co_consts:
        constants.append(_content(constant) if isinstance(constant, CodeType) else constant)
    return (code.co_code, code.co_names, code.co_varnames, tuple(constants))


def earlier_record(out: Path, run: RunRecord) -> Json | None:
    """run.json of an earlier call into `out`; None where there is none, or where it never came to a checkpoint.

    Raises:
        LabError: the folder holds a run of another configuration, or run.json is none.
    """
    if not (out / RUN).exists():
        return None
    old = read_json(out / RUN)
    if not isinstance(old, dict):
        raise LabError(f"{out / RUN} is no record of a run", f"it holds {type(old).__name__}", ONE_RUN)
    differing = _differences(_filled_up(old), run.to_json())
    if not differing:
        return old
    has_begun = (out / RESULT).exists() or last_checkpoint(out / CHECKPOINTS) is not None
    if has_begun:
        raise LabError(f"{out} holds a run of another configuration", "; ".join(differing), ONE_RUN)
    return None


def _filled_up(old: Json) -> Json:
    """An earlier labkit's record with the fields that it did not have, and the warm-up that it really made."""
    filled: Json = asdict(FinetuneConfig()) | old
    warmup, steps = filled.get("warmup_steps"), filled.get("max_steps")
    if isinstance(warmup, int) and isinstance(steps, int):
        filled["warmup_steps"] = min(warmup, longest_warmup(steps))
    return filled


def longest_warmup(max_steps: int) -> int:
    """A fifth of the steps: a longer warm-up would leave a short run without its schedule."""
    return max_steps // 5


def _differences(old: Json, new: Json) -> list[str]:
    same_step = _rows_a_step(old) == _rows_a_step(new)
    differing = []
    for name in {**old, **new}:
        if name in NOT_COMPARED or (name in MEMORY_SETTINGS and same_step):
            continue
        if name in WRITTEN_LATER and name not in old:
            continue
        if old.get(name) != new.get(name):
            differing.append(f"{name} {old.get(name)!r} → {new.get(name)!r}")
    return differing


def _rows_a_step(record: Json) -> object:
    rows, passes = record.get("batch_size"), record.get("gradient_accumulation_steps")
    if not isinstance(rows, int) or not isinstance(passes, int):
        return None
    return rows * passes


def finished(out: Path) -> FinetuneResult | None:
    """The result in `out`, if a run has finished there and its weights are the ones that it wrote.

    Raises:
        LabError: result.json is none.
    """
    path = out / RESULT
    if not path.exists():
        return None
    told = read_json(path)
    try:
        weights = told.pop("weights", None)
        result = FinetuneResult(**{**told, "adapter": out})
    except (TypeError, AttributeError) as error:
        raise LabError(
            f"{path} is no result of a run", str(error), "delete it: the same call writes it anew"
        ) from error
    file = weights_file(out)
    if file is None or (weights is not None and sha256(file) != weights):
        print(f"{path} is there, but not the weights that belong to it: they are made again from the last checkpoint")
        return None
    return result


def weights_file(out: Path) -> Path | None:
    """The file of trained weights that a folder begins with; None where there is none."""
    for name in WEIGHT_FILES:
        if (out / name).is_file():
            return out / name
    return None


def write_result(result: FinetuneResult) -> None:
    """Write result.json beside the weights, last, with the hash of the file that it belongs to."""
    out = result.adapter
    file = weights_file(out)
    record = {**asdict(result), "adapter": ".", "weights": None if file is None else sha256(file)}
    write_json(out / RESULT, record)


def write_weights(trainer: "TargetTrainer", lm: LanguageModel, config: FinetuneConfig, folder: Path) -> None:
    """The first process writes the adapter or model; with FSDP each process has a part of it to hand in."""
    state = None
    if trainer.is_fsdp_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return
    known = []  # a folder inside a run's folder is the run's, although an earlier labkit left no list in it
    if folder.is_dir():
        known = [path.name for path in folder.iterdir()]
    if config.full_finetune:
        save_model(lm, folder, state, known=known)
    else:
        save_adapter(lm, folder, state, known=known)


def history_of(log: Sequence[HistoryRow]) -> History:
    """Losses and scores by step, for a plot."""
    kept = {"step", "loss", "learning_rate", "eval_sample"}
    kept.update(f"eval_{name}" for name in SCORES)
    history: History = []
    for row in log:
        if "loss" in row or "eval_loss" in row:
            history.append({name: value for name, value in row.items() if name in kept})
    return history
