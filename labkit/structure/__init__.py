"""The structure of dialogues: utterances as vectors, clusters and the words that name them, the chain of a dialogue.

Labels are cluster ids 0..k-1, the largest cluster first; -1 is noise (HDBSCAN only) and belongs to no cluster.
"""

from labkit.structure.chain import (
    Paths,
    chain_bits,
    label_sequences,
    likely_paths,
    transition_matrix,
    turn_bits,
)
from labkit.structure.clusters import agreement, choose_k, cluster, relabel
from labkit.structure.embed import CHUNK, Encoder, SentenceEncoder, embed  # the function hides its module
from labkit.structure.maps import neighbours, umap_map
from labkit.structure.rows import representations
from labkit.structure.words import (
    Texts,
    Words,
    class_tf_idf,
    cluster_names,
    nearest_utterances,
    representative_words,
    word_counter,
)

__all__ = [
    "CHUNK",
    "Encoder",
    "Paths",
    "SentenceEncoder",
    "Texts",
    "Words",
    "agreement",
    "chain_bits",
    "choose_k",
    "class_tf_idf",
    "cluster",
    "cluster_names",
    "embed",
    "label_sequences",
    "likely_paths",
    "nearest_utterances",
    "neighbours",
    "relabel",
    "representations",
    "representative_words",
    "transition_matrix",
    "turn_bits",
    "umap_map",
    "word_counter",
]
