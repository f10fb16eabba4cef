"""Utterances as vectors: the mean of a language model's hidden states, or a sentence encoder; kept on the disk."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tqdm.auto import tqdm

from labkit.errors import LabError
from labkit.models import LanguageModel, load_model
from labkit.storage import atomic_path
from labkit.structure.checks import clean_texts, whole_number

if TYPE_CHECKING:
    import torch

Texts = Sequence[str]
CHUNK = 4096  # texts in one cache file: what an interrupted run can lose
MAX_TOKENS = 256  # of a text; longer ones lose their beginning


class SentenceEncoder(Protocol):
    """What `embed` needs of a sentence-transformers model, which is also a torch module."""

    max_seq_length: int

    def encode(self, texts: list[str], show_progress_bar: bool) -> np.ndarray:
        """The vectors of the texts, [B, D]."""

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """The weights by name."""


@dataclass(frozen=True)
class Encoder:
    """A way from texts to vectors, and what tells it from every other."""

    identity: str  # part of the name of a cache file: model, adapter, bits, layer, weights
    encode: Callable[[list[str]], np.ndarray]  # a batch of texts -> [B, D]
    width: int | None  # D; None: not known before a text is encoded


def embed(
    texts: Texts,
    encoder: LanguageModel | SentenceEncoder | str | None = None,
    cache: str | Path | None = None,
    batch_size: int = 64,
    layer: int = -1,
) -> np.ndarray:
    """Unit vectors of the texts, [N, D] float32. Equal texts are encoded once; `cache` is a folder for what is done.

    `encoder` is a `LanguageModel` (the mean of its hidden states in `layer` over a text's tokens; 0 is the embeddings),
    a sentence-transformers model or the name of one; None is the stand-in language model.

    Raises:
        LabError: no texts, a text that is none, no such layer, a sentence encoder that cannot be loaded, or an encoder
            that computes NaN or a vector of zeros.
    """
    texts = clean_texts(texts)
    if not texts:
        raise LabError("nothing to embed", "no texts", "choose more dialogues")
    batch_size = whole_number("batch_size", batch_size, 1)
    source = _encoder(encoder, layer)
    folder = None if cache is None else Path(cache)

    # texts of one length together: little padding
    unique = sorted(set(texts), key=lambda text: (len(text), text))
    chunks = []
    with tqdm(total=len(unique), desc="embedding", unit=" texts") as bar:
        for start in range(0, len(unique), CHUNK):
            chunk = unique[start : start + CHUNK]
            chunks.append(_chunk(chunk, source, folder, batch_size, bar))
    vectors = np.concatenate(chunks)  # [U, D]

    place = {text: i for i, text in enumerate(unique)}
    return vectors[[place[text] for text in texts]]  # [N, D]


# --- one cache file ---------------------------------------------------------------------------------------------------


def _chunk(texts: list[str], source: Encoder, folder: Path | None, batch_size: int, bar: tqdm) -> np.ndarray:
    """The unit vectors of the texts, [C, D]: from the disk, or encoded and written there."""
    if folder is None:
        return _encoded(texts, source, batch_size, bar)
    path = folder / f"vectors-{_key(texts, source.identity)}.npy"
    if path.exists():
        width = source.width or _encode(texts[:1], source).shape[1]
        try:
            vectors = _read(path, (len(texts), width))
            bar.update(len(texts))
            return vectors
        except Exception as error:  # NumPy raises a dozen kinds for a damaged header
            print(f"{path} is damaged ({error}): its vectors are made again")
    vectors = _encoded(texts, source, batch_size, bar)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    return vectors


def _key(texts: list[str], identity: str) -> str:
    """A hash of model, weights and texts: vectors of another model are never taken for this one's."""
    parts = [identity, *texts]
    if any("\0" in text for text in texts):  # where one text ends and the next begins is then not clear
        lengths = [len(text) for text in texts]
        parts.append(str(lengths))
    joined = "\0".join(parts)
    digest = hashlib.sha256(joined.encode())
    return digest.hexdigest()[:32]


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The unit vectors in a cache file, [C, D]; nothing is ever unpickled.

    Raises:
        Exception: the file is not what was written for these texts.
    """
    # mapped, so that a header which claims a size that the file does not have asks for no memory
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise ValueError("an archive of several arrays")
    if stored.shape != shape or stored.dtype != np.float32:
        raise ValueError(f"{stored.dtype} {stored.shape} instead of float32 {shape}")
    vectors = np.array(stored)  # [C, D]
    lengths = np.linalg.norm(vectors, axis=1)  # [C]
    if not np.allclose(lengths, 1, atol=1e-3):  # NaN is not close to 1 either
        raise ValueError("vectors that are not of length one")
    return vectors


def _encoded(texts: list[str], source: Encoder, batch_size: int, bar: tqdm) -> np.ndarray:
    """The unit vectors of the texts, [C, D], computed batch by batch."""
    batches = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        batches.append(_encode(batch, source))
        bar.update(len(batch))
    vectors = np.concatenate(batches)  # [C, D]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # [C, 1]
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        found = (
            f"{len(bad)} of {len(texts)} texts have NaN, infinity or only zeros, the first is {texts[bad[0]][:40]!r}"
        )
        raise LabError("the encoder's vectors point nowhere", found, "load the model with bits=32, or another one")
    return vectors / lengths


def _encode(batch: list[str], source: Encoder) -> np.ndarray:
    """One batch, [B, D] float32."""
    vectors = np.asarray(source.encode(batch))
    if vectors.ndim != 2 or len(vectors) != len(batch):
        found = f"an array of shape {vectors.shape} for {len(batch)} texts"
        raise LabError("the encoder did not give each text a vector", found, "pass another encoder")
    return vectors.astype(np.float32)


# --- encoders ---------------------------------------------------------------------------------------------------------


def _encoder(encoder: LanguageModel | SentenceEncoder | str | None, layer: int) -> Encoder:
    if encoder is None:
        encoder = load_model()
    if isinstance(encoder, LanguageModel):
        return _language_encoder(encoder, layer)
    if isinstance(encoder, str):
        encoder = _sentence_encoder(encoder)
    if not hasattr(encoder, "encode") or not hasattr(encoder, "state_dict"):
        action = "pass a model of labkit.load_model or of sentence-transformers, or the name of one of these"
        raise LabError("no encoder", type(encoder).__name__, action)
    # its printed form tells how it pools and normalises, which no weight does
    identity = f"{encoder}|{encoder.max_seq_length}|{_fingerprint(encoder)}"
    return Encoder(identity, lambda texts: encoder.encode(texts, show_progress_bar=False), width=None)


def _language_encoder(lm: LanguageModel, layer: int) -> Encoder:
    layers = lm.base.config.num_hidden_layers
    whole_number("layer", layer, -layers - 1, layers)
    identity = f"{lm.name}|{lm.adapter}|{lm.bits}|{layer}|{_fingerprint(lm.model)}"
    return Encoder(identity, lambda texts: _pooled(lm, texts, layer), width=lm.base.config.hidden_size)


def _sentence_encoder(name: str) -> SentenceEncoder:
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(name, trust_remote_code=False)
    except (ImportError, OSError, ValueError) as error:
        action = "pass a model of labkit.load_model instead"
        cause = str(error) or type(error).__name__
        raise LabError(f"no sentence encoder {name!r}", cause.splitlines()[0], action) from error


def _fingerprint(model: "torch.nn.Module | SentenceEncoder") -> str:
    """A hash of some weights of every tensor: a retrained model, or another adapter, under the same name differs."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        step = max(1, tensor.numel() // 64)
        some = tensor.flatten()[::step].float().cpu().numpy()  # [64 or some more]
        digest.update(name.encode())
        digest.update(some.tobytes())
    return digest.hexdigest()


def _pooled(lm: LanguageModel, texts: list[str], layer: int) -> np.ndarray:
    """Mean hidden state over each text's tokens, padding left out, [B, D]; long texts lose their beginning."""
    import torch

    tokens = [torch.tensor(_tokens(lm, text)) for text in texts]
    lengths = torch.tensor([len(each) for each in tokens])  # [B]
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=lm.codec.pad_id)  # [B, T]
    places = torch.arange(ids.shape[1])  # [T]
    is_token = places < lengths[:, None]  # [B, T] bool
    ids, mask = ids.to(lm.device), is_token.long().to(lm.device)
    body = lm.base.base_model  # without the output head: its [B, T, V] logits are not needed
    with torch.inference_mode():
        out = body(ids, attention_mask=mask, output_hidden_states=True)
    states = out.hidden_states[layer].float()  # [B, T, D]
    total = (states * mask[..., None]).sum(1)  # [B, D]
    mean = total / mask.sum(1, keepdim=True)  # [B, D]
    return mean.cpu().numpy()


def _tokens(lm: LanguageModel, text: str) -> list[int]:
    # a space before each line, as after `user>`: without it a byte-level BPE spells the first word as no text does
    spaced = " " + text.replace("\n", "\n ")
    prefix = lm.codec.prefix
    room = min(MAX_TOKENS, lm.context_length - len(prefix))
    ids = lm.tokenizer.encode(spaced, add_special_tokens=False)
    return prefix + ids[-room:] or [lm.codec.pad_id]
