"""A later notebook starts from what the student made, or from the reference where there is nothing, and says which."""

from pathlib import Path

from labkit.corpora.types import Corpus
from labkit.lab import Lab
from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune


def own_adapter(lab: Lab, lm: LanguageModel) -> Path:
    """The folder that notebook 2 trains a model's adapter into."""
    return _folder(lab, lm, "qlora")


def _folder(lab: Lab, lm: LanguageModel, kind: str) -> Path:
    model = lm.name.split("/")[-1]
    return lab.home / "adapters" / f"{lab.profile.name}-{model}-{kind}"


def adapter(lab: Lab, corpus: Corpus, lm: LanguageModel, *, steps: int | None = None) -> Path:
    """The folder of your adapter of notebook 2, if its training has finished; else of the reference; prints which.

    The reference is trained on `lm` by the first call; later calls return at once, and an interrupted one goes on. `lm`
    stays the base model.

    Args:
        steps: of the reference's training; by default the few of a sweep, which is enough to look inside.

    Raises:
        LabError: what `finetune` raises.
    """
    own = own_adapter(lab, lm)
    profile = lab.profile
    if (own / "result.json").is_file():
        print(f"from your adapter of notebook 2: {own.relative_to(lab.home)}")
        return own
    state = "is not there"
    if (own / "run.json").is_file():
        state = "has not finished: its cell goes on where it stopped"
    n_steps = steps or profile.sweep_steps
    kind = "reference"
    if n_steps != profile.sweep_steps:
        kind = f"reference-{n_steps}-steps"  # a folder belongs to one configuration
    print(f"from the reference, {n_steps} steps trained here; your adapter of notebook 2 {state}")
    config = FinetuneConfig(
        max_steps=n_steps,
        batch_size=profile.batch_dialogues,
        max_length=profile.max_length,
        eval_steps=0,
        seed=lab.seed,
    )
    return finetune(lm, corpus, config, _folder(lab, lm, kind)).adapter
