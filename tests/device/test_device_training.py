"""Fine-tuning and scoring with their speeds, and a run that is killed and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODELS = {  # name in the table -> (what load_model takes, or a shape, bits)
    "mini-pythia-8m (a stand-in)": ("mini-pythia-8m", 16),
    "pythia-70m's shape, random weights": ("pythia-70m", 16),
    "pythia-410m's shape, random weights": ("pythia-410m", 16),
    "pythia-410m's shape, random weights, QLoRA": ("pythia-410m", 4),
}
STEPS = 30


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_tuned_and_scored(name, shape, tmp_path, note, is_rehearsal):
    """In the number type that the card is fast in: the loss falls, the replies are scored, and how fast it went."""
    from labkit import evaluate, predict
    from labkit.corpora import load_corpus
    from labkit.decoding.config import DecodingConfig
    from labkit.models import load_adapter, load_model
    from labkit.training.config import FinetuneConfig
    from labkit.training.run import finetune

    model, bits = MODELS[name]
    steps = STEPS
    if is_rehearsal:
        model, bits, steps = ("mini-pythia-500k" if "stand-in" in name else "tiny"), 32, 4
        name = f"rehearsal with {model} in place of {name}"
    elif bits < 16:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no 4 and 8 bits here")
    place = model if model.startswith("mini") else str(shape(model))
    corpus = load_corpus("miniwoz", sizes={"train": 300, "dev": 8, "test": 8})
    lm = load_model(place, bits=bits)
    config = FinetuneConfig(place, bits=bits, max_steps=steps, batch_size=8, max_length=512, eval_steps=steps // 2)
    result = finetune(lm, corpus, config, tmp_path / "out")
    losses = [row["loss"] for row in result.history if "loss" in row]
    tuned = load_adapter(load_model(place, bits=bits), result.adapter)
    started = time.perf_counter()
    predictions = predict(tuned, corpus["test"], DecodingConfig(max_new_tokens=48))
    seconds = time.perf_counter() - started
    scores = evaluate(predictions, corpus, "test")
    replies = sum(map(len, predictions.values()))
    note(
        f"{name}, {bits} bits, {steps} steps of 8",
        f"{steps / result.seconds:.2f} it/s, {result.tokens_per_second:.0f} reply tokens/s; "
        f"loss {losses[0]:.2f} → {losses[-1]:.2f}; {replies / seconds:.1f} replies/s; BLEU {scores.bleu:.1f}",
    )
    assert all(loss == loss for loss in losses)  # no NaN
    if not is_rehearsal:
        assert losses[-1] < losses[0]


def test_a_run_that_is_killed_goes_on_to_the_same_adapter(tmp_path, note, is_rehearsal):
    """SIGKILL after the first checkpoint. A GPU adds in no fixed order, so bytes may differ; the table says how far."""
    from safetensors.torch import load_file

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = 8 if is_rehearsal else 60
    assert _run(_command(whole, steps)) == 0
    child = subprocess.Popen(_command(killed, steps), env=_env())
    _wait_for_checkpoint(killed, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    stopped_before_the_end = not (killed / "result.json").exists()
    assert _run(_command(killed, steps)) == 0
    first = load_file(whole / "adapter_model.safetensors")
    second = load_file(killed / "adapter_model.safetensors")
    largest = max(float((first[key].float() - second[key].float()).abs().max()) for key in first)
    note(
        "killed after a checkpoint and called again",
        f"largest difference of a weight {largest:.1e}" + ("" if stopped_before_the_end else " (it had finished)"),
    )
    assert first.keys() == second.keys()
    assert largest < 1e-2


def _command(out: Path, steps: int) -> list[str]:
    settings = {
        "--model": "mini-pythia-500k",
        "--corpus": "miniwoz",
        "--max-steps": str(steps),
        "--save-steps": str(steps // 4),
        "--eval-steps": "0",
        "--out": str(out),
    }
    flags = [part for pair in settings.items() for part in pair]
    return [sys.executable, "-m", "labkit", "finetune", *flags]


def _env() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}


def _run(command: list[str]) -> int:
    return subprocess.run(command, env=_env(), check=False).returncode


def _wait_for_checkpoint(out: Path, child: subprocess.Popen, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.poll() is None:
        if any((out / "checkpoints").glob("checkpoint-*")):
            return
        time.sleep(0.02)
