"""A model as a whole: merge its adapter, save it, share it."""

import copy
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.machine.network import hub_token
from labkit.machine.one_line import first_line
from labkit.machine.quiet import quiet
from labkit.models.adapters import check_no_adapter, load_adapter, save_adapter
from labkit.models.alignment import align_weights
from labkit.models.base import load_base
from labkit.models.fingerprint import fingerprint_of
from labkit.models.language_model import LanguageModel
from labkit.storage import LIST, atomic_folder, write_text

if TYPE_CHECKING:
    import torch

MOST_FOLDED = 2 * 2**30  # bytes of float32 weights that are written out to be faster


def merge(lm: LanguageModel) -> LanguageModel:
    """A new model with the adapter added into its weights: W + (alpha / r) B A.

    Merging into 4-bit weights would round most of the adapter away, so a quantised base is read again in 16 or 32 bit;
    the result then differs from the quantised model by the rounding that quantisation had cost. `lm` stays as it is.

    Raises:
        LabError: the model has no adapter.
    """
    if lm.adapter is None:
        raise LabError(f"{lm.name} has no adapter to merge", "", "load_model(…, adapter=folder)")
    if lm.bits >= 16:
        merged = copy.deepcopy(lm.model).merge_and_unload()
        return replace(lm, model=merged.eval(), adapter=None, merged=_all_merged(lm))
    bits = 32 if lm.dtype == "float32" else 16
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        save_adapter(lm, adapter)
        base = load_base(lm.source, bits=bits, device=lm.device)
        merged = merge(load_adapter(base, adapter))
    return replace(merged, name=lm.name, stand_in=lm.stand_in, merged=_all_merged(lm))


def _all_merged(lm: LanguageModel) -> str:
    """A fingerprint of the adapter that is on a model, after those that were merged into it before."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(lm.model, save_embedding_layers=False)  # "auto" asks the Hub
    this_one = fingerprint_of(weights)[:12]
    return f"{lm.merged} {this_one}" if lm.merged else this_one


def folded(lm: LanguageModel) -> LanguageModel:
    """The same model with less to compute: what its 4-bit weights stand for written out, and its adapter added.

    Unlike `merge` it keeps what quantisation has done, so replies are the same but for the rounding of float32. Models
    of half precision stay as they are, since there the sum itself would be rounded; so do 8-bit ones, which round
    their inputs too, and those whose weights would take more than `MOST_FOLDED` bytes. `lm` stays as it is.
    """
    is_small = 4 * lm.n_parameters <= MOST_FOLDED
    if lm.dtype != "float32" or lm.bits == 8 or not is_small:
        return lm
    if lm.bits == 4:
        return _written_out(lm)
    return merge(lm) if lm.adapter else lm


def _written_out(lm: LanguageModel) -> LanguageModel:
    """A 4-bit model as one of 32 bits with the same weights, and its adapter added."""
    model = copy.deepcopy(lm.model)
    with tempfile.TemporaryDirectory() as folder, quiet():
        adapter = Path(folder) / "adapter"
        if lm.adapter:
            save_adapter(lm, adapter)
            model = model.unload()
        model.dequantize()
        whole = replace(lm, model=model.eval(), bits=32, adapter=None)
        return merge(load_adapter(whole, adapter)) if lm.adapter else whole


def save_model(
    lm: LanguageModel,
    folder: Path | str,
    state: "dict[str, torch.Tensor] | None" = None,
    *,
    known: Collection[str] = (),
) -> Path:
    """Write weights (safetensors) and tokenizer as a folder that `load_model` reads, whole or not at all.

    `state` and `known` as for `save_adapter`.

    Raises:
        LabError: an adapter is attached, or the weights are quantised (`merge` gives a model that can be saved).
    """
    check_no_adapter(lm)
    if lm.bits < 16:
        raise LabError(f"{lm.name} is quantised to {lm.bits} bit", "", "load it with bits=16 or 32, then save")
    with atomic_folder(folder, known=known) as partial:
        lm.model.save_pretrained(partial, state_dict=state)
        align_weights(partial)
        lm.tokenizer.save_pretrained(partial)
    return Path(folder)


def push_to_hub(lm: LanguageModel, repo: str, card: str = "", *, private: bool = True) -> str:
    """Create the repository `owner/name` and upload the model, its tokenizer and its card; the token is HF_TOKEN's.

    Raises:
        LabError: no token, no network, or the Hub refuses.
    """
    from huggingface_hub import HfApi, errors

    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            save_model(lm, folder)
            if card:
                write_text(folder / "README.md", card)
            hub = HfApi(token=hub_token())
            url = hub.create_repo(repo, private=private, exist_ok=True)
            hub.upload_folder(repo_id=url.repo_id, folder_path=folder, ignore_patterns=[LIST])
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled, OSError) as error:
        action = "check the network and HF_TOKEN (with write access)"
        raise LabError(f"cannot push to {repo}", first_line(error), action) from error
    return str(url)
