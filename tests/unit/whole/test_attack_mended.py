"""What tests/support/attack.py found, each named after its symptom."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

import labkit
from labkit.corpora import download
from labkit.errors import LabError
from labkit.models import attach_adapter, load_model, save_adapter
from labkit.storage import atomic_folder
from labkit.writable import writable_file

MODEL = "mini-pythia-500k"
ROTARY = {"rope_theta": 1e4, "rope_type": "default"}
HANGS = "(.*)*(.*)*(.*)*X"


@pytest.fixture(scope="module")
def lm():
    return load_model(MODEL)


@pytest.fixture
def adapter(lm, tmp_path):
    return save_adapter(attach_adapter(lm, r=2), tmp_path / "adapter")


def change(file: Path, **fields) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | fields))


@pytest.mark.parametrize("name", ["a\0b", "half \ud83d"])
def test_a_folder_whose_name_cannot_be_is_a_traceback(name, tmp_path):
    with pytest.raises(LabError, match="cannot write"), atomic_folder(f"{tmp_path}/{name}"):
        pytest.fail("it was begun")


def test_a_path_of_5000_letters_fills_the_screen(tmp_path):
    with pytest.raises(LabError) as refusal:
        writable_file(tmp_path / ("x/" * 2500))
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": "("},
        {"target_modules": HANGS},
        {"rank_pattern": {"(": 3}},
        {"alpha_pattern": 3},
    ],
)
def test_an_adapter_s_pattern_is_a_traceback_or_never_ends(fields, lm, adapter):
    change(adapter / "adapter_config.json", **fields)
    begun = time.monotonic()
    with pytest.raises(LabError, match="does not fit"):
        labkit.load_adapter(lm, adapter)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("fields", [{"exclude_modules": HANGS}, {"alpha_pattern": {HANGS: 3}}])
def test_an_adapter_s_pattern_that_chooses_nothing_never_ends(fields, lm, adapter):
    change(adapter / "adapter_config.json", **fields)
    begun = time.monotonic()
    labkit.load_adapter(lm, adapter)
    assert time.monotonic() - begun < 30


def test_an_adapter_that_names_its_layers_by_a_pattern_still_loads(lm, adapter):
    listed = labkit.load_adapter(lm, adapter)
    change(adapter / "adapter_config.json", target_modules=r".*\.(query_key_value|dense\w*)")
    by_pattern = labkit.load_adapter(lm, adapter)
    names = [name for name, _ in listed.model.named_parameters()]
    assert names == [name for name, _ in by_pattern.model.named_parameters()] and any(
        "lora_A" in name for name in names
    )


@pytest.mark.parametrize("name", ["x" * 5000, "ä" * 200, "a\0b", ""])
def test_a_model_or_an_adapter_of_a_long_name_is_a_traceback(name, lm):
    with pytest.raises(LabError, match="no adapter"):
        labkit.load_adapter(lm, name)
    with pytest.raises(LabError, match="no model"):
        load_model(name)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_hidden_layers": 44, "hidden_size": 6144}, "44 layers of width 6144"),
        ({"vocab_size": 10**9}, "1000000000 words"),
        ({"rope_parameters": ROTARY | {"partial_rotary_factor": 9}}, "partial_rotary"),
        ({"rope_parameters": ROTARY | {"partial_rotary_factor": -1}}, "partial_rotary"),
    ],
)
def test_a_configuration_that_declares_more_than_its_weights_hold_fills_the_memory(fields, says, lm, tmp_path):
    folder = shutil.copytree(lm.source, tmp_path / "model")
    change(folder / "config.json", **fields)
    begun = time.monotonic()
    with pytest.raises(LabError, match=says):
        load_model(str(folder))
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("r", [0, 1.5, "x", None, float("nan"), True])
def test_a_rank_that_is_no_whole_number_is_a_traceback(r, lm):
    with pytest.raises(LabError, match="rank of 1 or more"):
        attach_adapter(lm, r=r)


@pytest.mark.parametrize("field", ["dropout", "alpha"])
@pytest.mark.parametrize("value", ["x", None, float("inf"), float("nan")])
def test_a_dropout_or_scale_that_is_no_number_is_a_traceback(field, value, lm):
    with pytest.raises(LabError, match=field):
        attach_adapter(lm, **{field: value})


def test_a_link_in_the_cache_leads_the_download_to_a_file_of_the_user_s(tmp_path, monkeypatch):
    bashrc = tmp_path / "bashrc"
    bashrc.write_text("mine")
    folder = tmp_path / "cache" / "multiwoz22"
    folder.mkdir(parents=True)
    for name in ("x.json", "COMPLETE"):
        os.symlink(bashrc, folder / name)
    blob = hashlib.sha1(b"blob 1\0x").hexdigest()
    pin = {"repository": "o/n", "commit": "c" * 40, "path": "p", "blob": blob}
    (tmp_path / "pins.json").write_text(json.dumps({"x.json": pin}))
    monkeypatch.setenv("LAB_MULTIWOZ_PINS", str(tmp_path / "pins.json"))
    monkeypatch.setattr(download, "_fetch", lambda client, pin: b"x")
    download.fetch_multiwoz22(tmp_path / "cache")
    assert bashrc.read_text() == "mine"
    assert (folder / "x.json").read_text() == "x" and not (folder / "x.json").is_symlink()
    assert download.cached_multiwoz22(tmp_path / "cache") == folder


@pytest.mark.parametrize("modules", ["(", "moon", HANGS])
def test_after_a_pattern_that_matches_nothing_the_folder_holds_a_run_of_another_configuration(modules, lm, tmp_path):
    corpus = labkit.load_corpus("miniwoz", sizes={"train": 2, "dev": 1, "test": 1})
    config = labkit.FinetuneConfig(model=MODEL, max_steps=1, eval_steps=0, lora_modules=modules)
    with pytest.raises(LabError, match="LoRA modules"):
        labkit.finetune(lm, corpus, config, tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()


def test_half_an_emoji_on_the_board_breaks_its_table(tmp_path):
    board = labkit.Board(tmp_path)
    board.add({"task": "sound", "model": "m", "bleu": 3.0})
    with board.path.open("a") as file:
        file.write('{"task": "half \\ud83d", "model": "m"}\n')
    shown = "half \\ud83d"  # the escape, as letters
    assert "sound" in board.markdown() and shown in board.csv() and shown in board.html().html
