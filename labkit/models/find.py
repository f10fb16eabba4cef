"""Where a model's name leads: a stand-in that ships with the lab, a folder, a GGUF file or the Hub."""

import difflib
import hashlib
import time
from pathlib import Path
from typing import Any

from labkit.corpora.download import ATTEMPTS, BACKOFF, asked_wait
from labkit.errors import LabError
from labkit.machine.network import hub_status
from labkit.machine.one_line import first_line
from labkit.machine.paths import cache_dir
from labkit.machine.quiet import quiet
from labkit.models.names import STAND_IN_MODEL, STAND_IN_SIZES, STAND_INS
from labkit.models.unreadable import NAMES, clear_errors
from labkit.storage import atomic_folder

WEIGHTS = Path(__file__).parent / "weights"


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
        raise LabError(f"no model {name!r}", "there is no such folder", NAMES)
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
        raise LabError(f"{folder} is no model folder", f"missing {', '.join(missing)}", NAMES)
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
        raise LabError(f"no model {name!r}", f"the Hub has none of that name{_nearest(name)}", NAMES) from error
    except Exception as error:  # httpx's or httpx2's, by the client's version; its threads close each other's session
        if not hub.reachable:
            found = f"not a stand-in, not cached, and no Hub: {hub.reason}{_nearest(name)}"
            raise LabError(f"cannot load model {name!r}", found, f"connect to the network, or {NAMES}") from error
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
        raise LabError(f"no file {path}", "", NAMES)
    stat = path.stat()
    mark = hashlib.sha256(f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_dir() / "gguf" / f"{path.stem}-{mark}"
    if not folder.is_dir():
        with quiet(), clear_errors(str(path), path), atomic_folder(folder) as partial:
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
