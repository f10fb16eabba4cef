"""A later notebook starts from what the student made, or from the reference where there is nothing, and says which."""

from pathlib import Path

from labkit.corpora.types import Corpus
from labkit.lab import Lab
from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune


def own_adapter(lab: Lab, lm: LanguageModel) -> Path:
    """The folder that notebook 2 trains a model's adapter into."""
    return lab.home / "adapters" / f"{lab.profile.name}-{lm.name.split('/')[-1]}-qlora"


def adapter(lab: Lab, corpus: Corpus, lm: LanguageModel) -> Path:
    """The folder of your adapter of notebook 2, if its training has finished; else of the reference; prints which.

    The reference is trained on `lm` by the first call, for the few steps of a sweep; later calls return at once, and an
    interrupted one goes on. `lm` stays the base model.

    Raises:
        LabError: what `finetune` raises.
    """
    own, size = own_adapter(lab, lm), lab.profile
    if (own / "result.json").is_file():
        print(f"from your adapter of notebook 2: {own.relative_to(lab.home)}")
        return own
    state = "has not finished: its cell goes on where it stopped" if (own / "run.json").is_file() else "is not there"
    print(f"from the reference, {size.sweep_steps} steps trained here; your adapter of notebook 2 {state}")
    sizes = {"max_steps": size.sweep_steps, "batch_size": size.batch_dialogues, "max_length": size.max_length}
    config = FinetuneConfig(eval_steps=0, seed=lab.seed, **sizes)
    return finetune(lm, corpus, config, own.with_name(f"{own.name.removesuffix('qlora')}reference")).adapter
