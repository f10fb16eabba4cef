"""The memory plan against what the card counts, and the most rows that fit."""

import pytest

NEAR = 0.15
MB = 1e6
RUNS = {  # name -> (shape, settings of the run)
    "pythia-70m, 16 bits": ("pythia-70m", {"bits": 16}),
    "pythia-410m, 16 bits, checkpointed": ("pythia-410m", {"bits": 16, "gradient_checkpointing": True}),
    "pythia-410m, 4 bits": ("pythia-410m", {"bits": 4}),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_training_step_takes_what_the_plan_says(name, gpu, shape, tmp_path, note):
    import device_shapes
    import torch

    from labkit import plan_memory
    from labkit.models import load_model
    from labkit.training.config import FinetuneConfig
    from labkit.training.run import finetune

    model, settings = RUNS[name]
    if settings["bits"] < 16:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no 4 and 8 bits here")
    batch, length = 8, 512
    before = torch.cuda.memory_allocated()
    lm = load_model(str(shape(model)), bits=settings["bits"])
    corpus = device_shapes.even_corpus(lm.codec, batch, length)
    options = {key: value for key, value in settings.items() if key != "bits"}
    sizes = {"max_steps": 3, "batch_size": batch, "max_length": length, "eval_steps": 0}
    config = FinetuneConfig(str(shape(model)), bits=settings["bits"], **sizes, **options)
    torch.cuda.reset_peak_memory_stats()
    finetune(lm, corpus, config, tmp_path / "out")
    measured = (torch.cuda.max_memory_allocated() - before) / MB
    planned = sum(plan_memory(device_shapes.config(model), batch=batch, length=length, **settings).values())
    note(f"training, {name}, {batch} x {length}", f"{measured:.0f} MB, planned {planned:.0f} MB")
    assert planned == pytest.approx(measured, rel=NEAR)


@pytest.mark.parametrize("model", ["pythia-70m", "pythia-410m"])
def test_writing_takes_what_the_plan_says(model, gpu, shape, note):
    import random

    import device_shapes
    import torch

    from labkit import plan_memory
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.generate import generate
    from labkit.models import load_model

    batch, length, new = 32, 512, 32
    before = torch.cuda.memory_allocated()
    lm = load_model(str(shape(model)), bits=16)
    numbers = random.Random(0)
    prompts = [numbers.choices(range(1, 8000), k=length - new) for _ in range(batch)]
    torch.cuda.reset_peak_memory_stats()
    generate(lm, prompts, DecodingConfig(max_new_tokens=new, min_new_tokens=new, batch_size=batch))
    measured = (torch.cuda.max_memory_allocated() - before) / MB
    plan = plan_memory(device_shapes.config(model), bits=16, batch=batch, length=length, generate=True)
    planned = sum(plan.values())
    note(f"writing, {model}, {batch} x {length}", f"{measured:.0f} MB, planned {planned:.0f} MB")
    assert planned == pytest.approx(measured, rel=NEAR)


def test_the_most_rows_that_fit_are_found_and_the_card_goes_on(shape, note, is_rehearsal):
    """With a ceiling on what this process may take, so that it is quick on a card of any size."""
    import torch

    from labkit.decoding.limits import find_max_batch
    from labkit.models import load_model

    lm = load_model(str(shape("tiny" if is_rehearsal else "pythia-410m")))
    limit = 4 if is_rehearsal else 4096
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, 6 * 2**30 / total))
    try:
        rows, speeds = find_max_batch(lm, prompt_tokens=128, new_tokens=8, limit=limit)
    finally:
        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= rows <= limit
    assert find_max_batch(lm, prompt_tokens=128, new_tokens=8, limit=1)[0] == 1  # the memory was given back
    where = "a tiny model, at most 4 rows" if is_rehearsal else "pythia-410m's shape, of 6 GiB"
    note(f"find_max_batch, 128 + 8 tokens, {where}", f"{rows} rows; {max(speeds.values()):.0f} tokens/s")
