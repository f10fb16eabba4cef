"""Utterances as vectors: the mean of a language model's hidden states, or a sentence encoder; kept on the disk."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tqdm.std import tqdm

from labkit.bars import progress_bar
from labkit.errors import LabError
from labkit.models import LanguageModel, load_model
from labkit.models.beginnings import AT_ONCE, mean_states, shares_beginnings
from labkit.models.fingerprint import fingerprint_of
from labkit.models.finite import check_finite
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
    alphabetical: bool = False  # whether texts that begin alike are best together; else those of like length


def embed(
    texts: Texts,
    encoder: LanguageModel | SentenceEncoder | str | None = None,
    cache: str | Path | None = None,
    batch_size: int = 256,
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
    folder = None
    if cache is not None:
        folder = Path(cache)

    unique = sorted(set(texts))
    if not source.alphabetical:
        unique.sort(key=len)  # texts of one length together: little padding
    n_unique = len(unique)
    chunks = []
    with progress_bar(total=n_unique, desc="embedding", unit=" texts") as bar:
        for start in range(0, n_unique, CHUNK):
            end = start + CHUNK
            chunk = unique[start:end]
            vectors = _chunk(chunk, source, folder, batch_size, bar)  # [C, D]
            chunks.append(vectors)
    of_unique = np.concatenate(chunks)  # [U, D]

    place = {}
    for i, text in enumerate(unique):
        place[text] = i
    places = [place[text] for text in texts]
    return of_unique[places]  # [N, D]


# --- one cache file ---------------------------------------------------------------------------------------------------


def _chunk(
    texts: list[str],
    source: Encoder,
    folder: Path | None,
    batch_size: int,
    bar: tqdm,
) -> np.ndarray:
    """The unit vectors of the texts, [C, D]: from the disk, or encoded and written there."""
    if folder is None:
        return _encoded(texts, source, batch_size, bar)
    key = _key(texts, source.identity)
    path = folder / f"vectors-{key}.npy"
    if path.exists():
        stored = _stored(path, texts, source)
        if stored is not None:
            bar.update(len(texts))
            return stored
    vectors = _encoded(texts, source, batch_size, bar)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
    return vectors


def _stored(path: Path, texts: list[str], source: Encoder) -> np.ndarray | None:
    """The unit vectors of the texts in a cache file, [C, D]; None, and a line that says so, where it is damaged."""
    width = source.width
    if not width:
        first = _encode(texts[:1], source)  # [1, D]
        width = first.shape[1]
    shape = (len(texts), width)
    try:
        return _read(path, shape)
    except Exception as error:  # NumPy raises a dozen kinds for a damaged header
        print(f"{path} is damaged ({error}): its vectors are made again")
        return None


def _key(texts: list[str], identity: str) -> str:
    """A hash of model, weights and texts: vectors of another model are never taken for this one's."""
    parts = [identity, *texts]
    some_hold_zero = any("\0" in text for text in texts)
    if some_hold_zero:  # where one text ends and the next begins is then not clear
        lengths = [len(text) for text in texts]
        parts.append(str(lengths))
    joined = "\0".join(parts)
    digest = hashlib.sha256(joined.encode())
    key = digest.hexdigest()
    return key[:32]


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
        found = f"{stored.dtype} {stored.shape}"
        raise ValueError(f"{found} instead of float32 {shape}")
    vectors = np.array(stored)  # [C, D]
    lengths = np.linalg.norm(vectors, axis=1)  # [C]
    of_length_one = np.allclose(lengths, 1, atol=1e-3)  # NaN is not close to 1 either
    if not of_length_one:
        raise ValueError("vectors that are not of length one")
    return vectors


def _encoded(
    texts: list[str],
    source: Encoder,
    batch_size: int,
    bar: tqdm,
) -> np.ndarray:
    """The unit vectors of the texts, [C, D], computed batch by batch."""
    batches = []
    for start in range(0, len(texts), batch_size):
        end = start + batch_size
        batch = texts[start:end]
        vectors = _encode(batch, source)  # [B, D]
        batches.append(vectors)
        bar.update(len(batch))
    vectors = np.concatenate(batches)  # [C, D]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # [C, 1]
    no_number = ~np.isfinite(lengths)
    no_length = lengths == 0
    bad = np.flatnonzero(no_number | no_length)
    n_bad = len(bad)
    if n_bad:
        first = texts[bad[0]]
        counts = f"{n_bad} of {len(texts)} texts"
        found = f"{counts} have NaN, infinity or only zeros, the first is {first[:40]!r}"
        action = "load the model with bits=32, or another one"
        raise LabError("the encoder's vectors point nowhere", found, action)
    return vectors / lengths


def _encode(batch: list[str], source: Encoder) -> np.ndarray:
    """One batch, [B, D] float32."""
    size = len(batch)
    encoded = source.encode(batch)
    vectors = np.asarray(encoded)
    if vectors.ndim != 2 or len(vectors) != size:
        found = f"an array of shape {vectors.shape} for {size} texts"
        action = "pass another encoder"
        raise LabError("the encoder did not give each text a vector", found, action)
    return vectors.astype(np.float32)


# --- encoders ---------------------------------------------------------------------------------------------------------


def _encoder(encoder: LanguageModel | SentenceEncoder | str | None, layer: int) -> Encoder:
    if encoder is None:
        encoder = load_model()
    if isinstance(encoder, LanguageModel):
        return _language_encoder(encoder, layer)
    if isinstance(encoder, str):
        encoder = _sentence_encoder(encoder)
    is_encoder = hasattr(encoder, "encode") and hasattr(encoder, "state_dict")
    if not is_encoder:
        found = type(encoder).__name__
        action = "pass a model of labkit.load_model or of sentence-transformers, or the name of one of these"
        raise LabError("no encoder", found, action)
    weights = fingerprint_of(encoder.state_dict())
    # its printed form tells how it pools and normalises, which no weight does
    identity = f"{encoder}|{encoder.max_seq_length}|{weights}"

    def encode(texts: list[str]) -> np.ndarray:
        return encoder.encode(texts, show_progress_bar=False)

    return Encoder(identity, encode, width=None)


def _language_encoder(lm: LanguageModel, layer: int) -> Encoder:
    config = lm.base.config
    layers = config.num_hidden_layers
    whole_number("layer", layer, -layers - 1, layers)
    weights = fingerprint_of(lm.model.state_dict())
    identity = f"{lm.name}|{lm.adapter}|{lm.bits}|{layer}|{weights}"

    def encode(texts: list[str]) -> np.ndarray:
        return _pooled(lm, texts, layer)

    alphabetical = shares_beginnings(lm, MAX_TOKENS)
    return Encoder(identity, encode, width=lm.hidden_size, alphabetical=alphabetical)


def _sentence_encoder(name: str) -> SentenceEncoder:
    try:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(name, trust_remote_code=False)
    except (ImportError, OSError, ValueError) as error:
        cause = str(error) or type(error).__name__
        first_line = cause.splitlines()[0]
        action = "pass a model of labkit.load_model instead"
        raise LabError(f"no sentence encoder {name!r}", first_line, action) from error


def _pooled(lm: LanguageModel, texts: list[str], layer: int) -> np.ndarray:
    """Mean hidden state over each text's tokens, [B, D]; long texts lose their beginning."""
    tokens = _tokens(lm, texts)
    if shares_beginnings(lm, MAX_TOKENS):
        return mean_states(lm, tokens, layer).cpu().numpy()
    return _padded_means(lm, tokens, layer)


def _padded_means(lm: LanguageModel, tokens: list[list[int]], layer: int) -> np.ndarray:
    """The same, [B, D], of a family that would mix up branches: one text a row."""
    longest = max(map(len, tokens))
    n_rows = max(1, AT_ONCE // longest)
    means = []
    for start in range(0, len(tokens), n_rows):
        end = start + n_rows
        some = tokens[start:end]
        of_some = _padded_mean(lm, some, layer)  # [n_rows, D]
        means.append(of_some)
    return np.concatenate(means)


def _padded_mean(lm: LanguageModel, tokens: list[list[int]], layer: int) -> np.ndarray:
    """The mean hidden state of each row's tokens, [B, D], padding left out."""

    import torch

    lengths = torch.tensor([len(each) for each in tokens])  # [B]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(each) for each in tokens],
        batch_first=True,
        padding_value=lm.codec.pad_id,
    )  # [B, T]
    places = torch.arange(ids.shape[1])  # [T]
    is_token = places < lengths[:, None]  # [B, T] bool
    ids = ids.to(lm.device)
    mask = is_token.long().to(lm.device)  # [B, T]
    body = lm.base.base_model  # without the output head: its [B, T, V] logits are not needed
    with torch.inference_mode():
        out = body(ids, attention_mask=mask, output_hidden_states=True)
    states = out.hidden_states[layer]  # [B, T, D]
    states = states.float()
    unpadded = states * mask[..., None]  # [B, T, D]
    total = unpadded.sum(1)  # [B, D]
    n_tokens = mask.sum(1, keepdim=True)  # [B, 1]
    mean = total / n_tokens  # [B, D]
    check_finite(mean, lm, "hidden states")
    return mean.cpu().numpy()


def _tokens(lm: LanguageModel, texts: list[str]) -> list[list[int]]:
    """The tokens of each text, their last ones where there are too many; at least one."""
    # a space before each line, as after `user>`: without it a byte-level BPE spells the first word as no text does
    spaced = [" " + text.replace("\n", "\n ") for text in texts]
    prefix = lm.codec.prefix
    room = min(MAX_TOKENS, lm.context_length - len(prefix))
    encoded = lm.tokenizer(spaced, add_special_tokens=False)["input_ids"]
    whole = [prefix + ids[-room:] for ids in encoded]
    return [ids or [lm.codec.pad_id] for ids in whole]
