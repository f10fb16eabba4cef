"""What `start()` decides, and that it never decides silently, slowly or against what the user asked for."""

import json
import os
import socket
import sys
import threading
import time
import types
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import labkit.machine.hardware as hardware_module
import labkit.machine.versions as versions_module
from labkit import lab as environment
from labkit.errors import LabError
from labkit.lab import PROFILES, decide, start
from labkit.machine.network import Hub, hub_status
from labkit.machine.problem import Problem
from labkit.machine.versions import Version
from labkit.models.names import STAND_IN_SIZES

NOWHERE = "http://127.0.0.1:9"  # a port that nothing listens on


@pytest.fixture(autouse=True)
def offline_world(monkeypatch, tmp_path):
    """No Hub, no code host, empty caches, no overrides; whatever start() switches is switched back afterwards."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "LAB_MODEL", "LAB_CORPUS", "LAB_PROFILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in {
        "LAB_MULTIWOZ_URL": NOWHERE,
        "LAB_HOME": tmp_path / "out",
        "LAB_CACHE": tmp_path / "cache",
    }.items():
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def hub(monkeypatch):
    """A Hub on this machine that has every model but those of the owner `nobody`; returns its address."""
    from huggingface_hub import constants

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404 if self.path.startswith("/nobody") else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    yield address
    server.shutdown()
    server.server_close()


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


def test_an_absent_hub_switches_offline_mode_on():
    """transformers would ask an absent Hub for up to 70 s at every load."""
    from huggingface_hub import constants

    status = hub_status()
    assert not status.reachable and status.endpoint == NOWHERE
    assert constants.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_hub_that_accepts_and_never_answers_costs_the_time_limit_once(monkeypatch):
    """A client's time-outs hold for connect, write and read each; a server that drips bytes resets them for ever."""
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setenv("LAB_MULTIWOZ_URL", address)
        threading.Thread(target=_drip, args=(server,), daemon=True).start()
        before = time.monotonic()
        status = hub_status(timeout=0.5)
        assert time.monotonic() - before < 1.5
    assert not status.reachable and "no answer within 0.5 s" in status.reason


def _drip(server):
    try:
        while True:
            threading.Thread(target=_drip_to, args=(server.accept()[0],), daemon=True).start()
    except OSError:
        pass


def _drip_to(connection):
    try:
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"." * 50:
            connection.send(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass


def test_offline_mode_of_the_user_means_no_request_at_all(monkeypatch):
    import httpx
    from huggingface_hub import constants

    def refuse(*_, **__):
        raise AssertionError("a request was made in offline mode")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(httpx, "head", refuse)
    status = hub_status()
    assert not status.reachable and "HF_HUB_OFFLINE" in status.reason


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
    assert len(numbers) == 11 and all(getattr(smoke, n) < getattr(cpu, n) <= getattr(gpu, n) for n in numbers)


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


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_a_t4_emulates_bfloat16_and_does_not_get_it(capability, dtype, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # what torch says on a T4
    chosen, reason = hardware_module.choose_dtype("cuda")
    assert chosen == dtype and f"{capability[0]}.{capability[1]}" in reason


@pytest.mark.parametrize(("speedup", "said"), [(0.02, "0.02x"), (2.5, "bits=16")])
def test_a_cpu_computes_in_float32_and_says_what_it_measured(speedup, said, monkeypatch):
    monkeypatch.setattr(hardware_module, "bf16_speedup", lambda: speedup)
    dtype, reason = hardware_module.choose_dtype("cpu")
    assert dtype == "float32" and said in reason


def test_the_dtype_probe_is_bounded_and_runs_once():
    before = time.monotonic()
    first = hardware_module.bf16_speedup()
    assert first > 0 and time.monotonic() - before < 3
    assert hardware_module.bf16_speedup() == first  # a second timing would not be equal to the last digit


def test_a_package_upgraded_under_a_running_kernel_asks_for_a_restart(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", types.SimpleNamespace(__version__="1.0"))
    problems = decide().problems
    assert len(problems) == 1 and "plotly" in problems[0].what and "restart" in problems[0].action


def test_a_package_below_its_floor_is_a_problem():
    old = Version("transformers", ">=5.0", "5.17.0", "4.57.1", "")
    assert "4.57.1 is installed, >=5.0 is needed" in next(environment._version_problems((old,))).what
    assert not [
        *environment._version_problems((replace(old, installed="5.0.0rc1"), replace(old, installed="5.17.0+cpu")))
    ][1:]


def test_missing_packages_are_named_before_anything_imports_them(monkeypatch):
    gone = (Version("torch", ">=2.6", "", "", ""),)
    monkeypatch.setattr(environment, "versions", lambda: gone)
    with pytest.raises(LabError, match=r"pip install 'torch>=2\.6'"):
        start()


def test_every_requirement_is_pinned_in_the_clone():
    unpinned = [version.package for version in environment.versions() if not version.pinned]
    assert not unpinned


def test_requirements_are_known_without_an_installed_labkit(monkeypatch, tmp_path):
    """In Colab the clone may only be on sys.path: start() must still know what it needs, or need nothing."""
    from importlib import metadata

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    installed = {version.package for version in environment.versions()}
    monkeypatch.setattr(metadata, "requires", nothing)
    assert {version.package for version in environment.versions()} == installed
    monkeypatch.setattr(versions_module, "clone_root", lambda: tmp_path)  # and no pyproject.toml in it
    assert environment.versions() == ()


def test_what_is_written_can_be_read_by_others(tmp_path):
    """mkstemp's files are for their owner only, and a report has readers."""
    from labkit.storage import write_text

    before = os.umask(0o022)
    try:
        assert write_text(tmp_path / "new" / "report.html", "x").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


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


def test_results_go_to_the_clone_from_whatever_folder_a_notebook_is_started_in(monkeypatch, tmp_path):
    monkeypatch.delenv("LAB_HOME")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Path,
        "is_dir",
        lambda self: os.path.isdir(self) and not str(self).startswith(("/content", "/kaggle")),
    )
    root = Path(environment.__file__).resolve().parents[1]
    assert environment.lab_home() == root / "outputs"
    monkeypatch.setenv("LAB_HOME", "here")
    assert environment.lab_home() == tmp_path / "here"


def test_a_seed_seeds_all_three_generators():
    import random

    import numpy as np
    import torch

    draws = []
    for _ in range(2):
        hardware_module.seed_everything(7)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize(
    ("place", "home"),
    [("/content/drive/MyDrive", "/content/drive/MyDrive/neural-dialogue-lab"), ("/kaggle/working", "/kaggle/working")],
)
def test_results_are_where_a_dropped_session_does_not_lose_them(place, home, monkeypatch):
    """Colab's disk is gone with its session, Drive is not; of Kaggle's only /kaggle/working is kept."""
    monkeypatch.delenv("LAB_HOME", raising=False)
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) == place)
    assert environment.lab_home() == Path(home)
