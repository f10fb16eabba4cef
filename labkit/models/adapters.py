"""LoRA adapters (Hu et al. 2022): put a new one on a model, save it, load it."""

import math
import re
import warnings
from collections.abc import Collection
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.machine.out_of_memory import memory_errors
from labkit.machine.quiet import quiet
from labkit.models.find import check_name, download_adapter
from labkit.models.language_model import LanguageModel
from labkit.models.layers import lora_targets, matching
from labkit.models.loftq import begin_with_the_loss
from labkit.models.shared_weights import second_tree
from labkit.storage import atomic_folder, read_json

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
CONFIG_FILE = "adapter_config.json"


def attach_adapter(
    lm: LanguageModel,
    *,
    r: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    modules: str = "linear",
    gradient_checkpointing: bool = False,
    init_lora_weights: bool | str = True,
    **options: object,
) -> LanguageModel:
    """A model with a new LoRA adapter of rank `r`, scaled by alpha / r; only the adapter is trainable.

    It shares its frozen weights with `lm`, which stays as it is. `init_lora_weights` "loftq" begins with what
    quantisation lost; what else it may be, and `options` (use_dora, use_rslora, …), say peft's LoraConfig.

    Raises:
        LabError: `lm` has an adapter, no layer matches `modules` (see `lora_targets`), LoftQ has nothing to mend, or
            a rank or dropout that cannot be.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    check_no_adapter(lm)
    _check_shape(r, alpha, dropout)
    with_loftq = init_lora_weights == "loftq"
    if with_loftq:
        _check_loftq(lm, use_dora=bool(options.get("use_dora")))
    targets = lora_targets(lm.model, modules)
    model = second_tree(lm.model)
    if lm.bits < 16:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.name_or_path = model.name_or_path = lm.name  # saved with the adapter: a name, not this machine's path
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        init_lora_weights=True if with_loftq else init_lora_weights,
        **options,
    )
    with quiet():
        tuned = get_peft_model(model, config)
    if with_loftq:
        begin_with_the_loss(tuned.get_base_model(), lm.source)
    return replace(lm, model=tuned, adapter="new")


def _check_shape(r: int, alpha: int, dropout: float) -> None:
    if not _is_number(r, Integral) or r < 1:
        raise LabError("a LoRA has a rank of 1 or more", f"r={r!r}", "choose a whole number, such as 4 to 64")
    if not _is_number(alpha, Real) or not 0 < alpha < math.inf:
        raise LabError("a LoRA is scaled by alpha / r, more than 0", f"alpha={alpha!r}", "choose r to 2 r")
    if not _is_number(dropout, Real) or not 0 <= dropout < 1:
        raise LabError("dropout is a share from 0 up to, not including, 1", f"dropout={dropout!r}", "choose 0 to 0.1")


def _is_number(value: object, kind: type) -> bool:
    """Whether it is a number of this kind, Python's or NumPy's; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_loftq(lm: LanguageModel, use_dora: bool) -> None:
    if lm.bits != 4 or use_dora:  # DoRA takes its magnitudes from a LoRA that is zero
        found = f"bits={lm.bits}, use_dora={use_dora}"
        raise LabError("LoftQ is for 4-bit weights, without DoRA", found, "choose bits=4 or another start")


def check_no_adapter(lm: LanguageModel) -> None:
    """Raises:
    LabError: adapter layers are in the model.
    """
    if lm.adapter is not None or lm.has_adapter:
        raise LabError(f"{lm.name} already has the adapter {lm.adapter!r}", "", "merge it, or load the model anew")


def save_adapter(
    lm: LanguageModel,
    folder: Path | str,
    state: "dict[str, torch.Tensor] | None" = None,
    *,
    known: Collection[str] = (),
) -> Path:
    """Write the adapter (adapter_model.safetensors, adapter_config.json), the folder whole or not at all.

    `state`: the model's state dictionary, where its weights are shared out over processes. `known`: names in the folder
    that the caller wrote (see `writable_folder`).
    """
    if lm.adapter is None:
        raise LabError(f"{lm.name} has no adapter to save", "", "attach_adapter first, or save_model")
    with atomic_folder(folder, known=known) as partial:
        # "auto" embedding layers would ask the Hub about the base model
        lm.model.save_pretrained(partial, state_dict=state, save_embedding_layers=False)
        (partial / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
    return Path(folder)


def load_adapter(lm: LanguageModel, folder: Path | str, *, trainable: bool = False) -> LanguageModel:
    """A model with the adapter of `folder` (or of a Hub id) on it; `lm` stays the base model, and both can be used.

    Raises:
        LabError: no adapter there, one in a pickle (it could run code), one of a kind that adds no layers, or one whose
            tensors do not fit the model (the first is named).
    """
    from peft import PeftModel

    check_no_adapter(lm)
    path = _adapter_folder(folder)
    config = _read_config(path, lm)
    tensors = _read_tensors(path, lm)
    try:
        with quiet(), warnings.catch_warnings(), memory_errors("choose fewer bits or a smaller model"):
            warnings.simplefilter("ignore")  # what peft warns about is an error below
            model = second_tree(lm.model)
            _unshare(model, tensors)
            tuned = PeftModel.from_pretrained(model, str(path), is_trainable=trainable, config=config)
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise _does_not_fit(folder, lm, first_line(error)) from error
    _check_tensors(tuned, tensors, folder, lm)
    if not trainable:
        _in_the_models_type(tuned, lm.dtype)
    if _changes_nothing(tensors):
        print(f"note: adapter {folder} changes nothing: every B of its LoRA is 0, as before the first step")
    return replace(lm, model=tuned.train(trainable), adapter=str(folder))


def _adapter_folder(folder: Path | str) -> Path:
    """The folder of an adapter on this disk."""
    check_name(str(folder), "adapter", "give the output of finetune")
    path = Path(folder).expanduser()
    if not path.exists():
        path = download_adapter(str(folder), (CONFIG_FILE, WEIGHTS_FILE))
    if not (path / CONFIG_FILE).is_file():
        raise LabError(f"{folder} is no adapter folder", f"it has no {CONFIG_FILE}", "give the output of finetune")
    if not (path / WEIGHTS_FILE).is_file():
        if (path / PICKLED_FILE).is_file():
            found = f"{PICKLED_FILE} is a pickle, which can run code"
            raise LabError(f"adapter {folder} is not loaded", found, f"ask its author for {WEIGHTS_FILE}")
        action = "train it again, or copy the folder again"
        raise LabError(f"{folder} is no whole adapter", f"it has no {WEIGHTS_FILE}", action)
    return path


def _read_config(path: Path, lm: LanguageModel) -> "PeftConfig":
    """The adapter's configuration, of a kind that adds layers to the model."""
    from peft import PeftConfig

    told = read_json(path / CONFIG_FILE)
    if not isinstance(told, dict):
        raise _does_not_fit(path, lm, f"{CONFIG_FILE} is no JSON object")
    try:
        with quiet():
            config = PeftConfig.from_pretrained(str(path))
    except Exception as error:  # whatever a stranger's file makes peft raise
        raise _does_not_fit(path, lm, f"{CONFIG_FILE} cannot be read: {first_line(error)}") from error
    if config.is_prompt_learning:
        kind = getattr(config.peft_type, "value", config.peft_type)
        found = f"it is {kind}, which puts vectors before the prompt and no layers into the model"
        raise LabError(f"adapter {path.name} is not supported", found, "choose a LoRA adapter")
    _bound_patterns(config, path, lm)
    return config


def _bound_patterns(config: "PeftConfig", path: Path, lm: LanguageModel) -> None:
    """Regular expressions of a stranger's file, which peft would try without a limit: they become the names they
    match, found with one."""
    names = [name for name, _ in lm.model.named_modules()]
    names += [name for name, _ in lm.model.named_parameters()]  # of experts, whose weights are no layers
    try:
        for field in ("target_modules", "exclude_modules"):
            pattern = getattr(config, field, None)
            if isinstance(pattern, str) and pattern != "all-linear":
                setattr(config, field, matching(pattern, names, whole=True))
        for field in ("rank_pattern", "alpha_pattern"):
            chosen: dict[str, float] = {}
            for pattern, value in (getattr(config, field, None) or {}).items():
                for name in matching(rf"(.*\.)?({pattern})$", names, whole=True):  # as peft asks; the first one counts
                    chosen.setdefault(re.escape(name), value)
            setattr(config, field, chosen)
    except LabError as error:
        raise _does_not_fit(path, lm, f"{CONFIG_FILE}: {error.what}: {error.found}") from error
    except (TypeError, AttributeError) as error:
        raise _does_not_fit(path, lm, f"{CONFIG_FILE}, {field} is no table of patterns") from error


def _read_tensors(path: Path, lm: LanguageModel) -> "dict[str, torch.Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path / WEIGHTS_FILE)
    except (SafetensorError, OSError, ValueError) as error:
        raise _does_not_fit(path, lm, f"{WEIGHTS_FILE} is damaged: {first_line(error)}") from error


def _unshare(model: "PreTrainedModel", tensors: "dict[str, torch.Tensor]") -> None:
    """Weights of the base model that an adapter's file overwrites become this tree's own: the other keeps its own."""
    import torch

    parameters = dict(model.named_parameters())
    for key in tensors:
        name = key.removeprefix("base_model.model.")
        if name in parameters:
            parent, _, last = name.rpartition(".")
            own = torch.nn.Parameter(parameters[name].data.clone(), requires_grad=False)
            setattr(model.get_submodule(parent), last, own)


def _check_tensors(
    model: "PeftModel", tensors: "dict[str, torch.Tensor]", folder: Path | str, lm: LanguageModel
) -> None:
    """Every tensor of the file has its place in the model, and every place its tensor; peft only warns."""
    from peft import get_peft_model_state_dict

    places = get_peft_model_state_dict(model, save_embedding_layers=False)
    base = dict(model.get_base_model().named_parameters())
    for name in places:
        if name not in tensors:
            raise _does_not_fit(folder, lm, f"the model's {name} is not in its file")
    for name in tensors:
        if name not in places and name.removeprefix("base_model.model.") not in base:
            raise _does_not_fit(folder, lm, f"the model has no place for its {name}")


def _does_not_fit(folder: Path | str, lm: LanguageModel, found: str) -> LabError:
    return LabError(f"adapter {folder} does not fit {lm.name}", found, "load the model it was trained on")


def _in_the_models_type(model: "PeftModel", dtype: str) -> None:
    """Trained embeddings are kept in float32; a model of 16 bits hands on and takes 16 bits."""
    import torch
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.modules_to_save.to(getattr(torch, dtype))


def _changes_nothing(tensors: "dict[str, torch.Tensor]") -> bool:
    """Whether it is a LoRA whose B matrices are all zero, and nothing else."""
    if not all("lora_" in name for name in tensors):
        return False
    outputs = [tensor for name, tensor in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    return bool(outputs) and not any(tensor.any() for tensor in outputs)
