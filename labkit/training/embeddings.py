"""Whether the embeddings are trained along with a LoRA."""

from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig


def trains_embeddings(lm: LanguageModel, config: FinetuneConfig) -> bool:
    """A LoRA cannot reach the rows of tokens that pre-training hardly used, such as a stand-in's placeholders.

    mini-pythia-8m on MiniWOZ, --bits 4 --batch-size 2 --max-steps 240 --eval-steps 240: validation loss 0.89 with
    --train-embeddings, 1.22 with --no-train-embeddings.
    """
    if config.train_embeddings is None:
        return lm.stand_in
    return config.train_embeddings
