"""A log-linear model of documents: θ_d = softmax(b + E a_d), the words of document d drawn from θ_d.

This is the subspace multinomial model: the point estimate of what Kesiraju et al. (2020), "Learning document embeddings
along with their uncertainties", IEEE/ACM TASLP 28, make Bayesian. Both the documents' vectors a_d and the words' rows
of E have Gaussian priors. One without the other would be no prior at all: E could grow as much as a_d shrinks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labkit.bars import progress_bar
from labkit.errors import LabError
from labkit.structure.checks import clean_texts, seed_number, whole_number
from labkit.structure.words import count_words

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

Texts = Sequence[str]
BATCH = 64  # documents: [BATCH, V] is the largest array that is ever dense
COMPLETION_EPOCHS = 30  # to find the vectors of texts that were held out; E and b stay as they are


@dataclass(frozen=True)
class DocumentModel:
    """What was learned from D documents with V words: `b` [V], `E` [V, K] and `documents` (the vectors a_d) [D, K].

    `unigrams` [V] are the log frequencies that b began as; `history` is the negative log-likelihood in nats per word,
    a value an epoch: in the first all vectors are still zero.
    """

    counter: "CountVectorizer"
    unigrams: np.ndarray
    b: np.ndarray
    E: np.ndarray
    documents: np.ndarray
    history: list[float]
    prior: float

    def typical(self, vector: np.ndarray, n: int = 8) -> list[str]:
        """The `n` words whose probability a step in the direction of `vector` [K] raises most."""
        names = self.counter.get_feature_names_out()  # [V]
        rise = self.E @ vector  # [V]
        return [str(names[i]) for i in np.argsort(-rise)[:n]]


def document_model(
    texts: Texts,
    size: int = 16,
    epochs: int = 20,
    prior: float = 3.0,
    seed: int = 42,
) -> DocumentModel:
    """Learn E, b and the texts' vectors by Adam on mini-batches of sparse word counts; b starts at the log unigrams.

    Args:
        size: K, the length of a document's vector.
        prior: precision of the Gaussian prior of a_d and of the rows of E.

    Raises:
        LabError: no text has a word, or a size, number of epochs, prior or seed that cannot be.
    """

    import torch

    size = whole_number("size", size, 1)
    epochs = whole_number("epochs", epochs, 1)
    is_number = isinstance(prior, int | float)
    if not is_number or not 0 <= prior < math.inf:
        what = f"prior cannot be {prior!r}"
        raise LabError(what, "", "choose a number, 0 or more")
    seed = seed_number(seed)
    draw = torch.Generator().manual_seed(seed)
    counts, counter = count_words(texts, nothing="nothing to model")  # [D, V]

    in_all = torch.tensor(counts.sum(axis=0))  # [1, V]
    frequency = in_all.float().flatten()  # [V]
    share = frequency / frequency.sum()  # [V]
    unigrams = share.log()  # [V]
    b = unigrams.clone().requires_grad_()  # [V]
    normal = torch.randn(len(b), size, generator=draw)  # [V, K]
    E = normal / size**0.5  # [V, K]
    E.requires_grad_()
    documents, history = _fit(
        counts,
        b,
        E,
        epochs=epochs,
        prior=prior,
        draw=draw,
        learned=[b, E],
    )
    return DocumentModel(
        counter=counter,
        unigrams=unigrams.numpy(),
        b=b.detach().numpy(),
        E=E.detach().numpy(),
        documents=documents.numpy(),
        history=history,
        prior=prior,
    )


def _fit(
    counts: "csr_matrix",
    b: "torch.Tensor",
    E: "torch.Tensor",
    *,
    epochs: int,
    prior: float,
    draw: "torch.Generator",
    learned: Sequence["torch.Tensor"] = (),
) -> tuple["torch.Tensor", list[float]]:
    """The documents' vectors [D, K] that maximise the posterior, and nats per word by epoch; `learned` moves along."""
    import torch

    n_documents = counts.shape[0]
    documents = torch.nn.Embedding(n_documents, E.shape[1], sparse=True)
    torch.nn.init.zeros_(documents.weight)  # θ is the unigrams' at first, whatever E is
    steps: list[torch.optim.Optimizer] = [torch.optim.SparseAdam(documents.parameters(), lr=0.1)]
    if learned:
        steps.append(torch.optim.Adam(learned, lr=0.02))

    history = []
    for _ in progress_bar(range(epochs), desc="documents"):
        nats = 0.0
        for batch in torch.randperm(n_documents, generator=draw).split(BATCH):
            a = documents(batch)  # [B, K]
            loss = _nats(counts[batch.numpy()], b, E, a)
            nats += loss.item()
            # the prior of E is paid once an epoch: each batch pays its share
            penalty = a.square().sum() + E.square().sum() * len(batch) / n_documents
            (loss + prior / 2 * penalty).backward()
            for step in steps:
                step.step()
                step.zero_grad()
        n_words = max(1, counts.sum())
        history.append(float(nats / n_words))
    return documents.weight.detach(), history


def _nats(
    counts: "csr_matrix",
    b: "torch.Tensor",
    E: "torch.Tensor",
    a: "torch.Tensor",
) -> "torch.Tensor":
    """Negative log-likelihood of the words of a batch, summed; only words that occur are looked up."""

    import torch

    log_theta = torch.log_softmax(b + a @ E.T, 1)  # [B, V]
    found = counts.tocoo()  # (document, word, count) of each word that occurs
    of_words = log_theta[found.row, found.col]
    log_likelihood = torch.tensor(found.data) * of_words
    return -log_likelihood.sum()


def completion(model: DocumentModel, texts: Texts, seed: int = 42) -> dict[str, float]:
    """Perplexity by document completion: of each held-out text a random half of the words gives its vector, the other
    half is scored, by θ of that vector ("document model") and by the unigrams of the training texts.

    Words that the model does not know are left out.

    Raises:
        LabError: the texts have no word that the model knows, or none in the half to be scored.
    """

    import torch

    seed = seed_number(seed)
    texts = clean_texts(texts)
    words = model.counter.transform(texts)  # [D, V]
    random = np.random.default_rng(seed)
    seen = words.copy()
    seen.data = random.binomial(words.data, 0.5)
    hidden = words - seen
    if hidden.sum() == 0:
        found = f"{words.sum()} known words in {words.shape[0]} texts"
        raise LabError("no words to score", found, "hold out more dialogues")

    b = torch.tensor(model.b)  # [V]
    E = torch.tensor(model.E)  # [V, K]
    draw = torch.Generator().manual_seed(seed)
    a, _ = _fit(
        seen,
        b,
        E,
        epochs=COMPLETION_EPOCHS,
        prior=model.prior,
        draw=draw,
    )  # [D, K]
    log_unigrams = torch.tensor(model.unigrams)  # [V]
    no_vectors = torch.zeros_like(a)  # [D, K]
    return {
        "unigrams": _perplexity(hidden, log_unigrams, E, no_vectors),
        "document model": _perplexity(hidden, b, E, a),
    }


def _perplexity(
    counts: "csr_matrix",
    b: "torch.Tensor",
    E: "torch.Tensor",
    a: "torch.Tensor",
) -> float:
    """e to the mean negative log-likelihood of a word."""

    import torch

    nats = 0.0
    places = torch.arange(len(a))  # [D]
    for batch in places.split(BATCH):
        of_batch = counts[batch.numpy()]
        batch_nats = _nats(of_batch, b, E, a[batch])
        nats += batch_nats.item()
    mean = nats / counts.sum()
    return float(np.exp(mean))
