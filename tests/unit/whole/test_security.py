"""What must not happen: code from outside run, a token written down, text from data taken for markup."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas
import pytest

from labkit import cli
from labkit.corpora.types import BOT, USER, Dialogue, Span, Turn
from labkit.decoding.config import DecodingConfig
from labkit.errors import LabError
from labkit.failures import card, explain
from labkit.notebook import plots, view
from labkit.results.board import Board
from labkit.results.report import model_card

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "labkit").rglob("*.py"))
NOTEBOOKS = [*sorted((ROOT / "solutions").glob("*.ipynb")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
EVIL = "<script>alert(1)</script>"
TOKEN = "hf_" + "aB3dE6gH" * 4


# --- code from outside ------------------------------------------------------------------------------------------------


def calls(path):
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpacked_and_no_pickle_is_read(path):
    """labkit unpacks no archive at all. Whoever adds one checks the paths inside, and changes this test."""
    names = {ast.unparse(call.func).split(".")[-1] for call in calls(path)}
    assert not names & {"extractall", "extract", "unpack_archive", "read_pickle", "load_pickle", "joblib"}
    text = path.read_text(encoding="utf-8")
    assert "import tarfile" not in text and "import zipfile" not in text and "shell=True" not in text


def test_weights_are_loaded_as_safetensors_only(tmp_path):
    """A folder with PyTorch's .bin, which is a pickle, is refused before anything in it is read."""
    import labkit

    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR.")
    with pytest.raises(LabError):
        labkit.load_model(str(tmp_path))
    assert not (tmp_path / "run").exists()


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    import json

    import labkit

    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(LabError):
        labkit.load_model(str(tmp_path))
    assert not (tmp_path / "run").exists()


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_token_is_in_no_output_of_the_doctor(tmp_path):
    env = os.environ | {"HF_TOKEN": TOKEN, "LAB_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "labkit", "doctor", "--json", str(tmp_path / "card.json")]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "READY" in run.stdout
    assert TOKEN not in run.stdout + run.stderr + (tmp_path / "card.json").read_text()


def test_a_token_is_in_no_file_and_no_log_of_a_run(tmp_path, monkeypatch, capfd, tiny_lm, miniwoz):
    """Training, predictions, the results board and a model card: everything under LAB_HOME, and what was printed."""
    import labkit

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr("labkit.models.load_model", lambda *_, **__: tiny_lm)
    monkeypatch.setattr("labkit.corpora.load_corpus", lambda *_, **__: miniwoz)
    out = tmp_path / "predictions.json"
    size = ["--max-new-tokens", "2", "--limit", "1"]
    assert cli.main(["generate", "--model", "mini-pythia", "--corpus", "miniwoz", "--out", str(out), *size]) == 0
    assert cli.main(["evaluate", str(out), "--corpus", "miniwoz"]) == 0
    config = labkit.FinetuneConfig(max_steps=1, eval_steps=0, max_train_dialogues=1, max_length=128)
    labkit.finetune(tiny_lm, miniwoz, config, tmp_path / "adapter")
    (tmp_path / "README.md").write_text(model_card("me/mine", tiny_lm, Board().rows(), tmp_path / "adapter", None))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    printed = capfd.readouterr()
    assert "dialogues written" in printed.out and TOKEN not in printed.out + printed.err
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_a_token_is_in_no_page_of_preflight(tmp_path, monkeypatch):
    """A notebook that fails with the token in its message: neither the page nor the index nor the log has it."""
    from labkit.course.preflight import preflight

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("LAB_HOME", raising=False)
    lines = (
        "from labkit import failures",
        "failures.install()",
        "import os",
        "raise MemoryError(os.environ['HF_TOKEN'])",
    )
    cell = nbformat.v4.new_code_cell("\n".join(lines))
    path = tmp_path / "solutions" / "0_a.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    with pytest.raises(LabError) as caught:
        preflight(tmp_path / "report", [path], ["smoke"])
    assert TOKEN not in str(caught.value)
    pages = list((tmp_path / "report").glob("*.html"))
    assert len(pages) == 2 and "MemoryError" in pages[0].read_text() + pages[1].read_text()
    assert [page for page in pages if TOKEN in page.read_text()] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_notebook_asks_for_a_token_in_a_cell(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"hf_[A-Za-z0-9]{20,}|token\s*=\s*\\?[\"'][^\"'\\]", text)


# --- markup from data -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil():
    span = Span("Restaurant-Inform", "name", EVIL, 0, len(EVIL))
    state = {"restaurant": {"food": EVIL}}
    turns = [Turn(USER, f"food {EVIL}", state), Turn(BOT, f"{EVIL} is nice", state, spans=(span,))]
    return Dialogue(f"{EVIL}.json", (EVIL,), turns * 2)


def test_a_dialogue_with_script_tags_is_text_in_every_view(evil, tiny_lm):
    from labkit.notebook.widgets import DecodingExplorer, decoding_table, steps_table

    explorer = DecodingExplorer(tiny_lm, evil)
    prompt = explorer.prompts[0].input_ids
    shown = [
        view.show_dialogue(evil, {evil.key: [{"response": EVIL}] * 2}, states=True),
        view.show_dialogue(evil, delexicalised=True),
        view.side_by_side({EVIL: EVIL, "b": "x"}, EVIL, differences=True),
        explorer.question(),
        explorer.chart(),
        decoding_table(tiny_lm, evil, [DecodingConfig(max_new_tokens=2)]),
        steps_table(tiny_lm, prompt, DecodingConfig(strategy="sample", max_new_tokens=2)),
    ]
    for item in shown:
        assert "<script" not in item.html.lower()
    assert all("&lt;script" in item.html for item in shown[:4])


def test_a_row_of_the_board_is_text(tmp_path):
    board = Board(tmp_path)
    board.add({"task": EVIL, "model": EVIL, "corpus": EVIL, "bleu": 1.0, "decoding": {"strategy": EVIL}})
    assert "<script" not in board.html().html and "&lt;script" in board.html().html


def test_an_error_is_text():
    found = explain(LabError(EVIL, EVIL, EVIL))
    assert "<script" not in card(found, EVIL) and "&lt;script" in card(found, EVIL)


def test_what_a_student_s_code_raised_is_text(monkeypatch, tmp_path):
    import labkit

    def broken(dialogue):
        raise ValueError(EVIL)

    shown = []
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr("labkit.notebook.exercises.show", shown.append)
    labkit.check("0.2", broken)
    assert shown and all("<script" not in item.html for item in shown)
    assert "&lt;script" in "".join(item.html for item in shown)


def hover(figure):
    """Everything that plotly would draw as its subset of HTML, or show on hovering."""
    return figure.to_json().replace("\\\\u003c", "<").replace("\\u003c", "<")


def test_hover_texts_are_text(evil):
    """plotly draws <b> and links from texts: it runs no script, but what looks like markup must be read as text."""
    history = [{"step": 1, "loss": 1.0, "eval_loss": 1.0, "eval_bleu": 1.0, "eval_sample": EVIL}]
    assert "<script" not in hover(plots.training(history))


def test_structure_plots_are_text(evil):
    from labkit.notebook import structure_plots as drawn

    columns = {"speaker": ["user", "bot"], "dialogue_id": [EVIL] * 2, "turn": [0, 1], "utterance": [EVIL] * 2}
    table = pandas.DataFrame(columns | {"cluster": [0, 1], "domain": ["hotel"] * 2, "act": ["Inform"] * 2})
    figure = drawn.utterance_map({"pca": np.zeros((2, 2))}, table)
    assert "<script" not in "".join(str(text) for trace in figure.data for text in trace.hovertext)
