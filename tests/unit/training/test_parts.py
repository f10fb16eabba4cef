"""A step on a CPU whose rows are trained by threads, each by itself."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import CASES, case
from tiny_training import TINY, plain_corpus, plain_dialogue, tiny_lm

from labkit.models import LanguageModel, attach_adapter
from labkit.models.families import route_of
from labkit.models.likelihood import target_loss
from labkit.prompts.build import examples
from labkit.training import parts, trainer
from labkit.training.data import Collator
from labkit.training.parts import add_gradients, parts_of, rows_at_once, works_in_parts
from labkit.training.run import finetune

WIDE = 2**15  # a row is enough for a part
WITH_DROPOUT = ("GPT-2", "GPT-BigCode", "OPT")  # families that drop numbers in training unless told otherwise
ADAPTER = "adapter_model.safetensors"
ALMOST = {"rtol": 1e-4, "atol": 1e-3}  # sums in another order; gradients are up to some tens


def batch_of(lm: LanguageModel, *lengths: int) -> dict[str, torch.Tensor]:
    rows = []
    for number, length in enumerate(lengths):
        (example,) = examples(plain_dialogue(f"dialogue {number}", length), lm.codec)
        rows.append({"input_ids": example.input_ids, "labels": example.labels})
    return Collator(lm.codec.pad_id)(rows)


def tuned(family: str = "gpt_neox") -> LanguageModel:
    """A model with a LoRA that does something."""
    lm = attach_adapter(tiny_lm(family), r=2, init_lora_weights=False)
    lm.model.train()
    return lm


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_rows_trained_apart_have_the_gradient_of_the_batch(family: str, four_threads) -> None:
    lm = tuned(family)
    batch = batch_of(lm, 1, 3, 2, 1, 3)
    trained = [parameter for parameter in lm.model.parameters() if parameter.requires_grad]
    whole = target_loss(lm.model, **batch)
    whole.backward()
    wanted = [parameter.grad for parameter in trained]
    lm.model.zero_grad()

    loss = add_gradients(lambda part: target_loss(lm.model, **part), parts_of(batch, WIDE), trained)
    torch.testing.assert_close(loss, whole.detach())
    torch.testing.assert_close([parameter.grad for parameter in trained], wanted, **ALMOST)
    add_gradients(lambda part: target_loss(lm.model, **part), parts_of(batch, WIDE), trained)
    torch.testing.assert_close([parameter.grad for parameter in trained], [2 * one for one in wanted], **ALMOST)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_rows_of_every_family_are_trained_side_by_side_as_in_a_batch(name: str, four_threads) -> None:
    """Trap: a family whose layers keep something of the pass before, which is then another thread's."""
    lm = attach_adapter(case(name), r=2, init_lora_weights=False)
    if not works_in_parts(lm, TINY, "float32"):
        assert not route_of(lm.base).by_tree or name in WITH_DROPOUT
        pytest.skip(f"{name} is trained a batch at a time")
    lm.model.train()
    batch = batch_of(lm, 1, 3, 2, 1)
    trained = [parameter for parameter in lm.model.parameters() if parameter.requires_grad]
    whole = target_loss(lm.model, **batch)
    wanted = torch.autograd.grad(whole, trained, allow_unused=True)
    for _ in range(3):
        lm.model.zero_grad()
        loss = add_gradients(lambda part: target_loss(lm.model, **part), parts_of(batch, WIDE), trained)
        assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-4)
        for parameter, gradient in zip(trained, wanted, strict=True):
            if gradient is not None:
                off = (parameter.grad - gradient).norm()
                assert float(off) <= 1e-3 * float(gradient.norm()) + 1e-4


def test_every_row_is_in_one_part_without_the_padding_of_longer_ones() -> None:
    lm = tiny_lm()
    batch = batch_of(lm, 1, 3, 2, 1, 3)
    apart = parts_of(batch, WIDE)
    assert all(len(part["input_ids"]) == 1 and part["attention_mask"].all() for part in apart)
    read = sorted(part["input_ids"][0].tolist() for part in apart)
    wanted = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        wanted.append(ids[mask.bool()].tolist())
    assert read == sorted(wanted)
    lengths = [part["input_ids"].shape[1] for part in apart]
    assert lengths == sorted(lengths, reverse=True), "the longest one comes last, and all others wait for it"


@pytest.mark.parametrize(("width", "sizes"), [(1, [3, 2]), (WIDE, [1] * 5)])
def test_rows_of_a_narrow_model_go_together(width: int, sizes: list[int]) -> None:
    """Trap: parts so small that Python takes more time than the numbers; or one part, and one thread that works."""
    found = parts_of(batch_of(tiny_lm(), 1, 3, 2, 1, 3), width)
    assert [len(part["input_ids"]) for part in found] == sizes


@pytest.mark.slow
def test_rows_side_by_side_train_what_a_batch_does_and_the_same_bytes_each_time(
    tmp_path: Path, four_threads, monkeypatch
) -> None:
    """Trap: gradients added in the order in which threads happen to be ready."""
    config = replace(TINY, batch_size=4)

    def losses(folder: str) -> list[float]:
        history = finetune(tiny_lm(), plain_corpus(), config, tmp_path / folder).history
        return [row["loss"] for row in history if "loss" in row]

    found = losses("once")
    assert losses("again") == found and len(found) == 6
    assert (tmp_path / "once" / ADAPTER).read_bytes() == (tmp_path / "again" / ADAPTER).read_bytes()
    torch.set_num_threads(1)
    assert losses("one thread") == pytest.approx(found, rel=1e-4)
    monkeypatch.setattr(trainer, "works_in_parts", lambda *_: False)
    assert losses("whole") == pytest.approx(found, rel=1e-4)


def test_an_error_in_a_thread_reaches_the_caller_and_the_threads_are_as_before(four_threads) -> None:
    lm = tuned()

    def full(part: dict[str, torch.Tensor]) -> torch.Tensor:
        if part["input_ids"].shape[1] < 60:
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        return target_loss(lm.model, **part)

    trained = [parameter for parameter in lm.model.parameters() if parameter.requires_grad]
    with pytest.raises(torch.OutOfMemoryError):
        add_gradients(full, parts_of(batch_of(lm, 1, 3), WIDE), trained)
    assert torch.get_num_threads() == 4


def test_threads_that_ask_one_model_get_the_loss_of_their_own_labels() -> None:
    """Trap: the hook that selects positions is on the model, which all threads have."""
    lm = tuned()
    rows = parts_of(batch_of(lm, 1, 2, 3, 1, 2, 3), WIDE)
    alone = [target_loss(lm.model, **row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: target_loss(lm.model, **row), rows * 20))
    assert torch.equal(torch.stack(together), torch.stack(alone * 20))


def test_where_rows_are_trained_apart() -> None:
    lm = tiny_lm()
    plain = TINY, "float32"
    assert works_in_parts(lm, *plain)
    assert not works_in_parts(replace(lm, device="cuda"), *plain)
    assert not works_in_parts(lm, TINY, "bfloat16")
    assert not works_in_parts(lm, replace(TINY, lora_dropout=0.1), "float32"), "threads share one generator"
    for large in ({"train_embeddings": True}, {"full_finetune": True}):
        assert works_in_parts(lm, replace(TINY, **large), "float32")
        assert not works_in_parts(replace(lm, stand_in=False), replace(TINY, **large), "float32"), "too many gradients"


@pytest.mark.parametrize(
    ("setting", "value", "is_random"),
    [("attention_dropout", 0.1, True), ("router_jitter_noise", 0.1, True), ("classifier_dropout", 0.1, False)],
)
def test_a_model_that_draws_numbers_is_not_trained_in_threads(setting: str, value: float, is_random: bool) -> None:
    lm = tiny_lm()
    setattr(lm.model.config, setting, value)
    assert works_in_parts(lm, TINY, "float32") is not is_random


def test_a_dropout_layer_counts_as_drawing_numbers() -> None:
    lm = tiny_lm()
    lm.model.gpt_neox.layers[0].post_mlp_dropout = torch.nn.Dropout(0.1)
    assert not works_in_parts(lm, TINY, "float32")


@pytest.mark.parametrize(("threads", "rows"), [(1, 1), (3, 3), (16, 8)])
def test_as_many_rows_are_in_memory_as_there_are_threads(threads: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(parts, "torch", SimpleNamespace(get_num_threads=lambda: threads, nn=torch.nn))
    config = replace(TINY, batch_size=8, max_length=512)
    lm = tiny_lm()
    lm.model.config.hidden_size = WIDE
    assert rows_at_once(lm, config, "float32") == rows
    assert rows_at_once(lm, replace(config, lora_dropout=0.1), "float32") == 8
