"""What `start()` decides, and that it never decides silently, slowly or against what the user asked for."""

import json
import os
import sys
import time
import types
from dataclasses import fields, replace

import networks
import pytest
from networks import answering, point_hub_to, silent

import labkit.machine.hardware as hardware_module
from labkit import lab as environment
from labkit.errors import LabError
from labkit.lab import OFFERED_PROFILES, PROFILES, decide, start
from labkit.machine.network import Hub
from labkit.machine.problem import Problem
from labkit.machine.versions import Version
from labkit.models.names import STAND_IN_SIZES


@pytest.fixture(autouse=True)
def offline_world(monkeypatch, tmp_path):
    networks.leave_nothing(monkeypatch, tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """A Hub on this machine that has every model but those of the owner `nobody`; returns its address."""
    with answering() as address:
        point_hub_to(address, monkeypatch)
        yield address


def test_without_a_network_the_stand_ins_are_taken_and_named():
    lab = start(quiet=True)
    assert (lab.verdict, lab.setting, lab.model, lab.corpus) == (
        "READY (stand-in)",
        "stand-in",
        "mini-pythia",
        "miniwoz",
    )
    assert "EleutherAI/pythia-70m" in lab.model_reason and "multiwoz22" in lab.corpus_reason
    assert lab.scorer == "labkit" and lab.home.is_dir()


def test_a_reachable_world_is_the_real_setting(hub, monkeypatch):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", hub)  # one host for both must not mix up the answers
    lab = decide()
    assert (lab.verdict, lab.setting, lab.model, lab.corpus) == ("READY", "real", "EleutherAI/pythia-70m", "multiwoz22")
    assert lab.hub.reachable and "HF_HUB_OFFLINE" not in os.environ


def test_a_real_model_on_a_stand_in_corpus_is_still_a_stand_in_setting(hub):
    lab = decide()
    assert (lab.model, lab.corpus) == ("EleutherAI/pythia-70m", "miniwoz")
    assert (lab.setting, lab.verdict) == ("stand-in", "READY (stand-in)")


@pytest.mark.parametrize("inside", ["pythia-70m", "pythia/transformers/pythia-70m/1", "models/x-pythia-70m-copy"])
def test_attached_files_are_taken_before_the_network_and_after_what_was_asked_for(monkeypatch, tmp_path, inside):
    """Kaggle's inputs lie under /kaggle/input, at a depth that depends on what they are."""
    files = tmp_path / "input"
    monkeypatch.setenv("LAB_ATTACHED", str(files))
    (files / "some-data" / "mwoz" / "test").mkdir(parents=True)
    (files / "some-data" / "mwoz" / "test" / "dialogues_001.json").write_text("[]")
    (files / inside).mkdir(parents=True)
    (files / inside / "config.json").write_text("{}")
    lab = decide()
    assert (lab.model, lab.corpus) == (str(files / inside), str(files / "some-data" / "mwoz"))
    assert (lab.setting, lab.model_reason, lab.corpus_reason) == ("real", *["the default; local files"] * 2)
    monkeypatch.setenv("LAB_MODEL", "mini-pythia")
    monkeypatch.setenv("LAB_CORPUS", "miniwoz")
    assert (decide().model, decide().corpus) == ("mini-pythia", "miniwoz")


def test_a_cached_model_counts_without_a_network_but_half_a_download_does_not(tmp_path):
    snapshot = tmp_path / "hub" / "models--EleutherAI--pythia-70m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert decide().model == "mini-pythia"
    (snapshot / "model.safetensors").write_bytes(b"")
    lab = decide()
    assert lab.model == "EleutherAI/pythia-70m" and "cache" in lab.model_reason


def test_a_complete_download_of_multiwoz_counts_without_a_network(tmp_path):
    (tmp_path / "cache" / "multiwoz22").mkdir(parents=True)
    assert decide().corpus == "miniwoz"
    (tmp_path / "cache" / "multiwoz22" / "COMPLETE").touch()
    assert decide().corpus == "multiwoz22"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAB_MODEL", "EleutherAI/pythia-160m"),  # neither reachable nor cached
        ("LAB_MODEL", "mini-pythia-9m"),
        ("LAB_MODEL", "gpt2"),  # a Hub id without an owner
        ("LAB_MODEL", "no such/name"),
        ("LAB_MODEL", "{tmp}/empty"),  # a folder that is no model
        ("LAB_MODEL", "{tmp}/nothing.gguf"),
        ("LAB_CORPUS", "multiwoz22"),
        ("LAB_CORPUS", "multiwoz24"),
        ("LAB_CORPUS", "{tmp}/empty"),
        ("LAB_PROFILE", "huge"),
    ],
)
def test_an_override_that_cannot_be_met_blocks_and_is_no_fallback(variable, value, monkeypatch, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(variable, value.format(tmp=tmp_path))
    lab = decide()
    assert lab.verdict == "BLOCKED" and len(lab.problems) == 1
    assert variable in lab.problems[0].action
    with pytest.raises(LabError, match=variable):
        start()
    assert "PROBLEM" in capsys.readouterr().out  # the card is shown before the error


def test_a_model_that_the_hub_does_not_have_blocks(hub, monkeypatch):
    monkeypatch.setenv("LAB_MODEL", "nobody/nothing")
    assert "404" in decide().problems[0].what


@pytest.mark.parametrize("name", ["folder", "model.gguf"])
def test_local_models_and_corpora_are_taken(name, monkeypatch, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "model.gguf").touch()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "test.json.gz").touch()
    monkeypatch.setenv("LAB_MODEL", str(tmp_path / name))
    monkeypatch.setenv("LAB_CORPUS", str(tmp_path / "corpus"))
    assert decide().verdict == "READY"


def test_the_environment_outranks_the_argument(monkeypatch):
    """Tests run notebooks with LAB_PROFILE=smoke, whatever a cell says."""
    monkeypatch.setenv("LAB_PROFILE", "smoke")
    assert decide("gpu").profile.name == "smoke"


def test_profiles_are_sizes_that_grow_and_say_what_they_are():
    smoke, cpu, gpu = (PROFILES[name] for name in ("smoke", "cpu", "gpu"))
    assert all(field.metadata["help"] for field in fields(smoke))
    numbers = [field.name for field in fields(smoke) if isinstance(getattr(smoke, field.name), int)]
    assert len(numbers) == 12 and all(getattr(smoke, n) < getattr(cpu, n) <= getattr(gpu, n) for n in numbers)


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu"])
def test_without_the_hub_the_sweep_takes_the_models_that_ship_with_the_lab(name, monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", name)
    swept = decide().profile.sweep_models
    assert swept == STAND_IN_SIZES[: len(PROFILES[name].sweep_models)]


@pytest.mark.parametrize(("model", "family"), [("EleutherAI/pythia-70m", "EleutherAI/pythia"), ("mini-pythia", "mini")])
def test_with_the_hub_the_sweep_is_of_the_setting_that_was_chosen(model, family, monkeypatch):
    """Trap: a real run whose sizes are compared on stand-ins."""
    monkeypatch.setenv("LAB_MODEL", model)
    monkeypatch.setattr(environment, "look_outside", lambda: (Hub(True, "answers", "http://hub"), [200, 200]))
    assert all(swept.startswith(family) for swept in decide("cpu").profile.sweep_models)


def test_a_package_upgraded_under_a_running_kernel_asks_for_a_restart(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", types.SimpleNamespace(__version__="1.0"))
    problems = decide().problems
    assert len(problems) == 1 and "plotly" in problems[0].what and "restart" in problems[0].action


def test_missing_packages_are_named_before_anything_imports_them(monkeypatch):
    gone = (Version("torch", ">=2.6", "", "", ""),)
    monkeypatch.setattr(environment, "versions", lambda: gone)
    with pytest.raises(LabError, match=r"pip install 'torch>=2\.6'"):
        start()


def test_a_full_disk_and_a_folder_that_cannot_be_are_problems(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file" / "out"))
    assert "LAB_HOME" in decide().problems[0].action
    nearly_full = replace(hardware_module.hardware(), disk_gb=0.1)
    assert [p for p in environment._disk_problems(tmp_path, nearly_full) if "0.10 GiB" in p.what]


def test_the_card_says_everything_in_words_and_escapes_it(monkeypatch):
    lab = decide()
    blocked = replace(lab, problems=(Problem("<b>bad</b>", "do & say"),), model="<script>")
    page, text = blocked._repr_html_(), str(blocked)
    assert "<script>" not in page and "&lt;script&gt;" in page and "&lt;b&gt;bad" in page and "do &amp; say" in page
    assert "BLOCKED" in page and text.startswith("BLOCKED")
    for part in (
        "float32",
        "threads",
        "GiB RAM",
        "Python 3",
        "transformers",
        "seed 42",
        str(lab.home),
        lab.profile.name,
    ):
        assert part in page and part in text


def test_the_card_as_json_has_every_decision():
    card = json.loads(json.dumps(decide().to_json()))
    assert card["verdict"] == "READY (stand-in)" and card["hardware"]["dtype"] == "float32"
    assert {"model_reason", "corpus_reason", "scorer_reason", "profile", "hub", "versions", "problems", "seed"} <= set(
        card
    )


# --- what the network is needed for -----------------------------------------------------------------------------------


@pytest.mark.parametrize("corpus", ["miniwoz", "cached", "folder"])
def test_a_silent_code_host_costs_nothing_where_multiwoz_is_not_needed(corpus, hub, monkeypatch, tmp_path):
    """load_model of a Hub id waited three seconds for MultiWOZ's host, and so did every READY card."""
    if corpus == "miniwoz":
        monkeypatch.setenv("LAB_CORPUS", "miniwoz")
    if corpus == "cached":
        (tmp_path / "cache" / "multiwoz22").mkdir(parents=True)
        (tmp_path / "cache" / "multiwoz22" / "COMPLETE").touch()
    if corpus == "folder":
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "test.json").write_text("[]")
        monkeypatch.setenv("LAB_CORPUS", str(tmp_path / "corpus"))
    with silent() as address:
        monkeypatch.setenv("LAB_MULTIWOZ_URL", address)
        before = time.monotonic()
        status, _ = environment.look_outside(timeout=3.0)
        assert time.monotonic() - before < 2.0
    assert status.reachable


def test_a_silent_code_host_is_said_of_the_corpus_and_of_nothing_else(hub, monkeypatch):
    with silent() as address:
        monkeypatch.setenv("LAB_MULTIWOZ_URL", address)
        status, (model, corpus) = environment.look_outside(timeout=0.5)
    assert status.reachable and model == 200
    assert corpus == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("handler", "says"), [(networks.LogInPage, "a web page came"), (networks.RedirectLoop, "redirected without end")]
)
def test_a_log_in_page_is_neither_a_model_nor_a_corpus(handler, says, monkeypatch):
    """doctor said READY, real setting, in a hotel's network."""
    with answering(handler) as address:
        point_hub_to(address, monkeypatch)
        monkeypatch.setenv("LAB_MULTIWOZ_URL", address)
        lab = decide()
    assert lab.verdict == "READY (stand-in)"
    for reason in (lab.model_reason, lab.corpus_reason, lab.hub.reason):
        assert says in reason and "log in first" in reason


def test_offline_mode_of_labkit_is_not_called_the_users_on_the_second_card(monkeypatch):
    first, second = decide(), decide()
    assert "HF_HUB_OFFLINE" not in first.hub.reason + second.hub.reason
    with answering() as address:
        point_hub_to(address, monkeypatch)
        third = decide()
    assert third.hub.reachable and third.model == "EleutherAI/pythia-70m"


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:99999", "no-scheme"])
def test_a_malformed_mirror_is_said_of_the_corpus(url, hub, monkeypatch):
    monkeypatch.setenv("LAB_MULTIWOZ_URL", url)
    lab = decide()
    assert lab.corpus == "miniwoz"
    assert "is no address" in lab.corpus_reason


@pytest.mark.parametrize("content", [None, "null", "[1, 2]", "not JSON"])
def test_pins_that_are_none_are_no_traceback_of_the_card(content, hub, monkeypatch, tmp_path):
    if content is not None:
        (tmp_path / "pins.json").write_text(content)
    monkeypatch.setenv("LAB_MULTIWOZ_PINS", str(tmp_path / "pins.json"))
    lab = decide()
    assert lab.corpus == "miniwoz"
    assert "pins.json" in lab.corpus_reason


# --- tokens and passwords ---------------------------------------------------------------------------------------------


def test_a_token_with_a_typographic_quote_is_named_on_the_card(hub, monkeypatch):
    """httpx raised UnicodeEncodeError, and the card said that the Hub does not answer."""
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuv“x")
    monkeypatch.setenv("LAB_MODEL", "EleutherAI/pythia-70m")
    lab = decide()
    assert lab.hub.reachable
    assert lab.verdict == "BLOCKED"
    assert all("HF_TOKEN" in problem.what + problem.action for problem in lab.problems)
    assert "abcdefgh" not in str(lab)


def test_a_token_that_the_hub_refuses_is_not_called_a_missing_model(monkeypatch):
    """The Hub answers 401 to a token it does not know; the card said "not to be had (HTTP 401)"."""
    monkeypatch.setenv("HF_TOKEN", "hf_" + "aB3d" * 8)
    monkeypatch.setenv("LAB_MODEL", "EleutherAI/pythia-70m")
    with answering(networks.UnknownToken) as address:
        point_hub_to(address, monkeypatch)
        (problem,) = decide().problems
        assert "HF_TOKEN is refused" in problem.what and "HF_TOKEN" in problem.action
        monkeypatch.delenv("LAB_MODEL")
        assert "HF_TOKEN is refused" in decide().model_reason
        monkeypatch.delenv("HF_TOKEN")
        assert decide().model == "EleutherAI/pythia-70m"


def test_a_bad_token_stops_a_cached_model_too_and_no_stand_in(hub, monkeypatch, tmp_path):
    """The client sends it with every question that it asks about files that are here."""
    snapshot = tmp_path / "hub" / "models--EleutherAI--pythia-70m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    monkeypatch.setenv("HF_TOKEN", "hf_a b")
    assert ["HF_TOKEN" in problem.what for problem in decide().problems] == [True]
    monkeypatch.setenv("LAB_MODEL", "mini-pythia")
    assert not decide().problems


def test_passwords_in_addresses_are_on_no_card_and_in_no_json(hub, monkeypatch, tmp_path, capsys):
    point_hub_to(hub.replace("http://", "http://me:secret-1@"), monkeypatch)
    monkeypatch.setenv("LAB_MULTIWOZ_URL", "http://me:secret-2@127.0.0.1:9")
    monkeypatch.setenv("LAB_MODEL", "https://me:secret-3@hub/some/model")
    monkeypatch.setenv("LAB_CORPUS", "https://me:secret-4@host/some/corpus")
    monkeypatch.setenv("LAB_PROFILE", "http://me:secret-5@x")
    lab = decide()
    with pytest.raises(LabError) as error:
        start()
    shown = [str(lab), lab._repr_html_(), json.dumps(lab.to_json()), str(error.value), capsys.readouterr().out]
    assert not [text for text in shown if "secret-" in text]
    assert "(hidden)@" in str(lab)


# --- names of all kinds -----------------------------------------------------------------------------------------------

NAMES = [
    "x" * 5000,
    "a/" * 2500,
    "~nobody-of-that-name/x",
    "a\nb",
    "owner/na me",
    "owner/../x",
    "a?b=c",
    "\udcff",
    "C:\\x",
]


@pytest.mark.parametrize("variable", ["LAB_MODEL", "LAB_CORPUS", "LAB_PROFILE"])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_cannot_be_is_blocked_with_one_line(variable, name, hub, monkeypatch):
    """5,000 letters ended in OSError: File name too long."""
    monkeypatch.setenv(variable, name)
    lab = decide()
    (problem,) = lab.problems
    assert variable in problem.what + problem.action
    assert "\n" not in problem.what and len(problem.what) < 400
    str(lab).encode("utf-8")


def test_a_name_with_a_nul_is_no_traceback(monkeypatch):
    """No environment holds one, but whoever asks `load_model` may."""
    from labkit import choices

    monkeypatch.setattr(choices, "_model_name", lambda: "a\0b")
    monkeypatch.setattr(choices, "_corpus_name", lambda: "a\0b")
    assert choices.choose_model(200).name == "mini-pythia"
    assert choices.choose_corpus(200).name == "miniwoz"


@pytest.mark.parametrize("variable", ["LAB_HOME", "LAB_CACHE", "LAB_ATTACHED"])
def test_a_folder_of_5000_letters_is_a_problem_or_nothing(variable, monkeypatch):
    monkeypatch.setenv(variable, "/" + "x" * 5000)
    lab = decide()
    assert [variable in problem.action for problem in lab.problems] == [True] * (variable == "LAB_HOME")


def test_a_folder_with_json_files_that_are_no_dialogues_is_no_corpus(monkeypatch, tmp_path):
    """Any folder below which a .json was found was READY, after a walk through all of it."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "settings.json").write_text("{}")
    monkeypatch.setenv("LAB_CORPUS", str(tmp_path))
    assert decide().verdict == "BLOCKED"


@pytest.mark.parametrize("shards", [1, 2])
def test_a_model_in_shards_counts_when_all_are_here(shards, tmp_path):
    snapshot = tmp_path / "hub" / "models--EleutherAI--pythia-70m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    for number in range(1, shards + 1):
        (snapshot / f"model-{number}-of-2.safetensors").touch()
    assert decide().model == {1: "mini-pythia", 2: "EleutherAI/pythia-70m"}[shards]


def test_the_profile_of_tests_is_not_offered_to_students(monkeypatch):
    monkeypatch.setenv("LAB_PROFILE", "huge")
    (problem,) = decide().problems
    assert "smoke, cpu, gpu" in problem.action and "hub" not in problem.action
    assert set(OFFERED_PROFILES) < set(PROFILES)
