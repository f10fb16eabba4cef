"""Load a causal language model, with or without an adapter."""

from pathlib import Path

from labkit.models.adapters import load_adapter
from labkit.models.base import load_base
from labkit.models.language_model import LanguageModel
from labkit.models.names import STAND_IN_MODEL


def load_model(
    name: str = STAND_IN_MODEL,
    *,
    bits: int | None = None,
    device: str | None = None,
    adapter: str | Path | None = None,
    quant_type: str = "nf4",
    double_quant: bool = True,
    reinitialise: bool = False,
    seed: int = 42,
) -> LanguageModel:
    """Load a model in the number type that this device is fast in, whatever type the checkpoint has.

    Args:
        name: a stand-in ("mini-pythia"), a folder, a `.gguf` file or a Hub id.
        bits: 4 (`quant_type` "nf4" or "fp4", Dettmers et al. 2023), 8 (LLM.int8), 16 or 32; None: 32 where the device
            computes in float32, else 16.
        adapter: a folder with a LoRA adapter to put on the model.
        reinitialise: the same architecture with fresh random weights drawn from `seed`.

    Raises:
        LabError: unknown name, no network, a folder that is no model, a broken file, one that would run its own code,
            bits that are none, out of memory.
    """
    lm = load_base(
        name,
        bits=bits,
        device=device,
        quant_type=quant_type,
        double_quant=double_quant,
        reinitialise=reinitialise,
        seed=seed,
    )
    if adapter is None:
        return lm
    return load_adapter(lm, adapter)
