"""Facts about where the lab runs: devices that are here and devices that are not, networks, paths, versions.

A device that is not here is played by a fake: torch's own questions about it are answered as it would answer them.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import networks
import pytest
from networks import NOWHERE, answering, dripping, point_hub_to, silent

import labkit
import labkit.machine.versions as versions_module
from labkit.errors import LabError, OutOfMemory
from labkit.machine import device, network
from labkit.machine.hardware import hardware, process_device, processor_name, seed_everything
from labkit.machine.network import hub_status, token_problem
from labkit.machine.one_line import first_line, shortened
from labkit.machine.out_of_memory import free_memory, is_out_of_memory, memory_errors
from labkit.machine.paths import cache_dir, lab_home
from labkit.machine.versions import Version, version_line, version_problems, versions


@pytest.fixture(autouse=True)
def offline_world(monkeypatch, tmp_path):
    networks.leave_nothing(monkeypatch, tmp_path)


def test_an_absent_hub_switches_offline_mode_on():
    """transformers would ask an absent Hub for up to 70 s at every load."""
    from huggingface_hub import constants

    status = hub_status()
    assert not status.reachable and status.endpoint == NOWHERE
    assert constants.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_hub_that_accepts_and_never_answers_costs_the_time_limit_once(monkeypatch):
    """A client's time-outs hold for connect, write and read each; a server that drips bytes resets them for ever."""
    with dripping() as address:
        point_hub_to(address, monkeypatch)
        monkeypatch.setenv("LAB_MULTIWOZ_URL", address)
        before = time.monotonic()
        status = hub_status(timeout=0.5)
        assert time.monotonic() - before < 1.5
    assert not status.reachable and "no answer within 0.5 s" in status.reason


def test_offline_mode_of_the_user_means_no_request_at_all(monkeypatch):
    import httpx
    from huggingface_hub import constants

    def refuse(*_, **__):
        raise AssertionError("a request was made in offline mode")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(httpx.Client, "send", refuse)
    status = hub_status()
    assert not status.reachable and "HF_HUB_OFFLINE" in status.reason


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_a_t4_emulates_bfloat16_and_does_not_get_it(capability, dtype, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # what torch says on a T4
    chosen, reason = device.choose_dtype("cuda")
    assert chosen == dtype and f"{capability[0]}.{capability[1]}" in reason


@pytest.mark.parametrize(("speedup", "said"), [(0.02, "0.02x"), (2.5, "bits=16, and training wide")])
def test_a_cpu_computes_in_float32_and_says_what_it_measured(speedup, said, monkeypatch):
    monkeypatch.setattr(device, "bf16_speedup", lambda: speedup)
    dtype, reason = device.choose_dtype("cpu")
    assert dtype == "float32" and said in reason


def test_the_dtype_probe_is_bounded_and_runs_once():
    before = time.monotonic()
    first = device.bf16_speedup()
    assert first > 0 and time.monotonic() - before < 3
    assert device.bf16_speedup() == first  # a second timing would not be equal to the last digit


def test_a_package_below_its_floor_is_a_problem():
    old = Version("transformers", ">=5.0", "5.17.0", "4.57.1", "")
    assert "4.57.1 is installed, >=5.0 is needed" in next(version_problems((old,))).what
    assert not [*version_problems((replace(old, installed="5.0.0rc1"), replace(old, installed="5.17.0+cpu")))][1:]


def test_every_requirement_is_pinned_in_the_clone():
    unpinned = [version.package for version in versions() if not version.pinned]
    assert not unpinned


def test_requirements_are_known_without_an_installed_labkit(monkeypatch, tmp_path):
    """In Colab the clone may only be on sys.path: start() must still know what it needs, or need nothing."""
    from importlib import metadata

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    installed = {version.package for version in versions()}
    monkeypatch.setattr(metadata, "requires", nothing)
    assert {version.package for version in versions()} == installed
    monkeypatch.setattr(versions_module, "clone_root", lambda: tmp_path)  # and no pyproject.toml in it
    assert versions() == ()


def test_results_go_to_the_clone_from_whatever_folder_a_notebook_is_started_in(monkeypatch, tmp_path):
    monkeypatch.delenv("LAB_HOME")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Path,
        "is_dir",
        lambda self: os.path.isdir(self) and not str(self).startswith(("/content", "/kaggle")),
    )
    root = Path(labkit.__file__).resolve().parents[1]
    assert lab_home() == root / "outputs"
    monkeypatch.setenv("LAB_HOME", "here")
    assert lab_home() == tmp_path / "here"


def test_a_seed_seeds_all_three_generators():
    import random

    import numpy as np
    import torch

    draws = []
    for _ in range(2):
        seed_everything(7)
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
    assert lab_home() == Path(home)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_one_slow_answer_does_not_put_a_session_offline_for_good(monkeypatch):
    """The Hub was slow once, offline mode was set, and nothing took it back; the card called it the user's wish."""
    from huggingface_hub import constants

    with silent() as address:
        point_hub_to(address, monkeypatch)
        slow = hub_status(timeout=0.2)
    assert not slow.reachable
    assert constants.is_offline_mode()
    with answering() as address:
        point_hub_to(address, monkeypatch)
        later = hub_status()
    assert later.reachable
    assert not constants.is_offline_mode()
    assert "HF_HUB_OFFLINE" not in os.environ
    assert "HF_HUB_OFFLINE" not in slow.reason


def test_datasets_that_were_imported_early_hear_of_offline_mode_and_of_its_end(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    hub_status()
    assert datasets.config.HF_HUB_OFFLINE
    with answering() as address:
        point_hub_to(address, monkeypatch)
        hub_status()
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_kernel_that_a_command_starts_does_not_take_its_offline_mode_for_the_users(monkeypatch):
    """HF_HUB_OFFLINE is inherited: the child has to know that nobody wished for it."""
    assert not hub_status().reachable
    with answering() as address:
        code = "from labkit.machine.network import hub_status; print(hub_status())"
        env = os.environ | {"HF_ENDPOINT": address}
        child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "reachable=True" in child.stdout


def test_offline_mode_that_the_user_wished_for_stays_though_the_hub_answers(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with answering() as address:
        point_hub_to(address, monkeypatch)
        assert not hub_status().reachable
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (networks.LogInPage, "a web page came instead of an answer.*log in first"),
        (networks.RedirectedLogInPage, "a web page came instead of an answer.*log in first"),
        (networks.RedirectLoop, "redirected without end.*log in first"),
        (networks.Proxy, "407, the proxy wants a password"),
    ],
)
def test_a_network_that_wants_a_log_in_first_is_not_called_the_hub(handler, says, monkeypatch):
    """It answers every address with 200 and its page, so doctor said READY and the download was damaged."""
    import re

    with answering(handler) as address:
        point_hub_to(address, monkeypatch)
        status = hub_status()
    assert not status.reachable
    assert re.search(says, status.reason)
    assert "\n" not in status.reason


def test_a_redirect_to_a_host_that_does_not_answer_names_that_host(monkeypatch):
    class ToNowhere(networks.Handler):
        def reply(self):
            return 302, {"Location": "http://localhost:9/log-in"}

    with answering(ToNowhere) as address:
        point_hub_to(address, monkeypatch)
        assert "redirected to localhost" in hub_status().reason


def test_a_hub_without_models_of_that_kind_is_still_the_hub(monkeypatch):
    """Mirrors do not have all addresses of the Hub: 404 with a page is an answer, and so is 401."""

    class Mirror(networks.Handler):
        def reply(self):
            return 404, {"Content-Type": "text/html"}

    with answering(Mirror) as address:
        point_hub_to(address, monkeypatch)
        assert hub_status().reachable


@pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:9", "socks://127.0.0.1:9", "http://127.0.0.1:x"])
def test_a_proxy_that_cannot_be_used_is_one_line_and_no_thread_dies_of_it(proxy, monkeypatch, capfd):
    """ALL_PROXY, as ssh -D users have it: httpx raises ImportError, which nobody caught, in three threads."""
    import builtins

    def without_socksio(name, *args, **kwargs):
        if name == "socksio":
            raise ImportError("no socksio")
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_socksio)
    monkeypatch.setenv("ALL_PROXY", proxy)
    status = hub_status()
    assert not status.reachable
    assert "ALL_PROXY" in status.reason
    assert "secret" not in status.reason
    assert "\n" not in status.reason
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "address", ["http://[::1", "http://127.0.0.1:99999", "hf-mirror.com", "http://", "file:///etc"]
)
def test_a_malformed_endpoint_is_one_line(address, monkeypatch):
    point_hub_to(address, monkeypatch)
    status = hub_status()
    assert not status.reachable
    assert "no web address" in status.reason or "no answer" in status.reason


@pytest.mark.parametrize("address", ["http://[::1", "http://host:99999", "http://me:secret@host:x"])
def test_an_endpoint_that_huggingface_hub_cannot_even_import_is_one_line(address, monkeypatch):
    """Its constants are computed on import: ValueError, Invalid IPv6 URL, from deep inside."""
    code = "from labkit.cli import main; raise SystemExit(main(['doctor']))"
    env = os.environ | {"HF_ENDPOINT": address}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("labkit: HF_ENDPOINT=") and run.stderr.count("\n") == 1
    assert "secret" not in run.stderr


def test_a_password_in_the_endpoint_is_on_no_card_and_in_no_error(monkeypatch):
    point_hub_to("http://me:secret@127.0.0.1:9", monkeypatch)
    status = hub_status()
    assert status.endpoint == "http://(hidden)@127.0.0.1:9"
    assert "secret" not in str(status)


@pytest.mark.parametrize(
    ("token", "place"),
    [("hf_abc“x", 7), ("hf_a\tb", 5), ("hf_a b", 5), ("hf_aé", 5)],
    ids=["typographic quote", "tab", "space", "letter outside ASCII"],
)
def test_a_token_that_http_refuses_is_named_and_not_shown(token, place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    assert token_problem().startswith(f"character {place} of {len(token)}")
    with answering() as address:
        point_hub_to(address, monkeypatch)
        with pytest.raises(LabError, match="HF_TOKEN cannot be sent") as refusal:
            hub_status()
    assert token not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_token_that_can_be_sent_is_no_problem(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "aB3d" * 8)
    assert token_problem() == ""


def test_a_token_is_not_sent_on_to_another_host(monkeypatch):
    seen = []

    class Second(networks.Handler):
        def reply(self):
            seen.append(self.headers.get("Authorization"))
            return 200, {}

    with answering(Second) as second:
        target = second.replace("127.0.0.1", "localhost")

        class First(networks.Handler):
            def reply(self):
                return 302, {"Location": target}

        with answering(First) as first:
            question = network.Question(first, {"Authorization": "Bearer hf_secret"})
            assert network.probe({"it": question}, 3.0) == {"it": 200}
    assert seen == [None]


# --- devices that are not here ----------------------------------------------------------------------------------------


def pretend_cuda(monkeypatch, capabilities, memory=16 * 2**30):
    """CUDA devices of these compute capabilities, as torch would describe them."""
    import types

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: capabilities[index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: f"card {index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # emulation counts: so says torch on a T4
    properties = types.SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index=0: properties)


@pytest.fixture
def no_rank(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_a_t4_gets_float16_and_its_memory_is_on_the_card(monkeypatch, no_rank):
    pretend_cuda(monkeypatch, [(7, 5)], memory=15 * 2**30)
    hw = hardware()
    assert (hw.device, hw.dtype, hw.gpu_memory_gb) == ("cuda", "float16", 15)
    assert "no bfloat16" in hw.dtype_reason


def test_an_h100_gets_bfloat16(monkeypatch, no_rank):
    pretend_cuda(monkeypatch, [(9, 0)], memory=80 * 2**30)
    hw = hardware()
    assert (hw.device, hw.dtype, hw.gpu_memory_gb) == ("cuda", "bfloat16", 80)


def test_an_apple_gpu_computes_in_float32_and_is_never_asked_for_float64(monkeypatch, no_rank):
    """pytorch issue 122602: "Cannot convert a MPS Tensor to float64"."""
    import torch

    from labkit.lab import decide

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    hw = hardware()
    assert (hw.device, hw.dtype) == ("mps", "float32")
    assert not device.has_float64(hw.device)
    assert device.has_float64("cpu")
    assert device.has_float64("cuda:1")
    card = str(decide())
    assert "Apple GPU" in card
    assert "0 GiB, CUDA" not in card


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_second_of_two_ranks_does_not_load_onto_the_first_gpu(rank, monkeypatch):
    """Each rank sees both devices, a T4 and an A100: each describes its own and loads onto it."""
    pretend_cuda(monkeypatch, [(7, 5), (8, 0)])
    monkeypatch.setenv("LOCAL_RANK", rank)
    hw = hardware()
    assert process_device("cuda") == f"cuda:{rank}"
    assert hw.gpu_name == f"card {rank}"
    assert hw.dtype == {"0": "float16", "1": "bfloat16"}[rank]
    assert process_device("cpu") == "cpu"
    assert process_device("mps") == "mps"


def test_a_rank_that_sees_only_its_own_gpu_calls_it_number_0(monkeypatch):
    """Slurm's --gpus-per-task: LOCAL_RANK is 1, and CUDA_VISIBLE_DEVICES holds one device."""
    pretend_cuda(monkeypatch, [(8, 0)])
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_device("cuda") == "cuda:0"
    assert hardware().dtype == "bfloat16"


def test_one_process_without_ranks_keeps_the_device_that_torch_chooses(monkeypatch, no_rank):
    pretend_cuda(monkeypatch, [(7, 5), (8, 0)])
    assert process_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "-1")  # torch.distributed of old: no ranks
    assert process_device("cuda") == "cuda"


def test_a_gpu_that_is_named_by_its_number_is_not_taken_for_a_cpu(monkeypatch, no_rank):
    """Trap: load_model(device="cuda:1") computed in float32, "scores stay comparable"."""
    pretend_cuda(monkeypatch, [(7, 5), (8, 0)])
    assert device.choose_dtype("cuda:1")[0] == "bfloat16"
    assert device.choose_dtype("cuda:0")[0] == "float16"


def test_a_cpu_without_bfloat16_units_is_not_timed_for_long():
    """Fifty products that are 60 times slower took most of a second of every READY card."""
    device.bf16_speedup.cache_clear()
    before = time.process_time()
    device.bf16_speedup()
    assert time.process_time() - before < 1.5


# --- memory that is full ----------------------------------------------------------------------------------------------

FULL = {
    "CUDA": "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14.75 GiB",
    "CUDA, from a kernel": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "HIP": "HIP out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.98 GiB total capacity)",
    "HIP, from a kernel": "HIP error: out of memory",
    "XPU": "XPU out of memory. Tried to allocate 4.00 GiB",
    "MPS": "MPS backend out of memory (MPS allocated: 8.88 GB, other allocations: 1.02 GB, max allowed: 9.07 GB)",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "a CPU": "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: 12 bytes",
    "Windows": "DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes.",
    "oneDNN": "could not create a primitive descriptor for a matmul primitive",
}


@pytest.mark.parametrize("text", FULL.values(), ids=FULL)
def test_memory_that_is_full_is_recognised_on_every_device(text):
    with pytest.raises(OutOfMemory, match="smaller batch"), memory_errors("choose a smaller batch"):
        raise RuntimeError(text)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError(),
    ],
)
def test_another_error_of_the_device_is_not_called_memory(error):
    with pytest.raises(RuntimeError) as raised, memory_errors("choose a smaller batch"):
        raise error
    assert raised.value is error


def test_pythons_and_torchs_own_errors_of_memory_are_recognised():
    import torch

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("no words"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_advice_is_found_out_only_where_it_is_needed():
    asked = []
    with memory_errors(lambda: asked.append(1) or "less"):
        pass
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mps", "cuda"])
def test_memory_is_given_back_on_the_device_that_there_is(kind, monkeypatch):
    """Trap: torch.cuda.empty_cache() on a Mac, which gives nothing back."""
    import accelerate.utils.memory as accelerates
    import torch

    freed = []
    for name in ("mps", "cuda"):
        monkeypatch.setattr(accelerates, f"is_{name}_available", lambda *_, name=name, **__: name == kind)
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: freed.append(name))
    free_memory()
    assert freed == [kind]


@pytest.mark.slow
def test_memory_that_only_a_circle_holds_is_given_back_on_a_cpu():
    import weakref

    import torch

    tensor = torch.ones(8)
    there = weakref.ref(tensor)
    circle = [tensor]
    circle.append(circle)
    del tensor, circle
    free_memory()
    assert there() is None


# --- words, paths, versions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError(" "), RuntimeError(), RuntimeError("\n\n")])
def test_an_error_without_words_is_named_by_its_type(error):
    """IndexError inside an error handler."""
    assert first_line(error) == "RuntimeError"


def test_a_name_of_any_kind_fits_into_a_line():
    assert shortened("a/b") == "a/b"
    assert shortened("x" * 5000).endswith("… (5000 characters)")
    assert len(shortened("x" * 5000)) < 200
    assert shortened("a\nb\0c\udcff") == "a?b?c?"
    shortened("\udcff").encode("utf-8")


def test_the_processor_is_named_here():
    assert processor_name().strip() == processor_name()


def test_what_earlier_sessions_downloaded_is_found(monkeypatch, tmp_path):
    """The cache moved to the system's place; on Linux it is the same one, elsewhere the earlier one is kept."""
    import platformdirs

    monkeypatch.delenv("LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "Library" / "Caches" / "it")
    assert cache_dir() == tmp_path / "Library" / "Caches" / "it"
    (tmp_path / "cache-home" / "neural-dialogue-lab").mkdir(parents=True)
    assert cache_dir() == tmp_path / "cache-home" / "neural-dialogue-lab"
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "named"))
    assert cache_dir() == tmp_path / "named"


@pytest.mark.skipif(sys.platform != "linux", reason="XDG is Linux's")
def test_on_linux_the_cache_is_where_it_was(monkeypatch, tmp_path):
    monkeypatch.delenv("LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "neural-dialogue-lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_dir() == tmp_path / "me" / ".cache" / "neural-dialogue-lab"


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/x", "a\nb"])
def test_a_folder_that_cannot_be_is_no_traceback(name, monkeypatch):
    monkeypatch.setenv("LAB_HOME", name)
    monkeypatch.setenv("LAB_CACHE", name)
    assert lab_home().is_absolute()
    assert cache_dir().is_absolute()
    assert hardware().disk_gb > 0


def test_the_line_of_versions_names_what_has_moved():
    torch = Version("torch", ">=2.6", "2.13.0", "2.13.0+cpu", "")
    peft = Version("peft", ">=0.18", "0.21.2", "0.20.0", "")
    assert version_line((torch,)) == "torch 2.13.0+cpu; 1 of 1 as pinned"
    assert version_line((torch, peft)).endswith("not as pinned: peft 0.20.0 (pin 0.21.2)")
    assert version_line((replace(torch, pinned=""),)).endswith("no pins here")
