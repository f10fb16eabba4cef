"""A later notebook starts from what the student made, or from the reference where there is nothing, and says which."""

from pathlib import Path
from typing import NamedTuple

from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.models import LanguageModel
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune


class Made(NamedTuple):
    """An adapter that the student trains in one notebook, and later ones go on from."""

    notebook: int
    folder: str  # the end of its folder's name
    reference: str  # the end of the name of the folder that stands in for it
    limited: bool  # whether the reference, as the student's own, learns from the profile's number of dialogues only


MADE = {
    "turns": Made(2, "qlora", "reference", limited=False),
    "changes-db": Made(5, "states", "reference-states", limited=True),
}


def own_adapter(lab: Lab, lm: LanguageModel, format: str = "turns") -> Path:
    """The folder that notebook 2 trains a model's adapter into; that of notebook 5, where format is "changes-db".

    Raises:
        LabError: no notebook hands on an adapter of that format.
    """
    return _folder(lab, lm, _made(format).folder)


def _made(format: str) -> Made:
    if format not in MADE:
        choices = ", ".join(MADE)
        raise LabError(f"no notebook hands on an adapter of the format {format!r}", "", f"choose one of {choices}")
    return MADE[format]


def _folder(lab: Lab, lm: LanguageModel, kind: str) -> Path:
    model = lm.name.split("/")[-1]
    return lab.home / "adapters" / f"{lab.profile.name}-{model}-{kind}"


def adapter(
    lab: Lab,
    corpus: Corpus,
    lm: LanguageModel,
    *,
    steps: int | None = None,
    format: str = "turns",
) -> Path:
    """The folder of your adapter of an earlier notebook, if its training has finished; else of the reference.

    It prints which. The reference is trained on `lm` by the first call; later calls return at once, and an interrupted
    one goes on. `lm` stays the base model.

    Args:
        steps: of the reference's training; by default the few of a sweep, which is enough to look inside.
        format: that the adapter was trained in, and so the notebook that made it (see `own_adapter`).

    Raises:
        LabError: what `own_adapter` and `finetune` raise.
    """
    made = _made(format)
    own = own_adapter(lab, lm, format)
    profile = lab.profile
    whose = f"your adapter of notebook {made.notebook}"
    if (own / "result.json").is_file():
        print(f"from {whose}: {own.relative_to(lab.home)}")
        return own
    state = "is not there"
    if (own / "run.json").is_file():
        state = "has not finished: its cell goes on where it stopped"
    n_steps = steps or profile.sweep_steps
    kind = made.reference
    if n_steps != profile.sweep_steps:
        kind = f"{kind}-{n_steps}-steps"  # a folder belongs to one configuration
    print(f"from the reference, {n_steps} steps trained here; {whose} {state}")
    config = FinetuneConfig(
        format=format,
        max_steps=n_steps,
        max_train_dialogues=profile.train_dialogues if made.limited else None,  # None: as in folders of earlier labkits
        batch_size=profile.batch_dialogues,
        max_length=profile.max_length,
        eval_steps=0,
        seed=lab.seed,
    )
    return finetune(lm, corpus, config, _folder(lab, lm, kind)).adapter
