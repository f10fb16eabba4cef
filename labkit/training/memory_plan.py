"""How much memory a training step or a generation takes, from the configuration alone: nothing is loaded."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.compat import KeptOnMeta
from labkit.errors import LabError
from labkit.machine.hardware import choose_dtype, hardware
from labkit.machine.network import hub_status
from labkit.machine.one_line import first_line
from labkit.machine.quiet import quiet
from labkit.models import LanguageModel, attach_adapter, embedding_names
from labkit.models.find import find_model
from labkit.models.layers import linear_layers, lora_targets
from labkit.models.names import STAND_INS
from labkit.training.alike_layers import FEW, MORE, alike_layers, shortened, with_all_layers
from labkit.training.live_bytes import LiveBytes

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

# Bytes of state for a parameter. AdamW, not in here, has two moments in float32 or in a byte each; Lion has one, and
# Adafactor keeps sums of rows and columns only.
OPTIMISER_BYTES = {"adafactor": 0, "sgd": 0, "lion_32bit": 4, "lion_8bit": 1}
ADAMW_BYTES = 8
ADAMW_8BIT_BYTES = 2
GRADIENT_BYTES = 4
PARTS = ("weights", "adapter", "gradients", "optimiser", "activations", "cache")
BLOCK = 64  # weights of 4 bits that share a constant (Dettmers et al. 2023, section 3)
CONSTANTS_BLOCK = 256  # constants that share a second one, with double quantisation
# Options of a LoRA that mean the same in every layer; layers_to_transform and rank_pattern, say, do not.
SAME_IN_ALL = {"r", "alpha", "dropout", "modules", "gradient_checkpointing", "use_dora", "use_rslora"}
Size = tuple[int, int, int]  # sequences, tokens in each, and tokens of all that have a loss or are wanted
MOST_LAYERS = 10_000  # the largest models have some hundred; more would be built for minutes


def plan_memory(
    model: "str | PretrainedConfig",
    *,
    bits: int | None = None,
    batch: int = 8,
    length: int = 512,
    dtype: str | None = None,
    full_finetune: bool = False,
    train_embeddings: bool | None = None,
    optim: str = "adamw_torch",
    double_quant: bool = True,
    target_share: float = 0.5,
    generate: bool = False,
    **lora: object,
) -> dict[str, float]:
    """Megabytes (10^6 bytes) of each of PARTS at the peak of an optimiser step; their sum is the peak.

    The architecture is built on torch's meta device, where tensors have shapes but no numbers, and one step is run
    there while the bytes alive are counted, so that any architecture of transformers has its plan. Of more than eight
    layers that are all of one kind two and four are run, which say the same (`alike_layers`).

    On top comes what the process takes before (Python and libraries; a CUDA context of about 0.5 GB), the weights of a
    handle that is tuned in full and keeps its own, and on a CPU the allocator's gaps: small models took 1.1 to 1.8
    times their plan (`python tests/support/measure_memory.py usual`). On a GPU the mixture of number types under
    autocast is only approximated.

    Args:
        model: a name for `load_model` (of a Hub id only config.json is fetched), or a configuration of transformers.
        bits, dtype, full_finetune, train_embeddings, optim, double_quant: as for fine-tuning; `dtype` is the number
            type the device computes in ("float16" for a T4), by default this device's.
        batch, length: sequences in a forward pass, and tokens in each. A CPU that trains a LoRA in float32 has about
            as many sequences in memory as it has threads (`labkit.training.parts`), however large the batch is.
        target_share: share of the tokens that have a loss; the output head sees only those.
        generate: plan `batch` rows of `length` tokens being written instead of a training step; no adapter.
        lora: r, modules, gradient_checkpointing, … as `attach_adapter` takes them.

    Raises:
        LabError: no such model, no layer matches `modules`, an architecture that the meta device cannot run, or more
            layers than anyone trains.
    """
    config = _config(model)
    _check(config, batch, length)
    native = dtype or choose_dtype(hardware().device)[0]
    bits = bits or (32 if native == "float32" else 16)
    compute = _compute_type(bits, native, full_finetune)
    size = (batch, length, batch if generate else max(1, int(batch * length * target_share)))

    def ready(net: "torch.nn.Module") -> "torch.nn.Module":
        if not (full_finetune or generate):
            net = _with_adapter(net, str(model), config, train_embeddings, lora)
        elif lora.get("gradient_checkpointing"):
            net.gradient_checkpointing_enable({"use_reentrant": False})
        if bits == 16:  # fewer bits: all that is not quantised is kept, and handed on, in float32
            net.to(_torch_type(compute))
        return net

    try:
        with quiet():
            net = _built(config, trains=full_finetune and not generate)
            weights = _weights(net, bits, _torch_type(compute).itemsize, double_quant)
            tuned = [] if full_finetune or generate else lora_targets(net, lora.get("modules", "linear"))
            layers = alike_layers(net, tuned) if lora.keys() <= SAME_IN_ALL else None
            counts = _counts_of_few(net, layers, ready, size) if layers else _counts(ready(net), size)
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        action = "try a step with a small batch and look at the memory it takes"
        raise LabError(f"no memory plan for {config.model_type} models", first_line(error), action) from error
    trainable = counts["trainable"]
    sizes = {
        "weights": weights,
        "adapter": 0 if full_finetune else GRADIENT_BYTES * trainable,
        "gradients": GRADIENT_BYTES * trainable,
        "optimiser": _optimiser_bytes(optim) * trainable,
        "activations": max(0, max(counts["first peak"], counts["last peak"]) - counts["gradients"]),
        "cache": _cache(config, _torch_type(compute).itemsize) * batch * length if generate else 0,
    }
    return {name: sizes[name] / 1e6 for name in PARTS}


def _check(config: "PretrainedConfig", batch: int, length: int) -> None:
    if batch < 1 or length < 1:
        raise LabError("a plan is for one token of one sequence or more", f"batch={batch}, length={length}", "")
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > MOST_LAYERS:
        raise LabError(f"no memory plan for {layers} layers", "", f"{MOST_LAYERS} at most")


def _compute_type(bits: int, native: str, full_finetune: bool) -> str:
    if bits == 32 or full_finetune:
        return "float32"
    if native == "float32":
        return "bfloat16"
    return native


def _torch_type(name: str) -> "torch.dtype":
    import torch

    return getattr(torch, name)


def _optimiser_bytes(optim: str) -> int:
    name = optim.removeprefix("paged_")
    if name in OPTIMISER_BYTES:
        return OPTIMISER_BYTES[name]
    return ADAMW_8BIT_BYTES if name.endswith("8bit") else ADAMW_BYTES


def _config(model: "str | PretrainedConfig") -> "PretrainedConfig":
    from transformers import AutoConfig

    if not isinstance(model, str):
        return model
    is_local = model in STAND_INS or Path(model).expanduser().exists()
    reason = None
    if not is_local:
        hub = hub_status()  # before anything waits a minute for a Hub that is not there
        reason = None if hub.reachable else hub.reason
    try:
        with quiet():
            return AutoConfig.from_pretrained(find_model(model)[0] if is_local else model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        action = "give a configuration, e.g. transformers.LlamaConfig(hidden_size=4096, …)"
        raise LabError(f"no configuration of {model!r}", reason or first_line(error), action) from error


def _built(config: "PretrainedConfig", *, trains: bool) -> "torch.nn.Module":
    """The architecture on the meta device."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        net.requires_grad_(trains)
        net.tie_weights()  # on the meta device transformers 5.0 does not
    return net


def _with_adapter(
    net: "torch.nn.Module",
    name: str,
    config: "PretrainedConfig",
    train_embeddings: bool | None,
    lora: dict[str, object],
) -> "torch.nn.Module":
    import torch

    is_stand_in = name in STAND_INS or getattr(config, "lab_stand_in", False)
    trained = is_stand_in if train_embeddings is None else train_embeddings
    lm = LanguageModel(
        name=name,
        model=net,
        tokenizer=None,
        codec=None,
        bits=32,
        dtype="float32",
        device="meta",
        stand_in=is_stand_in,
    )
    with torch.device("meta"):
        return attach_adapter(lm, modules_to_save=embedding_names(net) if trained else None, **lora).model


def _weights(net: "torch.nn.Module", bits: int, itemsize: int, double_quant: bool) -> float:
    """Bytes of the base weights. Blocks of 64 share a float32 constant; `double_quant` keeps it in 8 bits, and one
    float32 for 256 of them (Dettmers et al. 2023, section 3). What is not quantised is in float32 for training."""
    total = sum(parameter.numel() for parameter in net.parameters())
    if bits >= 16:
        return total * itemsize
    quantised = sum(net.get_submodule(name).weight.numel() for name in linear_layers(net))
    constants = (1 + 4 / CONSTANTS_BLOCK) / BLOCK if double_quant else 4 / BLOCK
    bytes_each = 1 if bits == 8 else 0.5 + constants
    return quantised * bytes_each + 4 * (total - quantised)


def _cache(config: "PretrainedConfig", itemsize: int) -> int:
    """Bytes of keys and values of one token in all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        heads = 1  # falcon-7b; the larger Falcons share keys, too, but cache them once for each head
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * itemsize


def _counts_of_few(
    net: "torch.nn.Module",
    layers: str,
    ready: "Callable[[torch.nn.Module], torch.nn.Module]",
    size: Size,
) -> dict[str, float]:
    """`_counts` of a model from those of the same with fewer of its `layers`, which are of one kind."""
    counts = []
    for n_layers in (FEW, MORE):
        shorter = ready(shortened(net, layers, n_layers))
        counts.append(_counts(shorter, size, middle=f"{layers}.{n_layers // 2}"))
    return with_all_layers(*counts, len(net.get_submodule(layers)))


def _counts(net: "torch.nn.Module", size: Size, middle: str | None = None) -> dict[str, int]:
    """What a forward and, where something is trained, a backward pass take: bytes alive at their highest, until the
    backward pass is through the layer `middle` and after, those of gradients, and parameters that are trained."""
    import torch

    from labkit.models.cross_entropy import SummedCrossEntropy

    batch, length, n_targets = size
    with torch.device("meta"):
        ids = torch.zeros(batch, length, dtype=torch.long)  # [B, T]
        # [B, 1, T, T]: whole, because a mask [B, T] would be looked into, and there are no numbers in it
        mask = torch.ones(batch, 1, length, length, dtype=torch.bool)
        labels = torch.zeros(n_targets, dtype=torch.long)  # [N]
    base = net.get_base_model() if hasattr(net, "get_base_model") else net
    head = base.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].flatten(0, 1)[:n_targets],))  # [B, T, H] → [N, H]
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    net.train(bool(trainable))
    gradients_wanted = nullcontext() if trainable else torch.no_grad()
    live = LiveBytes([*net.parameters(), *net.buffers()])
    if middle is not None:
        base.get_submodule(middle).register_forward_pre_hook(_marking(live), with_kwargs=True)
    with torch.device("meta"), KeptOnMeta(base), live, gradients_wanted:
        logits = net(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()  # [N, V]
        if trainable:
            loss = SummedCrossEntropy.apply(logits, labels)
            del logits
            loss.backward()
    return {
        "first peak": live.peak_before,
        "last peak": live.peak,
        "gradients": sum(parameter.grad.nbytes for parameter in trainable if parameter.grad is not None),
        "trainable": sum(parameter.numel() for parameter in trainable),
    }


def _marking(live: LiveBytes) -> "Callable[[torch.nn.Module, tuple, dict[str, object]], None]":
    """A hook that begins another peak when a layer's backward pass is over: its input has its gradient then."""

    def mark(layer: "torch.nn.Module", inputs: tuple, options: dict[str, object]) -> None:
        states = inputs[0] if inputs else options["hidden_states"]  # [B, T, H]
        if states.requires_grad:
            states.register_hook(lambda _: live.begin_another_peak())

    return mark
