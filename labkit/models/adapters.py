"""LoRA adapters (Hu et al. 2022): which layers get one, save, load, merge, share."""

import copy
import importlib.util
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.machine.out_of_memory import memory_errors
from labkit.machine.quiet import quiet
from labkit.models.language_model import LanguageModel
from labkit.models.load import load_model
from labkit.storage import atomic_folder, write_text

if TYPE_CHECKING:
    import torch

HEADS = ("lm_head", "embed_out")  # a LoRA there would be trained on the whole vocabulary, and is never wanted


def count_parameters(model: "torch.nn.Module") -> tuple[int, int]:
    """(trainable, total). Two 4-bit weights share a byte, so their tensor says half of what the layer has."""
    sizes = [(_numel(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)


def _numel(parameter: "torch.nn.Parameter") -> int:
    state = getattr(parameter, "quant_state", None)
    return state.shape.numel() if state is not None else parameter.numel()


def linear_layers(model: "torch.nn.Module") -> list[str]:
    """Full names of all linear layers but the output head."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    named = [name for name, module in model.named_modules() if isinstance(module, Linear | Conv1D)]
    return [name for name in named if name.split(".")[-1] not in HEADS]


def embedding_names(model: "torch.nn.Module") -> list[str]:
    """Full names of the input and output embeddings."""
    wanted = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if any(module is one for one in wanted)]


def lora_targets(model: "torch.nn.Module", modules: str = "linear") -> list[str]:
    """Full names of the layers that get a LoRA.

    Args:
        modules: "linear" (all), "attention" (projections inside an attention block), "ffn" (all others), or a regular
            expression that is searched in the full name: `query|value` and `layers\\.[01]\\.` both work.

    Raises:
        LabError: nothing matches (the candidates are listed), or the expression is none.
    """
    candidates = linear_layers(model)
    attention = [name for name in candidates if any("att" in part for part in name.split(".")[:-1])]
    presets = {"linear": candidates, "attention": attention, "ffn": [n for n in candidates if n not in attention]}
    try:
        matched = presets.get(modules, [name for name in candidates if re.search(modules, name)])
    except re.error as error:
        raise LabError(f"LoRA modules {modules!r} is no regular expression", str(error), "mend the pattern") from error
    if not matched:
        raise LabError(f"no layer matches LoRA modules {modules!r}", "", f"candidates: {layer_kinds(candidates)}")
    return matched


def layer_kinds(names: Sequence[str]) -> str:
    """Full names of layers in one line: the same name in all blocks counts as one, with how often it is there."""
    kinds = Counter(re.sub(r"\d+", "N", name) for name in names)
    return ", ".join(f"{kind} ({n})" for kind, n in sorted(kinds.items()))


def attach_adapter(
    lm: LanguageModel,
    *,
    r: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    modules: str = "linear",
    gradient_checkpointing: bool = False,
    init_lora_weights: bool | str = True,
    **options: Any,
) -> LanguageModel:
    """The model with a new LoRA adapter of rank `r`, scaled by alpha / r; only the adapter is trainable.

    The LoRA layers are put into `lm.model` itself. `init_lora_weights` "loftq" begins with what quantisation lost;
    what else it may be, and `options` (use_dora, use_rslora, …), say peft's LoraConfig.

    Raises:
        LabError: `lm` has an adapter, no layer matches `modules` (see `lora_targets`), or LoftQ has nothing to mend.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    _without_adapter(lm)
    loftq = init_lora_weights == "loftq"
    if loftq and (lm.bits != 4 or options.get("use_dora")):  # DoRA takes its magnitudes from a LoRA that is zero
        found = f"bits={lm.bits}, use_dora={bool(options.get('use_dora'))}"
        raise LabError("LoftQ is for 4-bit weights, without DoRA", found, "choose bits=4 or another start")
    options["init_lora_weights"] = loftq or init_lora_weights
    options |= {"r": r, "lora_alpha": alpha, "lora_dropout": dropout, "target_modules": lora_targets(lm.model, modules)}
    model = lm.model
    if lm.bits < 16:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.name_or_path = model.name_or_path = lm.name  # saved with the adapter: a name, not this machine's path
    with quiet():
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    if loftq:
        _begin_with_the_loss(model.get_base_model(), lm.source)
    return replace(lm, model=model, adapter="new")


def _begin_with_the_loss(model: "torch.nn.Module", source: str) -> None:
    """Set every LoRA to the best rank-r approximation of what quantisation lost, W - Q: LoftQ (Li et al. 2024,
    algorithm 1) with one iteration. The one in peft computes on CUDA only."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    exact = load_model(source, bits=32, device="cpu").model
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            lost = exact.get_submodule(name).weight - dequantize_module_weight(layer.base_layer).float().cpu()
            r = layer.r["default"]
            u, s, v = torch.svd_lowrank(lost.detach(), min(2 * r, *lost.shape), niter=4)  # [out, 2r], [2r], [in, 2r]
            layer.lora_A["default"].weight.data.copy_((v * s.sqrt()).T[:r])
            layer.lora_B["default"].weight.data.copy_((u * s.sqrt())[:, :r] / layer.scaling["default"])


def _without_adapter(lm: LanguageModel) -> None:
    if lm.adapter is not None:
        raise LabError(f"{lm.name} already has the adapter {lm.adapter!r}", "", "merge it, or load the model anew")


def save_adapter(lm: LanguageModel, folder: Path | str, state: dict[str, Any] | None = None) -> Path:
    """Write the adapter (adapter_model.safetensors, adapter_config.json), the folder whole or not at all.

    `state`: the model's state dictionary, where its weights are shared out over processes.
    """
    if lm.adapter is None:
        raise LabError(f"{lm.name} has no adapter to save", "", "attach_adapter first, or save_model")
    with atomic_folder(folder) as partial:
        # "auto" embedding layers would ask the Hub about the base model
        lm.model.save_pretrained(partial, state_dict=state, save_embedding_layers=False)
        (partial / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
    return Path(folder)


def load_adapter(lm: LanguageModel, folder: Path | str, *, trainable: bool = False) -> LanguageModel:
    """The model with the adapter of `folder` (or of a Hub id) on it.

    Raises:
        LabError: no adapter there, or one that was trained on a model of another shape.
    """
    from peft import PeftModel

    _without_adapter(lm)
    if Path(folder).exists() and not (Path(folder) / "adapter_config.json").is_file():
        raise LabError(f"{folder} is no adapter folder", "it has no adapter_config.json", "give the output of finetune")
    try:
        with quiet(), memory_errors("choose fewer bits or a smaller model"):
            model = PeftModel.from_pretrained(lm.model, str(folder), is_trainable=trainable)
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        found, action = first_line(error), "load the model it was trained on"
        raise LabError(f"adapter {folder} does not fit {lm.name}", found, action) from error
    return replace(lm, model=model.train(trainable), adapter=str(folder))


def merge(lm: LanguageModel) -> LanguageModel:
    """A new model with the adapter added into its weights: W + (alpha / r) B A.

    Merging into 4-bit weights would round most of the adapter away, so a quantised base is read again in 16 or 32 bit;
    the result then differs from the quantised model by the rounding that quantisation had cost. `lm` stays as it is.
    """
    if lm.adapter is None:
        raise LabError(f"{lm.name} has no adapter to merge", "", "load_model(…, adapter=folder)")
    if lm.bits >= 16:
        return replace(lm, model=copy.deepcopy(lm.model).merge_and_unload().eval(), adapter=None)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(lm, Path(folder) / "adapter")
        base = load_model(lm.source, bits=32 if lm.dtype == "float32" else 16, device=lm.device)
        merged = merge(load_adapter(base, Path(folder) / "adapter"))
    return replace(merged, name=lm.name, stand_in=lm.stand_in)


def save_model(lm: LanguageModel, folder: Path | str, state: dict[str, Any] | None = None) -> Path:
    """Write weights (safetensors) and tokenizer as a folder that `load_model` reads, whole or not at all.

    `state` as for `save_adapter`.

    Raises:
        LabError: an adapter is attached, or the weights are quantised (`merge` gives a model that can be saved).
    """
    _without_adapter(lm)
    if lm.bits < 16:
        raise LabError(f"{lm.name} is quantised to {lm.bits} bit", "", "load it with bits=16 or 32, then save")
    with atomic_folder(folder) as partial:
        lm.model.save_pretrained(partial, state_dict=state)
        lm.tokenizer.save_pretrained(partial)
    return Path(folder)


def _token() -> str | None:
    """From HF_TOKEN, a login or Colab's secrets, where huggingface_hub looks, or from Kaggle's; it is kept nowhere."""
    from huggingface_hub import get_token

    token = get_token()
    if token is None and importlib.util.find_spec("kaggle_secrets"):
        from kaggle_secrets import UserSecretsClient

        with suppress(Exception):  # there is no such secret, or the notebook may not read it
            token = UserSecretsClient().get_secret("HF_TOKEN")
    return token


def push_to_hub(lm: LanguageModel, repo: str, card: str = "", *, private: bool = True) -> str:
    """Create the repository `owner/name` and upload the model, its tokenizer and its card; see `_token`.

    Raises:
        LabError: no token, no network, or the Hub refuses.
    """
    from huggingface_hub import HfApi, errors

    try:
        with tempfile.TemporaryDirectory() as folder:
            save_model(lm, Path(folder) / "model")
            if card:
                write_text(Path(folder) / "model" / "README.md", card)
            hub = HfApi(token=_token())
            url = hub.create_repo(repo, private=private, exist_ok=True)
            hub.upload_folder(repo_id=url.repo_id, folder_path=Path(folder) / "model")
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled, OSError) as error:
        action = "check the network and HF_TOKEN (with write access)"
        raise LabError(f"cannot push to {repo}", first_line(error), action) from error
    return str(url)
