"""Every use of another package's private name, each with the version it was seen in; test_drift.py fails first."""

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments


def forget_gguf(model: "PreTrainedModel") -> None:
    """Let a model that was read from GGUF be saved: it was dequantised on reading, but says it is quantised.

    `hf_quantizer` and `is_quantized`: transformers 5.17.
    """
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False


def computes_attention(model: "PreTrainedModel", how: str | None = None) -> str:
    """How a model computes attention ("sdpa", "eager" …); set to `how` where that is given.

    Written into the configuration: `set_attn_implementation("eager")` is taken by Falcon without a word, which then
    adds yes and no to its scores. `config._attn_implementation`: transformers 5.17.
    """
    if how is not None:
        model.config._attn_implementation = how
    return model.config._attn_implementation


def one_gpu_a_process(arguments: "TrainingArguments") -> None:
    """Two GPUs in one process would be DataParallel, slower than one. `TrainingArguments._n_gpu`: transformers 5.17."""
    arguments._n_gpu = min(1, arguments.n_gpu)


def storage_key(storage: "torch.UntypedStorage") -> int:
    """What two tensors over the same bytes have in common. On the meta device every `data_ptr()` is 0.

    `UntypedStorage._cdata`: torch 2.13.
    """
    return storage._cdata


class KeptOnMeta:
    """A context in which a model on the meta device attends by the kernel that keeps no T x T weights.

    torch would send a meta tensor to the kernel that writes them all. transformers' public AttentionInterface takes
    the other one under a name, which the configuration then holds (see `computes_attention`), for this model alone.
    `aten::_scaled_dot_product_flash_attention_for_cpu`: torch 2.13.
    """

    NAME = "labkit_meta"

    def __init__(self, model: "PreTrainedModel"):
        self.model = model

    def __enter__(self) -> None:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        AttentionInterface.register(self.NAME, _flash_attention)
        AttentionMaskInterface.register(self.NAME, sdpa_mask)
        self.before = computes_attention(self.model)
        if self.before == "sdpa":
            computes_attention(self.model, self.NAME)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        computes_attention(self.model, self.before)


def _flash_attention(
    module: "torch.nn.Module",
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    **_: object,
) -> "tuple[torch.Tensor, None]":
    """query [B, heads, T, D]; key and value [B, groups, T, D]; attention [B, T, heads, D] as transformers wants it."""
    import torch

    copies = query.shape[1] // key.shape[1]
    if copies > 1:
        key = key.repeat_interleave(copies, 1)  # [B, heads, T, D]
        value = value.repeat_interleave(copies, 1)
    mask = None if attention_mask is None else attention_mask.to(query.dtype)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attended = kernel(query, key, value, 0.0, mask is None, attn_mask=mask)[0]  # [B, heads, T, D]
    return attended.transpose(1, 2), None


def keep_compiled_maps() -> None:
    """Let numba keep on the disk what it compiles for a map, as umap does with a part of it (`njit(cache=True)`).

    To compile it took most of the time of a kernel's first map. The files stand beside umap's modules or, where nobody
    may write there, in numba's folder of the user; with neither, each process compiles as before.
    `_nb_optimize_layout_euclidean_single_epoch`: umap-learn 0.5.12.
    """
    from umap import layouts, umap_

    compiled = [umap_.smooth_knn_dist, umap_.compute_membership_strengths]
    compiled.append(getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None))
    for function in compiled:
        is_untouched = hasattr(function, "enable_caching") and not function.signatures
        if is_untouched:
            with suppress(RuntimeError):  # numba found no folder to write to
                function.enable_caching()


def packed_weight(weight: "torch.Tensor", n_rows: int) -> "torch.Tensor | None":
    """A weight [O, I] in the order in which oneDNN reads it for about `n_rows` rows; None where torch cannot do that.

    `mkldnn::_reorder_linear_weight` and `mkldnn::_linear_pointwise`, which torch.compile uses: torch 2.13.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
        packed_linear(weight.new_zeros(1, weight.shape[1]), packed, None)
    except (AttributeError, RuntimeError):  # no such operations in this release, or not for this processor
        return None
    return packed


def packed_linear(x: "torch.Tensor", packed: "torch.Tensor", bias: "torch.Tensor | None") -> "torch.Tensor":
    """x W^T + bias, [..., O], for x [..., I] and W packed by `packed_weight`. `_linear_pointwise`: torch 2.13."""
    import torch

    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
