"""Utterances as vectors: the mean of a language model's hidden states, or a sentence encoder; kept on the disk."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from labkit.errors import LabError
from labkit.models import LanguageModel, load_model
from labkit.storage import atomic_path

if TYPE_CHECKING:
    import torch

Texts = Sequence[str]
Encoder = tuple[str, Callable[[list[str]], np.ndarray]]  # (identity in the cache, batch of texts -> [B, D])
CHUNK = 4096  # texts in one cache file: what an interrupted run can lose


def embed(texts: Texts, encoder: Any = None, cache: Any = None, batch_size: int = 64, layer: int = -1) -> np.ndarray:
    """Unit vectors of the texts, [N, D] float32. Equal texts are encoded once; `cache` is a folder for what is done.

    `encoder` is a `LanguageModel` (the mean of its hidden states in `layer` over a text's tokens; 0 is the embeddings),
    a sentence-transformers model or the name of one; None is the stand-in language model.

    Raises:
        LabError: no texts, or the sentence encoder cannot be loaded.
    """

    if not len(texts):
        raise LabError("nothing to embed", "no texts", "choose more dialogues")
    source = _encoder(encoder, layer)
    unique = sorted(set(texts), key=lambda text: (len(text), text))  # texts of one length together: little padding
    chunks = [unique[start : start + CHUNK] for start in range(0, len(unique), CHUNK)]
    with tqdm(total=len(unique), desc="embedding", unit=" texts") as bar:
        vectors = np.concatenate([_chunk(chunk, source, cache, batch_size, bar.update) for chunk in chunks])  # [U, D]
    place = {text: i for i, text in enumerate(unique)}
    return vectors[[place[text] for text in texts]]


def _chunk(texts: list[str], source: Encoder, cache: Any, size: int, progress: Callable[[int], Any]) -> np.ndarray:
    identity, encode = source
    # the key holds model, weights and texts: vectors of another model are never taken for this one's
    key = hashlib.sha256("\0".join([identity, *texts]).encode()).hexdigest()[:32]
    path = Path(cache) / f"vectors-{key}.npy" if cache else None
    if path and path.exists():
        progress(len(texts))
        return np.load(path, allow_pickle=False)
    batches = []
    for start in range(0, len(texts), size):
        batches.append(encode(texts[start : start + size]))
        progress(len(batches[-1]))
    vectors = np.concatenate(batches).astype(np.float32)  # [C, D]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    if path:
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    return vectors


def _encoder(encoder: Any, layer: int) -> Encoder:
    encoder = load_model() if encoder is None else encoder
    if hasattr(encoder, "codec"):
        identity = f"{encoder.name}|{encoder.adapter}|{encoder.bits}|{layer}|{_fingerprint(encoder.model)}"
        return identity, lambda texts: _pooled(encoder, texts, layer)
    model = _sentence_encoder(encoder) if isinstance(encoder, str) else encoder
    # its printed form tells how it pools and normalises, which no weight does
    identity = f"{model}|{model.max_seq_length}|{_fingerprint(model)}"
    return identity, lambda texts: model.encode(texts, show_progress_bar=False)


def _sentence_encoder(name: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(name)
    except (ImportError, OSError, ValueError) as error:
        action = "pass a model of labkit.load_model instead"
        raise LabError(f"no sentence encoder {name!r}", str(error).splitlines()[0], action) from error


def _fingerprint(model: "torch.nn.Module") -> str:
    """A hash of some weights of every tensor: a retrained model, or another adapter, under the same name differs."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.flatten()[:: max(1, tensor.numel() // 64)].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _pooled(lm: LanguageModel, texts: list[str], layer: int, max_length: int = 256) -> np.ndarray:
    """Mean hidden state over each text's tokens, padding left out, [B, D]; long texts lose their beginning."""
    import torch

    # a space before each line, as after `user>`: without it a byte-level BPE spells the first word as no text does
    spaced = [" " + text.replace("\n", "\n ") for text in texts]
    tokens = [lm.codec.prefix + lm.tokenizer.encode(text, add_special_tokens=False)[-max_length:] for text in spaced]
    tokens = [torch.tensor(ids or [lm.codec.pad_id]) for ids in tokens]
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=lm.codec.pad_id)  # [B, T]
    lengths = torch.tensor([len(each) for each in tokens])  # [B]
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(lm.device)  # [B, T]
    with torch.inference_mode():  # without the output head: its [B, T, V] logits are not needed
        out = lm.base.base_model(ids.to(lm.device), attention_mask=mask, output_hidden_states=True)
    states = out.hidden_states[layer].float()  # [B, T, D]
    return ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).cpu().numpy()
