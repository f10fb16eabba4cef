"""Known failures: each test is named after the symptom; exceptions are real where they can be raised here."""

import errno
import json
import os
import re
import subprocess
import sys

import httpx
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from labkit import cli
from labkit.errors import LabError
from labkit.failures import PAGE, TABLE, Failure, card, explain, hidden
from labkit.storage import write_text

EVIL = "<script>alert(1)</script>"


def raised(call):
    with pytest.raises(BaseException) as caught:
        call()
    return caught.value


def anchor(call_or_error):
    error = call_or_error if isinstance(call_or_error, BaseException | str) else raised(call_or_error)
    found = explain(error)
    return found and found.anchor


def response(status, code="", message=""):
    """What huggingface_hub raises for an answer of the Hub, which comes from httpx or, since 2.0, from httpx2."""
    from huggingface_hub import errors
    from huggingface_hub.utils import hf_raise_for_status

    headers = {"X-Error-Code": code} if code else {}
    headers |= {"X-Error-Message": message} if message else {}
    client = sys.modules[errors.Response.__module__.partition(".")[0]]
    request = client.Request("GET", "https://huggingface.co/owner/name/resolve/main/config.json")
    return lambda: hf_raise_for_status(client.Response(status, headers=headers, request=request))


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


# --- symptoms ---------------------------------------------------------------------------------------------------------


def test_cuda_out_of_memory():
    import torch

    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.7 GiB"
    )
    assert anchor(error) == "gpu-out-of-memory"


def test_cpu_out_of_memory():
    import numpy as np
    import torch

    assert anchor(lambda: torch.zeros(10**15)) == anchor(lambda: np.zeros(10**15)) == "memory-full"
    assert anchor(MemoryError()) == "memory-full"


def test_torch_not_compiled_with_cuda_enabled():
    import torch

    if torch.version.cuda:
        pytest.skip("this torch is built for CUDA")
    assert anchor(lambda: torch.zeros(1).cuda()) == "no-gpu"


def test_found_no_nvidia_driver():
    assert (
        anchor(RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"))
        == "no-gpu"
    )


def test_your_setup_does_not_support_bf16(tmp_path):
    import torch
    from transformers import TrainingArguments

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert anchor(lambda: TrainingArguments(output_dir=str(tmp_path), bf16=True)) == "no-bf16"


def test_device_side_assert_triggered():
    assert anchor(RuntimeError("CUDA error: device-side assert triggered")) == "gpu-assertion"


@pytest.mark.parametrize("status", [401, 403])
def test_gated_model(status):
    assert anchor(response(status, "GatedRepo", "Access to model owner/name is restricted")) == "gated-model"


def test_no_such_model():
    assert anchor(response(404, "RepoNotFound")) == "no-such-model"


def test_token_refused():
    assert anchor(response(401, message="Invalid credentials in Authorization header")) == "token-refused"


@pytest.mark.parametrize("status", [429, 503])
def test_hub_busy(status):
    assert anchor(response(status)) == "hub-busy"


def test_dataset_scripts_are_no_longer_supported(tmp_path):
    import datasets

    script = tmp_path / "multi_woz_v22.py"
    script.write_text("")
    assert anchor(lambda: datasets.load_dataset(str(script))) == "dataset-script"


def test_contrastive_search_requires_trust_remote_code(tiny_lm):
    import torch

    ids = torch.tensor([[5, 6]])
    assert anchor(lambda: tiny_lm.model.generate(ids, penalty_alpha=0.6, top_k=4, max_new_tokens=1)) == "remote-code"


def test_restart_needed_after_install(monkeypatch):
    """The newer version is on the disk, the older one in use: what `start()` says, and what an import says."""
    from labkit.machine.versions import Version, version_problems

    problem = next(version_problems((Version("torch", ">=2.6", "", "2.13.0", "2.12.0"),)))
    assert anchor(LabError("the lab is BLOCKED", problem.what, problem.action)) == "restart-kernel"
    assert anchor(lambda: exec("from transformers import NoSuchThing")) == "restart-kernel"


def test_no_module_named_pkg_resources():
    error = ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")
    assert anchor(error) == "setuptools-too-new"


def test_kernel_of_another_environment(monkeypatch):
    import labkit.lab as environment

    missing = environment.Version("peft", ">=0.18", "", "", "")
    monkeypatch.setattr(environment, "versions", lambda: (missing,))
    assert anchor(environment.decide) == "another-environment"
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(sys.modules, "gguf", raising=False)
    assert anchor(lambda: __import__("gguf")) == "another-environment"


def test_wrong_folder(tmp_path):
    from labkit.course.release import release

    assert anchor(lambda: release(tmp_path, tmp_path)) == "wrong-folder"
    run = subprocess.run([sys.executable, "-I", "-S", "-m", "labkit"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode and anchor(run.stderr) == "wrong-folder"


def test_old_pytest_with_nbmake():
    """pytest 6 has no `file_path`; pluggy's own check is what users see."""
    import pluggy

    class OldPytest:
        @pluggy.HookspecMarker("pytest")(firstresult=True)
        def pytest_collect_file(self, path, parent):
            """As pytest 6 has it."""

    class Nbmake:
        @pluggy.HookimplMarker("pytest")
        def pytest_collect_file(self, file_path, parent):
            """As nbmake 1.5 has it."""

    manager = pluggy.PluginManager("pytest")
    manager.add_hookspecs(OldPytest)
    assert anchor(lambda: manager.register(Nbmake(), "nbmake")) == "old-pytest"


def test_no_space_left_on_device(tmp_path, monkeypatch):
    """Python's words, labkit's, and those of safetensors. Constructed: no full disk can be had in a test."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def replace(*_):
        raise full

    monkeypatch.setattr("os.replace", replace)
    assert anchor(full) == anchor(lambda: write_text(tmp_path / "x", "x")) == "disk-full"
    assert (
        anchor(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")) == "disk-full"
    )


def test_hub_unreachable(offline):
    import datasets
    from transformers import AutoConfig

    assert anchor(lambda: AutoConfig.from_pretrained("nobody/nothing")) == "hub-unreachable"
    assert anchor(lambda: httpx.get("http://127.0.0.1:9/")) == "hub-unreachable"
    error = raised(lambda: datasets.load_dataset("nobody/nothing"))
    assert "Couldn't reach" in str(error) and anchor(error) == "hub-unreachable"


@pytest.mark.parametrize(
    ("answer", "section"),
    [("offline mode is on", "hub-unreachable"), ("no answer: ConnectError", "hub-unreachable"), (404, "no-such-model")],
)
def test_lab_model_is_not_to_be_had(answer, section, monkeypatch):
    """What `start()` says of a model that was asked for leads to the right section."""
    from labkit.lab import choose_model

    monkeypatch.setenv("LAB_MODEL", "nobody/nothing")
    problem = choose_model(answer)[2][0]
    assert anchor(LabError("the lab is BLOCKED", problem.what, problem.action)) == section


def test_folder_is_no_model(tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    import labkit

    assert anchor(lambda: AutoConfig.from_pretrained(tmp_path)) == "not-a-model"
    assert anchor(lambda: labkit.load_model(str(tmp_path))) == "not-a-model"
    sizes = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_neox"} | sizes))
    assert anchor(lambda: AutoModelForCausalLM.from_pretrained(tmp_path)) == "not-a-model"
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert anchor(lambda: AutoModelForCausalLM.from_pretrained(tmp_path)) == "damaged-file"


@pytest.mark.parametrize("name", ["evaluation_strategy", "warmup_ratio", "group_by_length", "logging_dir"])
def test_renamed_argument(tmp_path, name):
    from inspect import signature

    from transformers import TrainingArguments

    if name in signature(TrainingArguments).parameters:
        pytest.skip(f"this transformers still takes {name}")
    assert anchor(lambda: TrainingArguments(output_dir=str(tmp_path), **{name: "x"})) == "renamed-argument"


@pytest.mark.parametrize("error", [KeyError("hotel"), ValueError("max_length"), NameError("name 'x' is not defined")])
def test_what_is_not_known_stays_as_it_is(error):
    """A student's own slip must not be explained by something else."""
    assert explain(error) is None


def test_the_cause_of_an_error_counts_too():
    def failing():
        try:
            response(403, "GatedRepo")()
        except Exception as gated:
            raise OSError("cannot load") from gated

    assert anchor(failing) == "gated-model"


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_every_failure_has_its_section(name):
    row = TABLE[name]
    failure = Failure(row["cause"], row["action"], name)
    assert len(failure.section()) > 100
    assert set(row) == {"symptom", "cause", "action"} and row["cause"].endswith(".")
    assert re.compile(row["symptom"])


def test_the_link_leads_to_the_page_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = explain(MemoryError()).where().split("#")[0]
    assert (tmp_path / where).resolve() == PAGE.resolve()


# --- what is shown ----------------------------------------------------------------------------------------------------


def run_notebook(tmp_path, *sources):
    cells = [
        nbformat.v4.new_code_cell(source) for source in ("from labkit import failures; failures.install()", *sources)
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}})
    client = NotebookClient(
        notebook, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=ENV)
    return notebook


ENV = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    sources = (
        f'raise MemoryError("{EVIL} token hf_abcdefghijklmnopqrstuvwx")',
        'from labkit.errors import LabError\nraise LabError("no file x", "", "check the path")',
        "1 / 0",
        "import sys; type(sys.last_value).__name__",
    )
    return run_notebook(tmp_path_factory.mktemp("notebook"), *sources)


def outputs(notebook, number):
    return {output.output_type: output for output in notebook.cells[number].outputs}


def test_a_known_failure_is_a_card_and_an_error_output(executed):
    shown = outputs(executed, 1)
    html, error = shown["display_data"].data["text/html"], shown["error"]
    assert "✗ This machine&#x27;s memory is full." in html and "<details><summary>Full traceback" in html
    assert "troubleshooting.md#memory-full" in html and "Shut Down All Kernels" in html
    assert "Traceback (most recent call last)" in shown["display_data"].data["text/plain"]
    assert error.ename == "MemoryError" and "→ Close other notebooks" in "".join(error.traceback)
    assert len(error.traceback) == 2  # short: the whole is folded away above


def test_text_from_an_error_is_no_markup_and_tokens_are_hidden(executed):
    shown = outputs(executed, 1)
    assert "<script" not in shown["display_data"].data["text/html"]
    assert "&lt;script&gt;" in shown["display_data"].data["text/html"]
    stored = json.dumps(executed.cells[1].outputs)
    assert "(token hidden)" in stored and "hf_abc" not in re.sub(r"raise MemoryError.*?\\n", "", stored)


def test_a_lab_error_is_its_one_line(executed):
    shown = outputs(executed, 2)
    assert shown["error"].ename == "LabError" and len(shown["error"].traceback) == 1
    assert shown["error"].traceback[0].endswith("no file x. → check the path")
    assert "Full traceback" in shown["display_data"].data["text/html"]


def test_an_unknown_error_shows_its_traceback(executed):
    shown = outputs(executed, 3)
    assert set(shown) == {"error"} and "ZeroDivisionError" in "".join(shown["error"].traceback)
    assert executed.cells[4].outputs[0].data["text/plain"] == "'ZeroDivisionError'"  # %debug finds it


@pytest.mark.slow
def test_a_client_that_does_not_allow_errors_sees_one(tmp_path):
    cells = [nbformat.v4.new_code_cell("from labkit import failures; failures.install()\nraise MemoryError()")]
    with pytest.raises(CellExecutionError, match="MemoryError"):
        NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3").execute()


@pytest.mark.slow
def test_nbmake_still_fails_and_its_log_has_the_traceback(tmp_path):
    source = "from labkit import failures; failures.install()\ndef deep():\n    raise MemoryError('xyz')\ndeep()"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "broken.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "1 failed" in run.stdout
    assert "memory is full" in run.stdout and "in deep" in run.stdout


def test_the_command_line_uses_the_same_table(monkeypatch, capsys):
    def full(*_):
        raise MemoryError("Bearer hf_abcdefghijklmnopqrstuvwx")

    monkeypatch.setattr("labkit.lab.decide", full)
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("labkit: This machine's memory is full. →") and "#memory-full" in said and said.count("\n") == 1
    )
    monkeypatch.setenv("LAB_DEBUG", "1")
    with pytest.raises(MemoryError):
        cli.main(["doctor"])


def test_only_tokens_are_hidden():
    """Names such as hf_hub_download stand in most tracebacks of a download."""
    assert hidden("in hf_hub_download, hf_raise_for_status") == "in hf_hub_download, hf_raise_for_status"
    assert hidden("token=hf_" + "aB3d" * 8) == "token=(token hidden)"


def test_a_card_escapes_what_it_shows():
    assert "<script" not in card(Failure(EVIL, EVIL, ""), EVIL)
    assert hidden("Illegal header value b'Bearer abc.def-1\\n'") == "Illegal header value b'Bearer (token hidden)\\n'"


def test_start_turns_it_on_before_anything_can_fail(monkeypatch):
    import labkit.lab as environment

    on = []
    monkeypatch.setattr(environment.failures, "install", lambda: on.append(True))
    monkeypatch.setattr(environment, "decide", lambda *_: 1 / 0)
    assert isinstance(raised(environment.start), ZeroDivisionError) and on == [True]
