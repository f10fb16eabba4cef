"""Pre-training mini-pythia: the script on a tiny scale, and what the shipped models must be."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from labkit.corpora.miniwoz.pretraining import pretraining_texts
from labkit.course.standins import pretrain
from labkit.errors import LabError
from labkit.models import load_model
from labkit.models.find import WEIGHTS

SHIPPED = [WEIGHTS / f"mini-pythia-{size}" for size in pretrain.SIZES]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LENGTH": 64,
        "BATCH": 2,
        "SAVE_STEPS": 2,
        "SIZES": {"500k": pretrain.Size(16, 2, 2, 1e-3)},
    }.items():
        monkeypatch.setattr(pretrain, name, value)


@pytest.mark.slow
def test_pretraining_writes_a_model_that_loads(tmp_path: Path) -> None:
    out = pretrain.pretrain("500k", tmp_path / "mini", steps=3, n_texts=30)
    lm = load_model(str(out))
    assert lm.n_parameters == pretrain.build("500k").num_parameters()
    assert lm.codec.decode(lm.codec.encode(" a [restaurant_name], é\n")) == "a [restaurant_name], é"
    assert lm.codec.end == [0] and lm.context_length == pretrain.CONTEXT
    card = (out / "README.md").read_text()
    assert "stand-in" in card and "3 steps" in card and "perplexity" in card
    assert not (out / ".checkpoint").exists()


@pytest.mark.parametrize("speedup", [0.3, 2.0])
def test_one_seed_gives_two_models_on_a_busy_machine(speedup, tmp_path, monkeypatch) -> None:
    """Steps of a small model take nearly the same time in both types: the faster one was drawn anew for every run."""
    monkeypatch.setattr(pretrain, "bf16_speedup", lambda: speedup)
    asked = {"size": "500k", "seed": 1, "n_texts": 30, "minutes": None, "steps": 4}
    chosen = set()
    for busy in (False, True):
        monkeypatch.setattr(pretrain, "_seconds_per_step", lambda _, dtype, busy=busy: 1 + (dtype == "float32") * busy)
        plan = pretrain._plan(asked, pretrain.build("500k"), tmp_path / str(busy))
        chosen.add(plan["dtype"])
    assert chosen == {"bfloat16" if speedup > 1 else "float32"}


@pytest.mark.slow
def test_stopped_pretraining_goes_on_and_refuses_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps: a resumed run that begins again, that mixes two configurations, or that loses the output head."""
    whole = pretrain.pretrain("500k", tmp_path / "whole", steps=4, n_texts=30)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.trainer.Trainer.training_step", _stopping_at(4))
        with pytest.raises(LabError, match="goes on from the last checkpoint"):
            pretrain.pretrain("500k", tmp_path / "parts", steps=4, n_texts=30)
    with pytest.raises(LabError, match="another run"):
        pretrain.pretrain("500k", tmp_path / "parts", steps=5, n_texts=30)
    seen: list[int] = []
    monkeypatch.setattr("transformers.trainer.Trainer.training_step", _stopping_at(99, seen))
    parts = pretrain.pretrain("500k", tmp_path / "parts", steps=4, n_texts=30)
    assert len(seen) == 2  # of 4 steps, 2 were in the checkpoint
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def _stopping_at(step: int, seen: list[int] | None = None):
    from transformers import Trainer

    original, seen = Trainer.training_step, seen if seen is not None else []

    def training_step(self, *args, **kwargs):
        seen.append(1)
        if len(seen) == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    return training_step


def test_unknown_size_is_named() -> None:
    with pytest.raises(LabError, match="'70m'"):
        pretrain.pretrain("70m")


@pytest.mark.parametrize(
    "given", [{"steps": 0}, {"steps": -1}, {"minutes": 0}, {"minutes": -1.0}, {"minutes": math.nan}]
)
def test_steps_that_train_nothing_train_for_hours(given, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"train.*→ choose"):
        pretrain.pretrain("500k", tmp_path / "out", **given)


def test_pretraining_into_a_folder_deletes_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LabError, match=r"did not write.*thesis\.tex"):  # before it trains
        pretrain.pretrain("500k", tmp_path, steps=1, n_texts=30)
    assert (tmp_path / "thesis.tex").exists()


def test_shipped_models_are_small_and_share_a_tokenizer() -> None:
    assert sum(file.stat().st_size for folder in SHIPPED for file in folder.glob("*.safetensors")) < 25e6
    assert len({(folder / "tokenizer.json").read_bytes() for folder in SHIPPED}) == 1


@pytest.mark.slow
def test_shipped_models_spread_fourfold_and_a_larger_one_predicts_better() -> None:
    """The claim of notebook 1 about size, on texts of another seed than the training's."""
    models = [load_model(folder.name) for folder in SHIPPED]
    sizes = [lm.n_parameters for lm in models]
    assert all(larger / smaller >= 4 for smaller, larger in pairwise(sizes))
    texts = pretraining_texts(seed=1, n=12)
    losses = [_loss(lm, texts) for lm in models]
    assert losses == sorted(losses, reverse=True) and losses[0] < math.log(models[0].model.config.vocab_size) / 2


def _loss(lm, texts: list[str]) -> float:
    rows = [torch.tensor([lm.tokenizer.encode(text)]) for text in texts]  # [1, T]
    with torch.no_grad():
        return sum(lm.model(input_ids=ids, labels=ids).loss.item() for ids in rows) / len(rows)
