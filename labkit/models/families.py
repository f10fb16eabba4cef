"""Which families of models labkit decodes with its own tree, and which through transformers' own `generate`.

The tree (`labkit.decoding.tree`) reads the rows of a batch as columns of one sequence, with explicit positions and a
4-D mask. transformers takes such a mask as it is, for every layer. So the tree is exact only where a layer learns from
positions and mask alone what it may look at; a window is put into the mask here, layer by layer. What counts columns
instead (ALiBi, GPT-Neo's local attention) or keeps a running state (Mamba, RecurrentGemma) would silently write another
text. Those families, and all that nobody has tried, take `generate`: the same text, one length of prompt at a time.

FAMILIES is what tests/unit/models/test_families.py proves: each family with a window shorter than its prompts where it
has one, two rows that share a beginning, in a batch and alone, against the model's own greedy `generate`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.compat import computes_attention

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MASKED_KERNELS = ("sdpa", "eager")  # attention kernels that take a 4-D mask
CHANGING_ROPE = ("dynamic", "longrope")  # position codes that change with the longest sequence of a batch
MASKED_LAYERS = {"full_attention", "sliding_attention"}  # kinds of layers that a mask says all about
RECURRENT = "a recurrent state cannot leave out the columns of other rows"
ALIBI = "ALiBi counts columns, not positions"
ALL, SOME = "all layers", "layer types"  # where a family has its windows


@dataclass(frozen=True, slots=True)
class Family:
    """What is known about one of transformers' model types."""

    title: str  # as its authors write it
    why_not: str = ""  # why the tree would not be exact; empty where it is
    no_lora: tuple[str, ...] = ()  # names of linear layers that peft refuses to adapt
    windows: str = ""  # ALL layers where `sliding_window` is a number, or SOME, those that `layer_types` names


FAMILIES = {  # transformers' model_type -> what is proved
    "gpt_neox": Family("GPT-NeoX, Pythia"),
    "gpt2": Family("GPT-2"),
    "gptj": Family("GPT-J"),
    "gpt_neo": Family("GPT-Neo without local attention"),
    "gpt_bigcode": Family("GPT-BigCode, StarCoder"),
    "codegen": Family("CodeGen"),
    "opt": Family("OPT"),
    "falcon": Family("Falcon with rotary positions"),
    "llama": Family("LLaMA, SmolLM, TinyLlama"),
    "mistral": Family("Mistral", windows=ALL),
    "ministral": Family("Ministral", windows=SOME),
    "mixtral": Family("Mixtral", windows=ALL),
    "starcoder2": Family("StarCoder 2", windows=ALL),
    "qwen2": Family("Qwen 2, 2.5", windows=SOME),
    "qwen2_moe": Family("Qwen 2 MoE", windows=SOME),
    "qwen3": Family("Qwen 3", windows=SOME),
    "qwen3_moe": Family("Qwen 3 MoE", windows=ALL),
    "gemma": Family("Gemma"),
    "gemma2": Family("Gemma 2", windows=SOME),
    "gemma3_text": Family("Gemma 3, text only", windows=SOME),
    "phi": Family("Phi 1, 1.5, 2"),
    "phi3": Family("Phi 3, 4", windows=ALL),
    "olmo": Family("OLMo"),
    "olmo2": Family("OLMo 2"),
    "olmo3": Family("OLMo 3", windows=SOME),
    "olmoe": Family("OLMoE"),
    "smollm3": Family("SmolLM 3", windows=SOME),
    "granite": Family("Granite 3"),
    "granitemoe": Family("Granite 3 MoE"),
    "cohere": Family("Command R"),
    "cohere2": Family("Command R7B", windows=SOME),
    "stablelm": Family("StableLM"),
    "helium": Family("Helium"),
    "glm": Family("GLM 4"),
    "nemotron": Family("Nemotron"),
    "gpt_oss": Family("gpt-oss", windows=SOME),
    "bloom": Family("BLOOM", ALIBI),
    "mpt": Family("MPT", ALIBI),
    "mamba": Family("Mamba", RECURRENT, no_lora=("out_proj",)),
    "mamba2": Family("Mamba 2", RECURRENT, no_lora=("out_proj",)),
    "recurrent_gemma": Family("RecurrentGemma", RECURRENT),
    "lfm2": Family("LFM 2", "its convolutions mix neighbouring columns"),
    "qwen3_next": Family("Qwen 3 Next", "linear attention cannot leave out the columns of other rows"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """How a model is decoded: by the tree, or, where `why_not` says why, by transformers' own `generate`."""

    why_not: str = ""
    window: int | None = None  # tokens that a layer with a window sees, its own among them
    by_kind: bool = False  # the model takes a mask for each kind of layer

    @property
    def by_tree(self) -> bool:
        return not self.why_not


def route_of(model: "PreTrainedModel") -> Route:
    """How `model`, without peft's wrapper, is decoded. A model type that is not in FAMILIES is never guessed at."""
    config = model.config
    family = FAMILIES.get(config.model_type)
    if family is None:
        return Route(f"nobody has tried the tree with model type {config.model_type!r}")
    for reason in _reasons_against(model, family):
        if reason:
            return Route(reason)
    window = _window(config, family)
    if window is None:
        return Route()
    if window < 2:
        return Route(f"transformers' own cache does not keep to a window of {window}")
    return Route(window=window, by_kind=family.windows == SOME)


def _window(config: "PretrainedConfig", family: Family) -> int | None:
    """How many tokens the layers with a window see; None where no layer has one."""
    window = getattr(config, "sliding_window", None)
    if family.windows == ALL:
        return window
    if family.windows == SOME and "sliding_attention" in config.layer_types:
        return window
    return None


def _reasons_against(model: "PreTrainedModel", family: Family) -> Iterator[str]:
    """What speaks against the tree, in the family and in this model's own settings; an empty string is no reason."""
    config = model.config
    yield family.why_not
    kernel = computes_attention(model)
    if kernel not in MASKED_KERNELS:
        yield f"its attention kernel, {kernel}, takes no 4-D mask"
    if getattr(config, "alibi", False):
        yield ALIBI
    if "local" in getattr(config, "attention_layers", ()):
        yield "its local attention counts columns, not positions"
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False:
        yield "its attention also looks ahead"
    for kind in _rope_types(config):
        if kind in CHANGING_ROPE:
            yield f"its position codes ({kind}) change with the longest sequence of a batch"
    other = set(getattr(config, "layer_types", None) or ()) - MASKED_LAYERS
    if other:
        yield f"it has layers of another kind: {', '.join(sorted(other))}"


def _rope_types(config: "PretrainedConfig") -> list[str]:
    """The kinds of rotary position codes in a configuration; Gemma 3 has one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    groups = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return [group["rope_type"] for group in groups if "rope_type" in group]
