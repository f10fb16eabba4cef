"""The structure of dialogues: utterances as vectors, clusters and the words that name them, the chain of a dialogue.

Labels are cluster ids 0..k-1, the largest cluster first; -1 is noise (HDBSCAN only) and belongs to no cluster.
"""

import hashlib
import heapq
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from tqdm.auto import tqdm

from labkit.corpora.types import Dialogue, Turn
from labkit.errors import LabError
from labkit.models import LanguageModel, load_model
from labkit.storage import atomic_path

if TYPE_CHECKING:
    import torch

Texts = Sequence[str]
Words = dict[int, list[tuple[str, float]]]  # {cluster: [(word, score)]}, best first
Encoder = tuple[str, Callable[[list[str]], np.ndarray]]  # (identity in the cache, batch of texts -> [B, D])
Paths = list[tuple[float, list[int]]]  # (probability, states between BEGIN and END)
CHUNK = 4096  # texts in one cache file: what an interrupted run can lose


def representations(dialogues: Iterable[Dialogue], window: str | int = "utterance") -> pandas.DataFrame:
    """A row per turn: text, utterance, speaker, dialogue_id, turn, domain, domains (of the dialogue), act, slots.

    `text` is what gets embedded: the turn ("utterance"), the turn before and it ("previous"), or n turns either side.
    `domain` is that of the turn's acts, else of the turn before; `act` is its main act without the domain.

    Raises:
        LabError: another window.
    """
    if not (window in ("utterance", "previous") or (isinstance(window, int) and window >= 0)):
        raise LabError("unknown window", repr(window), 'choose "utterance", "previous" or a number of turns')
    past, future = {"utterance": (0, 0), "previous": (1, 0)}.get(window, (window, window))
    return pandas.DataFrame([row for dialogue in dialogues for row in _rows(dialogue, past, future)])


def _rows(dialogue: Dialogue, past: int, future: int) -> Iterator[dict[str, Any]]:
    domain = "general"
    for i, turn in enumerate(dialogue.turns):
        domain, act, slots = _annotation(turn, domain)
        text = "\n".join(each.utterance for each in dialogue.turns[max(0, i - past) : i + future + 1])
        row = {"text": text, "utterance": turn.utterance, "speaker": turn.speaker, "dialogue_id": dialogue.dialogue_id}
        yield row | {"turn": i, "domain": domain, "domains": dialogue.services, "act": act, "slots": slots}


def _annotation(turn: Turn, domain: str) -> tuple[str, str, tuple[str, ...]]:
    """(domain, main act, slots); booking and general acts name no venue, so the domain of the turn before goes on."""
    names = [name.lower().split("-", 1) for name in turn.acts]
    venues = [name for name in names if name[0] not in ("booking", "general")]
    slots = dict.fromkeys(slot.lower() for pairs in turn.acts.values() for slot, _ in pairs if slot.lower() != "none")
    return (venues[0][0] if venues else domain), (venues or names or [["none"]])[0][-1], tuple(slots)


# --- vectors ----------------------------------------------------------------------------------------------------------


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


# --- clusters ---------------------------------------------------------------------------------------------------------


def cluster(vectors: np.ndarray, k: int, method: str = "kmeans", seed: int = 42, n_init: int = 10) -> np.ndarray:
    """Cluster ids [N], 0..k-1 without a gap, by "kmeans", "gmm" or "hdbscan" (these two on 50 principal components).

    HDBSCAN finds its own number of clusters: there `k` only says how small one may be, N / 8k.

    Raises:
        LabError: unknown method, or fewer distinct vectors than clusters.
    """
    from sklearn.cluster import HDBSCAN, KMeans
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    models = {
        "kmeans": lambda: KMeans(k, n_init=n_init, random_state=seed),
        "gmm": lambda: GaussianMixture(k, covariance_type="diag", reg_covar=1e-5, n_init=3, random_state=seed),
        "hdbscan": lambda: HDBSCAN(min_cluster_size=max(2, len(vectors) // (8 * k)), copy=True),
    }
    if method not in models:
        raise LabError(f"unknown method {method!r}", "", f"choose one of {', '.join(models)}")
    if not 1 <= k <= (distinct := len(np.unique(vectors, axis=0))):
        raise LabError(f"cannot make {k} clusters", f"{distinct} distinct vectors", "choose another k")
    if method != "kmeans":
        vectors = PCA(min(50, *vectors.shape), random_state=seed).fit_transform(vectors.astype(np.float64))
    return relabel(models[method]().fit_predict(vectors))


def relabel(labels: Sequence[int]) -> np.ndarray:
    """The same clusters numbered 0, 1, 2 … from the largest; -1 stays -1."""
    sizes = Counter(int(label) for label in labels if label >= 0)
    new = {old: i for i, old in enumerate(sorted(sizes, key=lambda old: (-sizes[old], old)))}
    return np.array([new.get(int(label), -1) for label in labels])


def choose_k(vectors: np.ndarray, ks: Iterable[int], seed: int = 42, runs: int = 4) -> list[dict[str, float]]:
    """Per k: silhouette (Rousseeuw 1987) on 2,000 vectors, and stability, the mean adjusted Rand index between k-means
    models each fitted on another random 80 % that label all vectors (Lange et al. 2004). For both, 1 is best.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    order = np.random.default_rng(seed)
    parts = [order.permutation(len(vectors))[: int(0.8 * len(vectors))] for _ in range(runs)]
    sample, rows = min(2000, len(vectors)), []
    for k in tqdm(list(ks), desc="choosing k"):
        fits = [KMeans(k, n_init=3, random_state=seed + i).fit(vectors[part]) for i, part in enumerate(parts)]
        labels = [fit.predict(vectors) for fit in fits]
        rand = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
        width = silhouette_score(vectors, labels[0], sample_size=sample, random_state=seed)
        rows.append({"k": k, "silhouette": float(width), "stability": float(np.mean(rand)), "sd": float(np.std(rand))})
    return rows


def class_tf_idf(counts: np.ndarray) -> np.ndarray:
    """Scores [C, W] of words for classes from their counts [C, W]: share of the word in the class × ln(1 + A / f), A
    the mean number of words in a class, f the word's count in all (BERTopic; Grootendorst 2022, eq. 2).
    """
    counts = np.asarray(counts, dtype=float)
    inverse = np.log1p(counts.sum() / len(counts) / counts.sum(0).clip(1))  # [W]
    return counts / counts.sum(1, keepdims=True).clip(1) * inverse


def word_counter(stop_words: Any = None) -> Any:
    """scikit-learn's CountVectorizer for lower-cased words of two letters or more; a placeholder is one word.

    What follows an apostrophe ("ll", "ve") is no word.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(token_pattern=r"\[\w+\]|(?<![\w'’])[a-zA-Z]\w+", stop_words=stop_words)


def representative_words(texts: Texts, labels: Sequence[int], n: int = 10, stop_words: Any = "english") -> Words:
    """The `n` words of each cluster with the highest class TF-IDF, with their scores."""
    joined = pandas.Series(list(texts)).groupby(np.asarray(labels)).agg(" ".join).drop(-1, errors="ignore")
    counter = word_counter(stop_words)
    scores = class_tf_idf(counter.fit_transform(joined).toarray())  # [C, W]
    table = pandas.DataFrame(scores, joined.index, counter.get_feature_names_out())
    return {int(c): [pair for pair in row.nlargest(n).items() if pair[1]] for c, row in table.iterrows()}


def cluster_names(words: Words, n: int = 3) -> dict[int, str]:
    """A name for each cluster: its id and its first `n` words."""
    return {c: " ".join([f"{c} ·", *(word for word, _ in pairs[:n])]) for c, pairs in words.items()} | {-1: "noise"}


def nearest_utterances(vectors: np.ndarray, labels: np.ndarray, texts: Texts, n: int = 5) -> dict[int, list[str]]:
    """For each cluster the `n` different texts whose (unit) vectors are nearest its centroid, nearest first."""
    texts, result = list(texts), {}
    for c in sorted({int(label) for label in labels if label >= 0}):
        members = np.flatnonzero(np.asarray(labels) == c)
        closeness = vectors[members] @ vectors[members].mean(0)  # [members], proportional to the cosine
        ranked = members[np.argsort(-closeness, kind="stable")]
        result[c] = list(dict.fromkeys(texts[i] for i in ranked))[:n]
    return result


def agreement(labels: Sequence[int], gold: Texts, runs: int = 50, seed: int = 42) -> dict[str, dict[str, float]]:
    """V-measure, adjusted Rand index and purity against gold classes: the value, its mean when the labels are permuted
    ("chance": purity and V-measure grow with k alone) and p, the share of permutations that reach the value.
    """
    from sklearn.metrics import adjusted_rand_score, v_measure_score
    from sklearn.metrics.cluster import contingency_matrix

    labels, gold, random = np.asarray(labels), np.asarray(gold), np.random.default_rng(seed)
    measures = {
        "V-measure": v_measure_score,
        "adjusted Rand": adjusted_rand_score,
        "purity": lambda gold, labels: contingency_matrix(gold, labels).max(0).sum() / len(labels),
    }
    shuffled = [random.permutation(labels) for _ in range(runs)]
    result = {}
    for name, measure in measures.items():
        value, chance = measure(gold, labels), np.array([measure(gold, each) for each in shuffled])
        p = (1 + (chance >= value).sum()) / (1 + runs)
        result[name] = {"value": float(value), "chance": float(chance.mean()), "p": float(p)}
    return result


# --- the chain of a dialogue ------------------------------------------------------------------------------------------


def label_sequences(rows: pandas.DataFrame, labels: Sequence[int]) -> list[list[int]]:
    """The labels of each dialogue, turn by turn; noise (-1) is left out."""
    groups = rows.assign(label=np.asarray(labels)).query("label >= 0").sort_values("turn", kind="stable")
    return [group.tolist() for _, group in groups.groupby("dialogue_id", sort=False)["label"]]


def transition_matrix(sequences: Iterable[Sequence[int]], k: int) -> np.ndarray:
    """P(next state | state), [k+2, k+2], of the Markov chain of dialogues; state k is BEGIN, state k+1 is END.

    Every row sums to one: END is absorbing, and a state that never occurs goes anywhere but to BEGIN, equally often.

    Raises:
        LabError: a label outside 0..k-1.
    """
    counts = np.zeros((k + 2, k + 2))
    for sequence in sequences:
        if not all(0 <= label < k for label in sequence):
            raise LabError(f"a label outside 0..{k - 1}", str(list(sequence)), "relabel the clusters")
        path = [k, *sequence, k + 1]
        np.add.at(counts, (path[:-1], path[1:]), 1)
    counts[k + 1, k + 1] = 1
    unseen = counts.sum(1) == 0
    counts[unseen, :k] = counts[unseen, k + 1] = 1
    return counts / counts.sum(1, keepdims=True)


def likely_paths(matrix: np.ndarray, n: int = 5, turns: int | None = None, max_turns: int = 20) -> Paths:
    """The `n` most probable paths from BEGIN to END, with exactly `turns` states between them or at most `max_turns`
    (n-best Viterbi: of each length only the n best ways into every state are kept).
    """
    begin = len(matrix) - 2
    ways: dict[int, Paths] = {begin: [(1.0, [])]}
    ended: Paths = []
    for length in range((turns or max_turns) + 1):
        steps = [(p, path, matrix[state]) for state, best in ways.items() for p, path in best if p > 0]
        ended += [(float(p * row[begin + 1]), path) for p, path, row in steps if turns in (None, length)]
        ways = {s: heapq.nlargest(n, ((p * row[s], [*path, s]) for p, path, row in steps)) for s in range(begin)}
    return [(p, path) for p, path in heapq.nlargest(n, ended) if p > 0]


def chain_bits(train: Iterable[Sequence[int]], held_out: Iterable[Sequence[int]], k: int, order: int = 1) -> float:
    """Bits per step, END included, that a Markov chain of this order needs for held-out dialogues; lower is better.

    The counts of a context are smoothed towards those of the context one shorter, down to the uniform distribution
    (MacKay & Peto 1995), so that a higher order does not lose for lack of data alone.
    """

    def steps(sequences: Iterable[Sequence[int]]) -> Iterator[tuple[int, ...]]:  # (… the states before, state)
        for sequence in sequences:
            path = (*[k] * order, *map(int, sequence), k + 1)  # BEGIN fills up the first contexts
            yield from (path[i - order : i + 1] for i in range(order, len(path)))

    grams, contexts, bits = Counter(), Counter(), []
    for gram in steps(train):
        grams.update(gram[n:] for n in range(order + 1))
        contexts.update(gram[n:-1] for n in range(order + 1))
    for gram in steps(held_out):
        p = 1 / (k + 1)
        for n in reversed(range(order + 1)):  # from the empty context to the full one
            p = (grams[gram[n:]] + 5 * p) / (contexts[gram[n:-1]] + 5)  # as if 5 steps had followed it
        bits.append(-np.log2(p))
    return float(np.mean(bits))


def turn_bits(rows: pandas.DataFrame, labels: Sequence[int], order: int = 1, share: float = 0.8) -> dict[str, float]:
    """Bits per turn for the dialogues after the first `share`: which cluster comes (END included), then which words.

    A chain of more states always finds the next one harder to guess, so numbers of clusters can be compared by the sum
    only: it is the length of a code for the same utterances (Rissanen 1978). Words are drawn from their cluster's
    unigrams, smoothed towards those of all clusters as if 50 such words had been seen. Noise is a state here.
    """
    labels = np.asarray(labels)
    labels = np.where(labels < 0, labels.max() + 1, labels)
    sequences, k = label_sequences(rows, labels), int(labels.max()) + 1
    cut = int(share * len(sequences))
    known = rows["dialogue_id"].isin(rows["dialogue_id"].unique()[:cut]).to_numpy()  # [N] bool
    counts = word_counter().fit_transform(rows["utterance"])  # [N, V]
    seen = np.stack([np.ravel(counts[known & (labels == c)].sum(0)) for c in range(k)])  # [k, V]
    overall = (seen.sum(0) + 1) / (seen.sum() + seen.shape[1])  # [V]
    bits = -np.log2((seen + 50 * overall) / (seen.sum(1, keepdims=True) + 50))  # [k, V]
    told, turns = counts[~known].tocoo(), (~known).sum()
    words = (told.data * bits[labels[~known][told.row], told.col]).sum() / turns
    steps = 1 + (len(sequences) - cut) / turns  # a turn's, END included
    chain = steps * chain_bits(sequences[:cut], sequences[cut:], k, order)
    return {"cluster": float(chain), "words": float(words), "sum": float(chain + words)}


# --- the map ----------------------------------------------------------------------------------------------------------


def neighbours(vectors: np.ndarray, n_neighbors: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Nearest neighbours (indices, distances), both [N, n], each vector its own first; for `umap_map(knn=…)`."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(n_neighbors, len(vectors)), algorithm="brute").fit(vectors)
    distances, indices = index.kneighbors(vectors)
    return indices, distances


def umap_map(vectors: np.ndarray, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 42, knn: Any = None) -> Any:
    """A map of unit vectors, [N, 2] (UMAP; McInnes et al. 2018). With `knn` (from `neighbours`) only the layout is
    computed: it serves for every `min_dist` and for every `n_neighbors` up to its own.

    Raises:
        LabError: fewer than 5 vectors.
    """
    if len(vectors) < 5:
        raise LabError("too few vectors for a map", f"{len(vectors)}", "choose more dialogues")
    from threadpoolctl import threadpool_limits
    from umap import UMAP

    n_neighbors = min(n_neighbors, len(vectors) - 1)
    # umap 0.5 forgets to cut the neighbours to n_neighbors below 4,096 vectors: then n_neighbors would have no effect
    knn = tuple(part[:, :n_neighbors] for part in knn or neighbours(vectors, n_neighbors))
    settings = {"n_neighbors": n_neighbors, "min_dist": min_dist, "random_state": seed, "n_jobs": 1}
    settings["init"] = "pca"  # the spectral one fails where many utterances are equal, and then begins at random
    # numba starts OpenMP, which torch shares, on all cores; left alone, later cells wait for one another's threads
    with threadpool_limits(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn.2.")  # new points are never mapped
        return UMAP(precomputed_knn=knn, **settings).fit_transform(vectors)
