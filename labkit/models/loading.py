"""Load a causal language model by name: a stand-in that ships with the lab, a folder, a GGUF file or a Hub id."""

import difflib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.corpora.download import ATTEMPTS, BACKOFF, asked_wait
from labkit.environment import STAND_IN_MODEL, STAND_IN_SIZES, STAND_INS, cache_dir, choose_dtype, hardware, hub_status
from labkit.errors import LabError, OutOfMemory
from labkit.prompts import TextCodec
from labkit.storage import atomic_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = Path(__file__).parent / "weights"
BITS = (4, 8, 16, 32)
_NAMES = f"choose {STAND_IN_MODEL}, a folder with config.json and model.safetensors, a .gguf file or a Hub id"


@dataclass
class LanguageModel:
    """A model with its tokenizer and what a results row says about it."""

    name: str
    model: Any  # PreTrainedModel, or PeftModel when an adapter is attached; in eval mode
    tokenizer: "PreTrainedTokenizerBase"
    codec: TextCodec
    bits: int  # 4 | 8 | 16 | 32
    dtype: str  # of everything that is not quantised: "float32" | "bfloat16" | "float16"
    device: str
    stand_in: bool
    adapter: str | None = None
    source: str = ""  # the folder that the weights came from, for merging into unquantised ones

    @property
    def base(self) -> "PreTrainedModel":
        """The transformers model, with LoRA layers in place when an adapter is attached, without peft's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def n_parameters(self) -> int:
        """Parameters of the base model and its adapter; 4-bit weights counted as what they stand for."""
        from labkit.models.adapters import count_parameters

        return count_parameters(self.model)[1]

    @property
    def context_length(self) -> int:
        """The longest sequence that the model was made for, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1_000_000)


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
        LabError: unknown name, no network, a folder that is no model, a broken file, bits that are none, out of memory.
    """
    from transformers import AutoTokenizer

    if bits is not None and bits not in BITS:
        raise LabError(f"bits={bits}", "", "choose 4, 8, 16 or 32")
    if reinitialise and bits in (4, 8):
        raise LabError("fresh weights are trained in full, not quantised", f"bits={bits}", "choose bits=16 or 32")
    folder, stand_in = find_model(str(name))
    device = device or hardware().device
    native = choose_dtype(device)[0]
    bits = bits or (32 if native == "float32" else 16)
    dtype = {32: "float32", 16: "bfloat16" if native == "float32" else native}.get(bits, native)
    with quiet(), _clear_errors(str(name), folder), memory_errors("choose fewer bits or a smaller model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.clean_up_tokenization_spaces = False  # made for WordPiece; it eats the space before a full stop
        quantised = _quantisation(bits, dtype, device, quant_type, double_quant)
        model = _fresh(folder, dtype, seed) if reinitialise else _read(folder, dtype, quantised)
        model = model if quantised else model.to(device)
    stand_in = model.config.lab_stand_in = stand_in or getattr(model.config, "lab_stand_in", False)  # kept when saved
    name_rotary(model)
    shown = STAND_IN_SIZES[-1] if name == STAND_IN_MODEL else str(name)
    weights = (model.eval(), tokenizer, TextCodec(tokenizer), bits, dtype, device)
    lm = LanguageModel(shown, *weights, stand_in, source=str(folder))
    if adapter is None:
        return lm
    from labkit.models.adapters import load_adapter

    return load_adapter(lm, adapter)


def _quantisation(bits: int, dtype: str, device: str, quant_type: str, double_quant: bool) -> dict[str, Any]:
    """What from_pretrained needs for 4 or 8 bits; nothing for more. The output head is never quantised."""
    from transformers import BitsAndBytesConfig

    if bits >= 16:
        return {}
    four = {"quant_type": quant_type, "use_double_quant": double_quant, "compute_dtype": dtype}
    options = {f"load_in_{bits}bit": True, **{f"bnb_4bit_{name}": value for name, value in four.items()}}
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": device}}


def _read(folder: Path, dtype: str, quantised: dict[str, Any]) -> "PreTrainedModel":
    """Weights from safetensors only: a pickled checkpoint can run code."""
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True, **quantised}
    model, info = AutoModelForCausalLM.from_pretrained(folder, **options)
    if info["missing_keys"]:  # transformers warns, fills them with random numbers and goes on
        raise ValueError(f"weights are missing: {', '.join(sorted(info['missing_keys'])[:3])}")
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_not_the_cast)
    for module in model.modules():  # bitsandbytes' AVX512 kernel rounds to bfloat16 and needs widths in steps of 64
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def name_rotary(model: "PreTrainedModel") -> None:
    """Let a GPT-NeoX be saved with the share of rotary dimensions under the one name that transformers 5.0 reads.

    Without it 5.0 takes a quarter, and says nothing: mini-pythia's perplexity was 49 instead of 5.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    if model.config.model_type == "gpt_neox" and "partial_rotary_factor" in rope:
        model.config.rotary_pct = rope["partial_rotary_factor"]


def _not_the_cast(record: logging.LogRecord) -> bool:
    """8-bit layers say at every single call that they cast their input."""
    return "inputs will be cast" not in record.getMessage()


def _fresh(folder: Path, dtype: str, seed: int) -> "PreTrainedModel":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=getattr(torch, dtype))


# --- where a name leads -----------------------------------------------------------------------------------------------


def find_model(name: str) -> tuple[Path, bool]:
    """(folder with the weights, whether it is a stand-in); downloads or converts where that is needed.

    Raises:
        LabError: the name is neither a stand-in, a model folder, a GGUF file nor on a Hub that can be reached.
    """
    if name in STAND_INS:
        return _complete(WEIGHTS / (STAND_IN_SIZES[-1] if name == STAND_IN_MODEL else name)), True
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").exists() and len(files := list(path.glob("*.gguf"))) == 1:
        path = files[0]
    if path.is_dir():
        return _complete(path), False
    if path.suffix == ".gguf":
        return _converted(path), False
    if name.count("/") > 1 or name.startswith((".", "~", "/")):
        raise LabError(f"no model {name!r}", "there is no such folder", _NAMES)
    return _downloaded(name), False


def _complete(folder: Path) -> Path:
    """The folder, if a model is in it."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        action = f"load_model(its base model, adapter={str(folder)!r})"
        raise LabError(f"{folder} is an adapter, not a model", "", action)
    needed = {
        "config.json": "config.json",
        "model.safetensors": "*.safetensors *.safetensors.index.json",
        "tokenizer.json": "tokenizer.json tokenizer.model vocab.json",
    }
    missing = [name for name, patterns in needed.items() if not any(any(folder.glob(p)) for p in patterns.split())]
    if missing:
        raise LabError(f"{folder} is no model folder", f"missing {', '.join(missing)}", _NAMES)
    return folder


def _downloaded(name: str) -> Path:
    """The local snapshot of a Hub repository: top-level safetensors, configuration and tokenizer."""
    from huggingface_hub import errors

    hub, started = hub_status(), time.time()  # before anything waits a minute for a Hub that is not there
    try:
        folder = _snapshot(name, local_files_only=not hub.reachable)
    except errors.GatedRepoError as error:
        raise LabError(f"{name} is gated", "", "accept its terms on its Hub page, then set HF_TOKEN") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise LabError(f"no model {name!r}", f"the Hub has none of that name{_nearest(name)}", _NAMES) from error
    except Exception as error:  # httpx's or httpx2's, by the client's version; its threads close each other's session
        if not hub.reachable:
            found = f"not a stand-in, not cached, and no Hub: {hub.reason}{_nearest(name)}"
            raise LabError(f"cannot load model {name!r}", found, f"connect to the network, or {_NAMES}") from error
        action = "try again: files that came whole are kept"  # the client forgets a part of one between two runs
        raise LabError(f"download of {name} failed", first_line(error.__cause__ or error), action) from error
    _verify(folder, started)
    return _complete(folder)


def _snapshot(name: str, **options: Any) -> Path:
    """snapshot_download, tried again while the Hub is busy: the client itself does so for some requests only."""
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    options |= {"allow_patterns": files, "ignore_patterns": ["*/*", "consolidated*"]}
    for attempt in range(ATTEMPTS - 1):
        try:
            return Path(snapshot_download(name, **options))
        except OSError as error:
            response = getattr(error.__cause__ or error, "response", None)
            if response is None or not (response.status_code == 429 or response.status_code >= 500):
                raise
            time.sleep(max(asked_wait(response), BACKOFF * 2**attempt))
    return Path(snapshot_download(name, **options))


def _verify(folder: Path, since: float) -> None:
    """Throw away weights that came after `since` (seconds) and are not what was sent; the client compares sizes only.

    The cache names a large file by the SHA-256 that the Hub announced.

    Raises:
        LabError: a file was broken on its way; the next download fetches it, and no other, again.
    """
    for path in folder.iterdir():
        blob = path.resolve()
        if len(blob.name) != 64 or blob.stat().st_mtime < since:
            continue
        with blob.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == blob.name
        if not whole:
            blob.unlink()
            path.unlink()
            raise LabError(f"{path.name} was damaged on its way", "its SHA-256 is another; thrown away", "try again")


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.split("/")[-1], STAND_INS, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _converted(path: Path) -> Path:
    """A GGUF file as a safetensors folder in the cache; reading GGUF takes half a minute, so it is done once."""
    if not path.is_file():
        raise LabError(f"no file {path}", "", _NAMES)
    stat = path.stat()
    mark = hashlib.sha256(f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_dir() / "gguf" / f"{path.stem}-{mark}"
    if not folder.is_dir():
        with quiet(), _clear_errors(str(path), path), atomic_folder(folder) as partial:
            _convert(path, partial)
    return folder


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    turn_end = "<|im_end|>"
    if tokenizer.eos_token == tokenizer.bos_token and turn_end in (tokenizer.chat_template or ""):
        tokenizer.eos_token = turn_end  # the reader takes the id that begins a turn for the one that ends it
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):  # it was dequantised on reading, and would not be saved as GGUF
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# --- files and errors -------------------------------------------------------------------------------------------------


@contextmanager
def memory_errors(action: str | Callable[[], str]) -> Iterator[None]:
    """Out of memory, on a GPU or a CPU, becomes one line with `action`, which may take some finding out."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one of the latter
        signs = ("not enough memory", "can't allocate memory", "create a primitive")  # the last is oneDNN's
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)):
            raise
        raise OutOfMemory(
            "out of memory", first_line(error), action if isinstance(action, str) else action()
        ) from error


@contextmanager
def _clear_errors(name: str, path: Path) -> Iterator[None]:
    """What transformers says about an unreadable model, in one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
        raise LabError(f"cannot load model {name!r}", f"{first_line(error)} (in {path.name})", _NAMES) from error


def first_line(error: Exception) -> str:
    """What an error says, without the pages that some libraries add."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the loggers and progress bars that tell a student nothing; errors still come through."""
    from transformers.utils import logging as bars

    shown, before = bars.is_progress_bar_enabled(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(before)
        if shown:
            bars.enable_progress_bar()
