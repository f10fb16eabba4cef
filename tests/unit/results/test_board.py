"""The results board: no row is lost or read half, whoever writes; stand-ins are never silent."""

import json
import subprocess
import sys
from time import process_time
from types import SimpleNamespace

import numpy as np
import pytest

from labkit.corpora.types import Corpus
from labkit.decoding.config import DecodingConfig
from labkit.errors import LabError
from labkit.notebook import model_plots
from labkit.results import lines
from labkit.results.board import Board
from labkit.results.differs import differing
from labkit.results.row import Result, Run, label, result_row

SCORES = SimpleNamespace(
    bleu=11.6,
    inform=76.7,
    success=43.3,
    combined=71.6,
    richness={"entropy": 5.1},
    dst=None,
    notes=("n",),
    n_dialogues=30,
    n_turns=200,
)
LM = SimpleNamespace(name="mini-pythia", adapter=None, bits=4, n_parameters=8_700_000, stand_in=True, device="cpu")
CORPUS = Corpus("miniwoz", {}, "generated", stand_in=True)


def row(**changes):
    config = DecodingConfig(strategy="sample", top_p=0.9, seed=7)
    return result_row("zero-shot", LM, CORPUS, "test", SCORES, decoding=config, seconds=12.345) | changes


def test_a_row_says_all_that_is_needed_to_repeat_the_run(tmp_path):
    Board(tmp_path).add(row())
    (saved,) = Board(tmp_path).rows()
    for name in ("time", "task", "model", "bits", "corpus", "split", "device", "versions", "training", "parameters"):
        assert name in saved
    assert saved["seed"] == 7 and saved["dialogues"] == 30 and saved["seconds"] == 12.3
    assert saved["decoding"]["top_p"] == 0.9 and saved["stand_in"] is True
    assert set(saved["versions"]) >= {"labkit", "torch", "transformers"}


def test_an_adapter_in_the_labs_folder_is_named_from_there_and_found_after_a_move(tmp_path):
    (tmp_path / "old" / "adapters" / "mine").mkdir(parents=True)
    inside, outside = str(tmp_path / "old" / "adapters" / "mine"), str(tmp_path / "elsewhere")
    for adapter in (inside, outside, None):
        Board(tmp_path / "old").add(row(adapter=adapter))
    assert [json.loads(line)["adapter"] for line in Board(tmp_path / "old").path.read_text().splitlines()] == [
        "adapters/mine",
        outside,
        None,
    ]
    (tmp_path / "old").rename(tmp_path / "new")
    board = Board(tmp_path / "new")
    assert [r["adapter"] for r in board.rows()] == [str(tmp_path / "new" / "adapters" / "mine"), outside, None]
    assert set(board.table().adapter.dropna()) == {"adapters/mine", outside}


def test_what_training_wrote_beside_the_adapter_is_in_the_row(tmp_path):
    """The configuration that a notebook holds may leave the learning rate to the run; the run knows it."""
    (tmp_path / "run.json").write_text('{"learning_rate": 0.004, "max_steps": 440, "seed": 3}')
    (tmp_path / "result.json").write_text('{"tokens_per_second": 812.4}')
    tuned = SimpleNamespace(**vars(LM) | {"adapter": str(tmp_path)})
    made = result_row("QLoRA", tuned, CORPUS, "test", SCORES, training={"learning_rate": None}, seconds=20)
    assert made["training"]["learning_rate"] == 0.004
    assert made["speed"] == {"replies_per_second": 10.0, "tokens_per_second": 812}


MERGED = SimpleNamespace(**vars(LM) | {"merged": "0123456789ab"})
OTHER_MERGED = SimpleNamespace(**vars(LM) | {"merged": "ba9876543210"})
IN_FULL = {"full_finetune": True, "max_steps": 60}


def test_a_bot_that_was_merged_or_tuned_in_full_is_called_untuned(tmp_path):
    """Only a row with an adapter's folder was tuned, so a merged bot stood among the untuned models in every view."""
    board = Board(tmp_path)
    learnt = {
        "merged": result_row("merged", MERGED, CORPUS, "test", SCORES),
        "in full": result_row("in full", LM, CORPUS, "test", SCORES, training=IN_FULL),
        "adapter": row(task="adapter", adapter="mine"),
    }
    rows = [row(task="nothing"), *learnt.values()]
    for one in rows:
        board.add(one)
    assert [label(one) for one in rows] == ["mini-pythia, untuned (stand-in)"] + ["mini-pythia, tuned (stand-in)"] * 3
    assert [model_plots.label(one) for one in rows] == ["mini-pythia, untuned"] + ["mini-pythia, tuned"] * 3
    assert len(board.original("tuned").split("\n")) == 2 + 3 and len(board.original("untuned").split("\n")) == 2 + 1
    assert ["tuned" in words for words in differing(rows[:3])] == [False, True, True]
    assert "merged adapter 0123456789ab" in differing(rows)[1] and "adapter mine" in differing(rows)[3]


def test_two_merged_bots_are_told_apart_as_two_adapters_are():
    rows = [result_row("talk", lm, CORPUS, "test", SCORES) for lm in (MERGED, OTHER_MERGED)]
    assert differing(rows) == ["merged adapter 0123456789ab", "merged adapter ba9876543210"]


def test_what_was_merged_is_kept_in_the_file_beside_predictions():
    run = Run.of(MERGED)
    assert Run.from_record(json.loads(json.dumps(run.to_record())), "another").merged == "0123456789ab"


def test_a_stand_in_corpus_alone_makes_the_row_a_stand_in():
    real = SimpleNamespace(**vars(LM) | {"stand_in": False})
    assert result_row("t", real, CORPUS, "test", SCORES)["stand_in"]
    assert not result_row("t", real, Corpus("multiwoz22", {}, "raw"), "test", SCORES)["stand_in"]


def test_a_torn_last_line_costs_only_itself_and_not_the_next_row(tmp_path, capsys):
    board = Board(tmp_path)
    board.add(row(task="first"))
    with board.path.open("a") as file:
        file.write('{"task": "killed while wri')
    board.add(row(task="second"))
    assert [r["task"] for r in board.rows()] == ["first", "second"]
    assert "1 unfinished line" in capsys.readouterr().out


def test_a_full_disk_leaves_earlier_rows_and_no_half_row(tmp_path, monkeypatch):
    board = Board(tmp_path)
    board.add(row(task="first"))
    before = board.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lines.os, "fsync", full)
    with pytest.raises(LabError, match="No space left"):
        board.add(row(task="second"))
    assert board.path.read_bytes() == before


QUOTA = """
import resource, sys
from labkit.errors import LabError
from labkit.notebook.board import Board
board = Board(sys.argv[1])
board.add({"task": "first", "text": "x" * 3000})
resource.setrlimit(resource.RLIMIT_FSIZE, (3500, resource.RLIM_INFINITY))  # room for a half row
for text in ("y" * 3000, "y" * 20000):
    try:
        board.add({"task": "second", "text": text})
    except LabError as error:
        print(error)
board.add({"task": "third"})
"""


@pytest.mark.slow
def test_a_real_quota_in_the_middle_of_a_row_costs_that_row_only(tmp_path):
    """The kernel writes a part of the row and then refuses; nothing of it may stay, now or when the file is closed."""
    run = subprocess.run([sys.executable, "-c", QUOTA, str(tmp_path)], capture_output=True, text=True)
    assert run.stdout.count("cannot write") == 2 and run.stdout.count("→ free space") == 2, run
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["first", "third"]


ENDLESS = """
import itertools, sys
from labkit.notebook.board import Board
for i in itertools.count():
    Board(sys.argv[1]).add({"task": sys.argv[2], "i": i, "text": "x" * 50000})
    print(i, flush=True)
"""


@pytest.mark.slow
def test_kill_minus_9_loses_no_row_that_was_added(tmp_path):
    """Two endless writers at once, each killed at some moment, three times over, beside a row of ours."""
    kept = set()
    for number in range(3):
        names = [f"{number}{letter}" for letter in "ab"]
        command = [sys.executable, "-c", ENDLESS, str(tmp_path)]
        writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in names]
        for name, writer in zip(names, writers, strict=True):
            kept |= {(name, int(writer.stdout.readline())) for _ in range(3 + number)}
            writer.kill()
        for name, writer in zip(names, writers, strict=True):
            kept |= {(name, int(line)) for line in writer.stdout.read().splitlines()}
            assert writer.wait() == -9
        Board(tmp_path).add({"task": "ours", "i": number})
        kept.add(("ours", number))
    assert kept <= {(row["task"], row["i"]) for row in Board(tmp_path).rows()} and len(kept) > 20


@pytest.mark.slow
def test_concurrent_writers_lose_no_row(tmp_path):
    code = (
        "import sys; from labkit.notebook.board import Board\n"
        "for i in range(50): Board(sys.argv[1]).add({'task': sys.argv[2], 'i': i, 'text': 'x' * 5000})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len({(r["task"], r["i"]) for r in Board(tmp_path).rows()}) == 150


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    Board(tmp_path).add({"a": np.int64(3), "b": np.float32(0.5)})
    assert json.loads(Board(tmp_path).path.read_text()) == {"a": 3, "b": 0.5}


def test_table_sorts_and_shows_only_settings_that_differ(tmp_path):
    board = Board(tmp_path)
    for top_p, success in ((0.9, 10.0), (0.5, 30.0)):
        board.add(row(success=success, decoding={"strategy": "sample", "top_p": top_p, "max_new_tokens": 64}))
    table = board.table("success")
    assert table.success.tolist() == [30.0, 10.0]
    assert table.decoding.tolist() == ["strategy=sample, top_p=0.5", "strategy=sample, top_p=0.9"]
    assert set(table.stand_in) == {"stand-in"}
    assert len(board.table(task="nothing")) == 0
    lines = board.markdown("success").split("\n")
    assert lines[0].startswith("| task | model | stand_in |") and "| stand-in |" in lines[2] and len(lines) == 4


def test_a_difference_inside_the_noise_is_said_in_words(tmp_path):
    """Only rows on the same corpus and split compete; rows without intervals have none."""
    board = Board(tmp_path)
    for bleu, corpus in ((12.0, "miniwoz"), (11.0, "miniwoz"), (5.0, "miniwoz"), (30.0, "multiwoz22")):
        board.add(row(bleu=bleu, corpus=corpus, intervals={"bleu": (bleu - 1, bleu + 1)}))
    board.add(row(bleu=50.0))
    told = board.table("bleu").intervals.tolist()
    assert told == ["", "bleu 29.0–31.0", "bleu 11.0–13.0 best", "bleu 10.0–12.0 ≈ best", "bleu 4.0–6.0"]
    assert "≈ best" in board.html().html and "≈ best" in board.markdown()


def original_board(folder):
    board = Board(folder)
    speed = {"steps_per_second": 2.5, "replies_per_second": 31.0}
    board.add(row(task="speed", speed=speed, device="Tesla T4", versions={"cuda": "12.4"}))
    board.add(row(intervals={"bleu": (10.0, 13.0)}))
    training = {"lora_modules": "attention", "max_steps": 440, "learning_rate": 0.004}
    board.add(row(task="QLoRA", adapter="a", training=training, stand_in=False, inform=None, success=None))
    return board


def test_the_three_tables_of_the_original_are_exported_as_markdown(tmp_path):
    board = original_board(tmp_path)
    speed, untuned, tuned = (board.original(name).split("\n") for name in ("speed", "untuned", "tuned"))
    assert speed[0] == "| GPU | CUDA | train it/s | infer it/s |" and speed[2:] == ["| Tesla T4 | 12.4 | 2.5 | 31.0 |"]
    assert untuned[0] == "| LLM | decoding params | metrics |" and len(untuned) == 3
    assert (
        "(stand-in)" in untuned[2]
        and "strategy=sample, max_new_tokens=64, top_p=0.9 |" in untuned[2]
        and "bleu 11.6 [10.0, 13.0]" in untuned[2]
    )
    assert tuned[0].startswith("| LLM | LoRA modules | steps | learning rate |") and len(tuned) == 3
    assert "| attention | 440 | 0.004 |" in tuned[2] and "stand-in" not in tuned[2] and "inform" not in tuned[2]
    with pytest.raises(LabError, match="choose one of speed, untuned, tuned"):
        board.original("T9")
    assert Board(tmp_path / "none").original("tuned").count("\n") == 1  # a heading without rows


def test_csv_has_a_column_for_every_field(tmp_path):
    import pandas

    board = original_board(tmp_path)
    board.csv(tmp_path / "board.csv")
    table = pandas.read_csv(tmp_path / "board.csv")
    assert len(table) == 3 and table["decoding.top_p"].tolist() == [0.9] * 3
    assert table["training.learning_rate"].tolist()[2] == 0.004 and {"seed", "device", "stand_in"} <= set(table)
    assert board.csv().splitlines()[0] == ",".join(table.columns)


def test_html_of_the_table_escapes_what_rows_hold(tmp_path):
    Board(tmp_path).add(row(task="<script>alert(1)</script>"))
    assert "<script>" not in Board(tmp_path).html().html


def test_an_empty_board_is_a_table_and_a_figure_too(tmp_path):
    assert len(Board(tmp_path).table()) == 0 and len(Board(tmp_path).figure().data) == 3


def test_figure_has_a_dot_for_each_score_its_interval_and_names_stand_ins(tmp_path):
    board = Board(tmp_path)
    board.add(row(intervals={"bleu": (10.0, 13.0)}))
    board.add(row(inform=None, success=None))  # a corpus without goals
    figure = board.figure()
    dots = figure.data
    assert [dot.x[0] for dot in dots] == [11.6, 76.7, 43.3] and [len(dot.x) for dot in dots] == [2, 1, 1]
    assert "stand-in" in figure.layout.title.text and len(set(dots[0].y)) == 2
    assert dots[0].error_x.array[0] == pytest.approx(1.4) and dots[0].error_x.arrayminus[0] == pytest.approx(1.6)
    assert len({dot.marker.symbol for dot in dots}) == 3  # colour is not the only difference


# --- what is shown ----------------------------------------------------------------------------------------------------


def scored(bleu, **changes):
    """A row with an interval of two points around its BLEU."""
    return row(bleu=bleu, intervals={"bleu": (bleu - 1, bleu + 1)}, **changes)


def test_about_best_is_said_of_the_same_dialogues_only(tmp_path):
    """As many dialogues, but others: nothing can be said about which is better."""
    board = Board(tmp_path)
    for bleu, ids in ((12.0, "a"), (11.5, "a"), (11.9, "b"), (5.0, "b")):
        board.add(scored(bleu, dialogue_ids=ids))
    board.add(scored(11.8, dialogue_ids="a", dialogues=29))
    told = dict(zip(board.table().bleu, board.table().intervals, strict=True))
    assert told[12.0].endswith(" best") and told[11.5].endswith("≈ best") and told[11.9].endswith("12.9 best")
    assert "best" not in told[5.0] and "best" not in told[11.8]


def test_a_row_names_the_dialogues_that_were_scored():
    def with_keys(*keys):
        return result_row("t", LM, CORPUS, "test", SimpleNamespace(**vars(SCORES), keys=keys))["dialogue_ids"]

    assert with_keys("a", "b") == with_keys("b", "a") != with_keys("a", "c") and with_keys() is None


def test_none_of_twenty_has_an_interval_in_old_rows_too(tmp_path):
    """The bootstrap of earlier versions said [0, 0]; Wilson's interval of 0 of 20 goes up to 16 %."""
    Board(tmp_path).add(row(success=0.0, dialogues=20, intervals={"success": [0.0, 0.0]}))
    assert Board(tmp_path).table().intervals.tolist() == ["success 0.0–16.1"]


@pytest.mark.parametrize("name", ["/home/me/models/my-model", "~/my-model", "./my-model", "C:\\me\\my-model"])
def test_a_models_name_in_a_row_is_no_machines_path(name, tmp_path):
    local = SimpleNamespace(**vars(LM) | {"name": name})
    made = result_row("t", local, CORPUS, "test", SCORES, training={"model": name})
    assert made["model"] == made["training"]["model"] == "my-model"
    Board(tmp_path).add({"task": "old", "model": name, "bleu": 1.0})  # as earlier versions wrote it
    assert Board(tmp_path).table().model.tolist() == ["my-model"] and name not in Board(tmp_path).html().html


def test_a_hub_id_keeps_its_owner():
    hub = SimpleNamespace(**vars(LM) | {"name": "EleutherAI/pythia-70m"})
    assert result_row("t", hub, CORPUS, "test", SCORES)["model"] == "EleutherAI/pythia-70m"


def test_looks_at_the_test_split_are_counted_and_said(tmp_path):
    board = Board(tmp_path)
    board.add(row(split="dev"))
    assert board.looks_at_test() == {} and "test split" not in board.html().html
    for seed in (1, 2, 2):
        board.add(row(seed=seed))
    board.add({"task": "failed", "corpus": "miniwoz", "split": "test", "failed": "no memory"})
    assert board.looks_at_test() == {"miniwoz": (3, 2)}
    assert "The test split of miniwoz was looked at 3 times, by 2 different runs" in board.html().html


def test_joint_accuracy_and_span_f1_have_columns(tmp_path):
    board = Board(tmp_path)
    board.add(row(dst={"joint_accuracy": 41.5}))
    board.add({"task": "tagging", "model": "m", "corpus": "miniwoz", "split": "test", "spans": {"f1": 77.3}})
    table = board.table()
    assert table.joint_accuracy.dropna().tolist() == [41.5] and table.span_f1.dropna().tolist() == [77.3]
    page = board.html().html
    assert "joint accuracy" in page and "span F1" in page and 'data-value="77.3"' in page


def test_dev_and_test_rows_are_no_one_ranking(tmp_path):
    board = Board(tmp_path)
    for split in ("dev", "test"):
        board.add(row(split=split))
    page = board.html().html
    assert page.count("<caption>") == 2 and "miniwoz, dev split" in page and "miniwoz, test split" in page


def test_what_is_the_same_in_all_rows_takes_no_column_and_what_differs_is_in_sight(tmp_path):
    board = Board(tmp_path)
    for top_p in (0.9, 0.5):
        board.add(row(decoding={"strategy": "sample", "top_p": top_p, "max_new_tokens": 64}))
    page = board.html().html
    visible = page.split("<details>")[0]
    assert visible.count('<th scope="col"') <= 8 and ">top_p=0.5<" in visible
    assert visible.count("mini-pythia") == 1 and "max_new_tokens" not in visible
    assert "max_new_tokens=64" in page  # to be unfolded
    assert visible.count("stand-in") == 2  # once above the table, once in its caption


def test_what_most_rows_have_is_said_once_and_not_in_every_row(tmp_path):
    """Each row spelt out twenty settings, four lines high: the one that mattered was cut off in the figure's label."""
    board = Board(tmp_path)
    for number in range(6):
        wanted = {"strategy": "sample", "top_p": 0.9 if number == 3 else 1.0, "max_new_tokens": 64}
        board.add(
            row(task=f"grid {number}", decoding=wanted, dialogues=2 if number == 4 else 30, dialogue_ids=str(number))
        )
    page = board.html().html.split("<details>")[0]
    assert page.count("top_p=1.0") == page.count("dialogues=30") == 1 and "Where nothing else is said" in page
    assert ">top_p=0.9<" in page and ">dialogues=2<" in page and "dialogue_ids" not in page
    assert page.index("what differs") < page.index("BLEU")
    labels = board.figure().data[0].y
    assert labels[3] == "grid 3, top_p=0.9" and labels[4] == "grid 4, dialogues=2" and labels[5] == "grid 5"


def test_the_table_is_sorted_downwards_with_an_arrow(tmp_path):
    board = Board(tmp_path)
    for success in (10.0, 30.0, 20.0):
        board.add(row(success=success, seed=int(success)))
    page = board.html("success").html.split("<details>")[0]
    places = [page.index(f'data-value="{success}"') for success in (30.0, 20.0, 10.0)]
    assert places == sorted(places) and page.count('aria-sort="descending"') == 1 and "▼" in page
    with pytest.raises(LabError, match="no column 'sucess'"):
        board.html("sucess")


def test_a_notebook_that_was_run_twice_fills_no_second_row(tmp_path):
    board = Board(tmp_path)
    for minute in range(3):
        board.add(row(time=f"2026-11-28T10:0{minute}:00+0000", seconds=minute))
    assert board.html().html.count('<th scope="row"') == 1 and "(× 3)" in board.html().html
    assert len(board.figure().data[0].x) == 1 and len(board.rows()) == len(board.table()) == 3


@pytest.mark.slow
def test_the_height_of_the_figure_follows_its_rows_and_no_label_is_there_twice(tmp_path):
    board = Board(tmp_path)
    heights = []
    for number in range(30):
        board.add(row(bleu=float(number), decoding={"strategy": "sample", "top_p": 0.5 + number / 100}))
        heights.append(board.figure().layout.height)
    dots = board.figure().data[0]
    assert heights[-1] > 3 * heights[0] and len(set(dots.y)) == 30 and max(map(len, dots.y)) <= 60


# --- odd files --------------------------------------------------------------------------------------------------------

ODD_LINES = ["3", "null", "[1]", '"x"', "true", "{", "9" * 5000, "[" * 100_000, "\x00"]
ODD_VALUES = [3, -1, "x", True, [1], {"a": [1]}, {"a": {"b": None}}, float("nan"), float("inf"), 10**400, "\ud83d"]


def all_views(board, folder):
    board.rows(), board.table(), board.html(), board.markdown(), board.figure(), board.csv(folder / "board.csv")
    for table in ("speed", "untuned", "tuned"):
        board.original(table)


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: line[:5])
def test_a_line_that_is_no_row_is_said_and_costs_no_view(line, tmp_path, capsys):
    board = Board(tmp_path)
    board.add(row())
    with board.path.open("a") as file:
        file.write(f"{line}\n")
    assert len(board.rows()) == 1 and "skipped" in capsys.readouterr().out
    all_views(board, tmp_path)


TOGETHER = [ODD_VALUES]  # on one board, which is drawn once
ONE_BY_ONE = pytest.param([[value] for value in ODD_VALUES], marks=pytest.mark.long, id="one by one")


@pytest.mark.slow
@pytest.mark.parametrize("boards", [pytest.param(TOGETHER, id="together"), ONE_BY_ONE])
@pytest.mark.parametrize("name", sorted({*lines.EXPECTED, *Result.__annotations__, "conversation"}))
def test_a_value_of_another_type_costs_no_view(name, boards, tmp_path):
    for number, values in enumerate(boards):
        board = Board(tmp_path / str(number))
        board.add(row())
        odd = [json.dumps(row() | {name: value}, default=str) + "\n" for value in values]
        board.path.write_text("".join(odd) + board.path.read_text())
        assert len(board.rows()) == 1 + len(values)
        all_views(board, tmp_path / str(number))


def test_an_old_row_with_few_fields_is_readable(tmp_path):
    Board(tmp_path).add({"task": "zero-shot", "bleu": 1.0})
    Board(tmp_path).add({})
    all_views(Board(tmp_path), tmp_path)
    assert len(Board(tmp_path).rows()) == 2


def test_control_characters_of_a_row_do_not_reach_the_terminal(tmp_path):
    Board(tmp_path).add(row(task="\x1b[2Jcleared", model="a\rb"))
    board = Board(tmp_path)
    assert "\x1b" not in str(board.html()) + board.markdown() + board.html().html + board.original("untuned")


def test_csv_is_whole_or_not_at_all_and_replaces_no_thesis(tmp_path, monkeypatch):
    board = original_board(tmp_path)
    (tmp_path / "thesis.tex").write_text("years")
    (tmp_path / "old.csv").write_text("a\n1\n")
    with pytest.raises(LabError, match="it is there already"):
        board.csv(tmp_path / "thesis.tex")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labkit.storage.os.fsync", full)
    with pytest.raises(LabError, match="No space left"):
        board.csv(tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "a\n1\n" and (tmp_path / "thesis.tex").read_text() == "years"


def test_a_row_that_json_cannot_hold_is_one_line_and_half_an_emoji_is_kept(tmp_path):
    board = Board(tmp_path)
    with pytest.raises(LabError, match="no row for the board"):
        board.add({("a", "b"): 1})
    board.add({"task": "half \ud83d"})
    assert "half \\ud83d" in board.path.read_text(), "it is in the file as it was"
    assert board.rows() == [{"task": "half \\ud83d"}], "and every view can print it"
    all_views(board, tmp_path)


@pytest.mark.slow
def test_time_grows_with_the_rows_and_not_with_their_square(tmp_path):
    """Eight times the rows: about eight times as long, where it was 64. A page shows no more than it can."""
    spent = {}
    for size in (500, 4000):
        board = Board(tmp_path / str(size))
        board.path.parent.mkdir()
        made = (json.dumps(scored(float(n % 97), seed=n, dialogue_ids="a"), default=str) for n in range(size))
        board.path.write_text("\n".join(made))
        board.table()  # what is imported at the first call
        started = process_time()
        board.table(), board.html()
        spent[size] = process_time() - started
    assert spent[4000] < 24 * spent[500], spent
    assert board.html().html.count("<tr>") < 500 and "board.csv() has all" in board.html().html


READ_WITH_CARE = [
    b'{"seed": 10000000000000000000000000000000, "dialogues": 18446744073709551616, "own": -9223372036854775809}',
    b'{"bleu": 0.00012345678901234567, "inform": NaN, "own": [Infinity, -0.0, -0]}',
    b'{"task": "a \\ud83d b", "model": "\\ud83d\\ude00"}',
    b'{"task": "\xff \xe2\x80"}',
    b'{"task": "twice", "task": "second", "decoding": {"seed": 1}, "decoding": {"seed": 2}}',
    b'{"task": "in a text: , \\"decoding\\": {\\"seed\\": 1}", "decoding": {"seed": 3}}',
    b'{"sweep": {"which": "x", "decoding": {"seed": 4}}, "decoding": {"seed": 5}}',
    b'{"sweep": {"which": "x", "decoding": {"seed": 6}}}',
    b'{"task": "nested", "decoding": {"seed": 7, "own": {"of": [1]}}, "training": {"lora_modules": ["a", "}"]}}',
    b'{"task": "list", "decoding": [{"seed": 8}], "training": {}}',
    b'["x", "decoding": {"seed": 9}]',
    b'{"task": "x", "decoding": {"seed": 10',
    b'{"task": "x", "decoding": {"seed": 011}}',
    b'{"a": 1}{"b": 2}',
    b'{"task":\r"an editor"}',
    b'{"task": "crlf"}\r',
    b" ",
    b'\xef\xbb\xbf{"task": "bom"}',
]


def test_lines_are_read_fast_as_json_reads_them(tmp_path, monkeypatch, capsys):
    """orjson rounds long numbers, and settings that rows share are parsed once: neither may be seen in a row."""
    board = Board(tmp_path)
    board.path.write_bytes(b"\n".join(READ_WITH_CARE * 2))
    fast = repr(board.rows()), capsys.readouterr().out
    monkeypatch.setattr(lines, "orjson", None)
    assert (repr(board.rows()), capsys.readouterr().out) == fast
    assert "10000000000000000000000000000000" in fast[0] and "unfinished line(s)" in fast[1]


def test_settings_of_a_row_may_be_changed_without_changing_another_row(tmp_path):
    for seed in (1, 2):
        Board(tmp_path).add(row(seed=seed, decoding={"strategy": "greedy"}, training={"lora_r": 8}))
    first, second = Board(tmp_path).rows()
    first["decoding"]["strategy"] = "mine"
    first["training"]["lora_r"] = 4
    assert second["decoding"] == {"strategy": "greedy"} and second["training"] == {"lora_r": 8}


def test_a_page_of_very_many_corpora_says_what_it_leaves_out(tmp_path):
    """100,000 rows on as many corpora took 20 seconds, for a page that no browser shows."""
    board = Board(tmp_path)
    for number in range(203):
        board.add({"task": "x", "model": "m", "corpus": f"corpus {number:03}", "split": "dev", "bleu": 1.0})
    shown = board.html()
    assert shown.html.count("<caption>") == 200
    assert "Of 203 corpora and splits the first 200 stand here" in shown.html
    assert len(board.table()) == 203
