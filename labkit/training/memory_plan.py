"""How much memory a training step or a generation takes, from the configuration alone: nothing is loaded."""

import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

from labkit.errors import LabError
from labkit.machine.hardware import choose_dtype, hardware
from labkit.machine.network import hub_status
from labkit.machine.one_line import first_line
from labkit.machine.quiet import quiet
from labkit.models import LanguageModel, attach_adapter, embedding_names
from labkit.models.find import find_model
from labkit.models.layers import linear_layers
from labkit.models.names import STAND_INS

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

# Bytes of state for a parameter. AdamW, not in here, has two moments in float32 or in a byte each; Lion has one, and
# Adafactor keeps sums of rows and columns only.
OPTIMISER_BYTES = {"adafactor": 0, "sgd": 0, "lion_32bit": 4, "lion_8bit": 1}


PARTS = ("weights", "adapter", "gradients", "optimiser", "activations", "cache")


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
    **lora: Any,
) -> dict[str, float]:
    """Megabytes (10^6 bytes) of each of PARTS at the peak of an optimiser step; their sum is the peak.

    The architecture is built on torch's meta device, where tensors have shapes but no numbers, and one step is run
    there while the bytes alive are counted, so that any architecture of transformers has its plan. What the process
    takes before (Python and libraries; a CUDA context of about 0.5 GB) comes on top. On a GPU the mixture of number
    types under autocast is only approximated.

    Args:
        model: a name for `load_model` (of a Hub id only config.json is fetched), or a configuration of transformers.
        bits, dtype, full_finetune, train_embeddings, optim, double_quant: as for fine-tuning; `dtype` is the number
            type the device computes in ("float16" for a T4), by default this device's.
        batch, length: sequences in a forward pass, and tokens in each.
        target_share: share of the tokens that have a loss; the output head sees only those.
        generate: plan `batch` rows of `length` tokens being written instead of a training step; no adapter.
        lora: r, modules, gradient_checkpointing, … as `attach_adapter` takes them.

    Raises:
        LabError: no such model, no layer matches `modules`, or an architecture that the meta device cannot run.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(model)
    native = dtype or choose_dtype(hardware().device)[0]
    bits = bits or (32 if native == "float32" else 16)
    compute = "float32" if bits == 32 or full_finetune else "bfloat16" if native == "float32" else native
    with quiet(), torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(full_finetune)
        itemsize = getattr(torch, compute).itemsize
        net.tie_weights()  # on the meta device transformers 5.0 does not
        weights = _weights(net, bits, itemsize, double_quant)
        if not (full_finetune or generate):
            stand_in = model in STAND_INS or getattr(config, "lab_stand_in", False)
            trained = stand_in if train_embeddings is None else train_embeddings
            lm = LanguageModel(str(model), net, None, None, 32, "float32", "meta", stand_in)
            net = attach_adapter(lm, modules_to_save=embedding_names(net) if trained else None, **lora).model
        elif lora.get("gradient_checkpointing"):
            net.gradient_checkpointing_enable({"use_reentrant": False})
        trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
        if bits == 16:  # fewer bits: all that is not quantised is kept, and handed on, in float32
            net.to(getattr(torch, compute))
        try:
            activations = _peak(net, batch, length, batch if generate else max(1, int(batch * length * target_share)))
        except (RuntimeError, TypeError, ValueError) as error:  # it looks into meta tensors, which hold nothing
            action = "try a step with a small batch and look at the memory it takes"
            raise LabError(f"no memory plan for {config.model_type} models", first_line(error), action) from error
    state = OPTIMISER_BYTES.get(optim.removeprefix("paged_"), 2 if optim.endswith("8bit") else 8)
    sizes = [weights, 0 if full_finetune else 4 * trainable, 4 * trainable, state * trainable, activations]
    cache = _cache(config, itemsize) * batch * length if generate else 0
    return {name: size / 1e6 for name, size in zip(PARTS, [*sizes, cache], strict=True)}


def _config(model: "str | PretrainedConfig") -> "PretrainedConfig":
    from transformers import AutoConfig

    if not isinstance(model, str):
        return model
    local = model in STAND_INS or Path(model).expanduser().exists()
    hub = local or hub_status()  # before anything waits a minute for a Hub that is not there
    try:
        with quiet():
            return AutoConfig.from_pretrained(find_model(model)[0] if local else model)
    except (OSError, ValueError) as error:
        action = "give a configuration, e.g. transformers.LlamaConfig(hidden_size=4096, …)"
        raise LabError(f"no configuration of {model!r}", getattr(hub, "reason", first_line(error)), action) from error


def _weights(net: "torch.nn.Module", bits: int, itemsize: int, double_quant: bool) -> float:
    """Bytes of the base weights. Blocks of 64 share a float32 constant; `double_quant` keeps it in 8 bits, and one
    float32 for 256 of them (Dettmers et al. 2023, section 3). What is not quantised is in float32 for training."""
    total = sum(p.numel() for p in net.parameters())
    if bits >= 16:
        return total * itemsize
    small = sum(net.get_submodule(name).weight.numel() for name in linear_layers(net))
    constants = (1 + 4 / 256) / 64 if double_quant else 4 / 64
    return small * (1 if bits == 8 else 0.5 + constants) + 4 * (total - small)


def _cache(config: "PretrainedConfig", itemsize: int) -> int:
    """Bytes of keys and values of one token in all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        heads = 1  # falcon-7b; the larger Falcons share keys, too, but cache them once for each head
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * itemsize


def _peak(net: "torch.nn.Module", batch: int, length: int, targets: int) -> int:
    """Bytes that a forward and, where something is trained, a backward pass need at once beyond the gradients."""
    import torch

    ids = torch.zeros(batch, length, dtype=torch.long)
    # [B, 1, T, T]: whole, because a mask [B, T] would be looked into, and there are no numbers in it
    mask = torch.ones(batch, 1, length, length, dtype=torch.bool)
    labels = torch.zeros(targets, dtype=torch.long)
    head = (net.get_base_model() if hasattr(net, "get_base_model") else net).get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].flatten(0, 1)[:targets],))
    training = any(p.requires_grad for p in net.parameters())
    net.train(training)
    kernel = mock.patch("torch.nn.functional.scaled_dot_product_attention", _attention)
    plain = mock.patch("torch.is_autocast_enabled", lambda *_: False)  # transformers 5.0 asks it about "meta": an error
    grad = nullcontext() if training else torch.no_grad()
    with _live([*net.parameters(), *net.buffers()]) as live, kernel, plain, grad:
        logits = net(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()  # [N, V]
        if training:
            loss = torch.nn.functional.cross_entropy(logits, labels)
            del logits
            loss.backward()
    gradients = sum(p.grad.nbytes for p in net.parameters() if p.grad is not None)
    return max(0, live.peak - gradients)


def _attention(query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", attn_mask: Any = None, **_: Any):
    """The kernel that neither keeps nor writes all T x T weights; a meta tensor would be sent to the one that does."""
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))  # [B, heads, T, D]
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mask = attn_mask if attn_mask is None else attn_mask.to(query.dtype)
    return flash(query, key, value, 0.0, attn_mask is None, attn_mask=mask)[0]


def _live(known: "list[torch.Tensor]") -> Any:
    """A context that counts the bytes of tensors made in it, beside those in `known`: `live` and their `peak`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Live(TorchDispatchMode):
        live = peak = 0
        seen: ClassVar = {tensor.untyped_storage()._cdata for tensor in known}

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
                if storage is not None and storage._cdata not in self.seen:
                    self.change(storage._cdata, storage.nbytes())
                    weakref.finalize(storage, self.change, storage._cdata, -storage.nbytes())
            return out

        def change(self, key: int, size: int) -> None:
            (self.seen.add if size > 0 else self.seen.discard)(key)
            self.live += size
            self.peak = max(self.peak, self.live)

    return Live()
