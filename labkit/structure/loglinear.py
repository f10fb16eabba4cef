"""A log-linear model of documents: θ_d = softmax(b + E a_d), the words of document d drawn from θ_d.

This is the subspace multinomial model: the point estimate of what Kesiraju et al. (2020), "Learning document embeddings
along with their uncertainties", IEEE/ACM TASLP 28, make Bayesian. Both the documents' vectors a_d and the words' rows
of E have Gaussian priors. One without the other would be no prior at all: E could grow as much as a_d shrinks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from labkit.errors import LabError
from labkit.structure.words import word_counter

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_array

Texts = Sequence[str]
BATCH = 64  # documents: [BATCH, V] is the largest array that is ever dense


@dataclass(frozen=True)
class DocumentModel:
    """What was learned from D documents with V words: `b` [V], `E` [V, K] and `documents` (the vectors a_d) [D, K].

    `unigrams` [V] are the log frequencies that b began as; `history` is the negative log-likelihood in nats per word,
    a value an epoch: in the first all vectors are still zero.
    """

    counter: Any
    unigrams: np.ndarray
    b: np.ndarray
    E: np.ndarray
    documents: np.ndarray
    history: list[float]
    prior: float

    def typical(self, vector: np.ndarray, n: int = 8) -> list[str]:
        """The `n` words whose probability a step in the direction of `vector` [K] raises most."""
        names = self.counter.get_feature_names_out()
        return [str(names[i]) for i in np.argsort(-(self.E @ vector))[:n]]


def document_model(texts: Texts, size: int = 16, epochs: int = 20, prior: float = 3.0, seed: int = 42) -> DocumentModel:
    """Learn E, b and the texts' vectors by Adam on mini-batches of sparse word counts; b starts at the log unigrams.

    Args:
        size: K, the length of a document's vector.
        prior: precision of the Gaussian prior of a_d and of the rows of E.

    Raises:
        LabError: no text has a word.
    """
    import torch

    counter = word_counter()
    try:
        counts = counter.fit_transform(texts)  # [D, V]
    except ValueError as error:
        raise LabError("nothing to model", str(error), "choose more dialogues") from error
    draw = torch.Generator().manual_seed(seed)
    frequency = torch.tensor(counts.sum(0)).float().flatten()
    unigrams = (frequency / frequency.sum()).log()
    b = unigrams.clone().requires_grad_()
    E = (torch.randn(len(b), size, generator=draw) / size**0.5).requires_grad_()
    documents, history = _fit(counts, b, E, epochs, prior, draw, [b, E])
    arrays = [each.detach().numpy() for each in (unigrams, b, E, documents)]
    return DocumentModel(counter, *arrays, history, prior)


def _fit(
    counts: "csr_array", b: Any, E: Any, epochs: int, prior: float, draw: Any, learned: Sequence[Any] = ()
) -> tuple["torch.Tensor", list[float]]:
    """The documents' vectors [D, K] that maximise the posterior, and nats per word by epoch; `learned` moves along."""
    import torch

    documents = torch.nn.Embedding(counts.shape[0], E.shape[1], sparse=True)
    torch.nn.init.zeros_(documents.weight)  # θ is the unigrams' at first, whatever E is
    steps: list[Any] = [torch.optim.SparseAdam(documents.parameters(), lr=0.1)]
    steps += [torch.optim.Adam(learned, lr=0.02)] if learned else []
    history = []
    for _ in tqdm(range(epochs), desc="documents"):
        nats = 0.0
        for batch in torch.randperm(counts.shape[0], generator=draw).split(BATCH):
            a = documents(batch)  # [B, K]
            loss = _nats(counts[batch.numpy()], b, E, a)
            nats += loss.item()
            penalty = a.square().sum() + E.square().sum() * len(batch) / counts.shape[0]
            (loss + prior / 2 * penalty).backward()
            for step in steps:
                step.step()
                step.zero_grad()
        history.append(float(nats / counts.sum()))
    return documents.weight.detach(), history


def _nats(counts: "csr_array", b: Any, E: Any, a: Any) -> "torch.Tensor":
    """Negative log-likelihood of the words of a batch, summed; only words that occur are looked up."""
    import torch

    log_theta = torch.log_softmax(b + a @ E.T, 1)  # [B, V]
    found = counts.tocoo()
    return -(torch.tensor(found.data) * log_theta[found.row, found.col]).sum()


def completion(model: DocumentModel, texts: Texts, seed: int = 42) -> dict[str, float]:
    """Perplexity by document completion: of each held-out text a random half of the words gives its vector, the other
    half is scored, by θ of that vector ("document model") and by the unigrams of the training texts.

    Words that the model does not know are left out.
    """
    import torch

    words = model.counter.transform(texts)  # [D, V]
    seen = words.copy()
    seen.data = np.random.default_rng(seed).binomial(words.data, 0.5)
    hidden = words - seen
    b, E = torch.tensor(model.b), torch.tensor(model.E)
    a, _ = _fit(seen, b, E, 30, model.prior, torch.Generator().manual_seed(seed))
    batches = torch.arange(len(a)).split(BATCH)

    def perplexity(b: Any, a: Any) -> float:
        return float(np.exp(sum(_nats(hidden[i.numpy()], b, E, a[i]).item() for i in batches) / hidden.sum()))

    unigrams = perplexity(torch.tensor(model.unigrams), torch.zeros_like(a))
    return {"unigrams": unigrams, "document model": perplexity(b, a)}
