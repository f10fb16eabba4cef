"""A later notebook starts from the student's adapter if there is a finished one, from the reference otherwise."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from labkit.errors import LabError
from labkit.lab import PROFILES
from labkit.models import load_adapter
from labkit.notebook import relay
from labkit.storage import read_json, write_json


@pytest.fixture
def lab(tmp_path):
    return SimpleNamespace(home=tmp_path, profile=PROFILES["smoke"], seed=42)


def test_a_finished_adapter_of_the_students_is_taken_and_nothing_is_trained(lab, tiny_lm, capsys):
    own = relay.own_adapter(lab, tiny_lm)
    write_json(own / "result.json", {})
    assert relay.adapter(lab, None, tiny_lm) == own  # without a corpus: training would fall over it
    assert "from your adapter of notebook 2: adapters/smoke-tiny-random-qlora" in capsys.readouterr().out


def test_a_bot_that_writes_states_comes_from_notebook_5_and_not_from_that_of_notebook_2(lab, tiny_lm, capsys):
    write_json(relay.own_adapter(lab, tiny_lm) / "result.json", {})
    own = relay.own_adapter(lab, tiny_lm, "changes-db")
    write_json(own / "result.json", {})
    assert relay.adapter(lab, None, tiny_lm, format="changes-db") == own != relay.adapter(lab, None, tiny_lm)
    assert "from your adapter of notebook 5: adapters/smoke-tiny-random-states" in capsys.readouterr().out
    with pytest.raises(LabError, match=r"'dialogs'.*turns, changes-db"):
        relay.adapter(lab, None, tiny_lm, format="dialogs")


@pytest.mark.slow
def test_a_reference_that_writes_states_is_not_the_one_that_does_not(lab, tiny_lm, miniwoz):
    folders = {relay.adapter(lab, miniwoz, tiny_lm, format=format).name: format for format in ("turns", "changes-db")}
    for name, format in folders.items():
        run = read_json(lab.home / "adapters" / name / "run.json")
        assert run["format"] == format
        # of MultiWOZ it looked up the states of all 8,438 dialogues, where notebook 5 takes the profile's
        assert run["max_train_dialogues"] == (lab.profile.train_dialogues if format == "changes-db" else None)
    assert set(folders) == {"smoke-tiny-random-reference", "smoke-tiny-random-reference-states"}


@pytest.mark.slow
def test_without_one_the_reference_is_trained_once_and_an_unfinished_one_is_said(lab, tiny_lm, miniwoz, capsys):
    write_json(relay.own_adapter(lab, tiny_lm) / "run.json", {})  # begun, then interrupted
    reference = relay.adapter(lab, miniwoz, tiny_lm)
    out = capsys.readouterr().out
    assert "from the reference, 2 steps trained here" in out and "its cell goes on where it stopped" in out
    assert read_json(reference / "run.json")["max_steps"] == 2 and reference.name == "smoke-tiny-random-reference"
    written = (reference / "result.json").stat().st_mtime_ns
    assert (
        relay.adapter(lab, miniwoz, tiny_lm) == reference and (reference / "result.json").stat().st_mtime_ns == written
    )
    own_copy = replace(tiny_lm, model=deepcopy(tiny_lm.model))  # LoRA layers are put into the model itself
    assert tiny_lm.adapter is None and load_adapter(own_copy, reference).adapter == str(reference)


def test_an_adapter_of_another_model_or_profile_is_not_taken(lab, tiny_lm):
    other = SimpleNamespace(name="someone/other-model")
    full = SimpleNamespace(home=lab.home, profile=PROFILES["cpu"], seed=42)
    folders = {relay.own_adapter(lab, tiny_lm), relay.own_adapter(lab, other), relay.own_adapter(full, tiny_lm)}
    assert len(folders) == 3 and {folder.parent for folder in folders} == {lab.home / "adapters"}


@pytest.mark.slow
def test_a_reference_of_more_steps_has_a_folder_of_its_own(lab, tiny_lm, miniwoz, capsys):
    """Trap: two notebooks want references of different lengths, and a folder belongs to one configuration."""
    longer = relay.adapter(lab, miniwoz, tiny_lm, steps=3)
    assert longer.name == "smoke-tiny-random-reference-3-steps" and read_json(longer / "run.json")["max_steps"] == 3
    assert "from the reference, 3 steps trained here" in capsys.readouterr().out
