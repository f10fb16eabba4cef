"""`labkit compare`: two systems on the same dialogues."""

import pytest

from labkit.cli import main
from labkit.corpora import load_corpus
from labkit.metrics import constant_predictions, gold_predictions, write_predictions


@pytest.mark.long
@pytest.mark.slow
def test_compare_says_difference_interval_and_p(tmp_path, capsys):
    test = load_corpus("miniwoz")["test"][:20]
    files = [tmp_path / "ok.json", tmp_path / "gold.json"]
    for file, predictions in zip(files, (constant_predictions(test), gold_predictions(test)), strict=True):
        write_predictions(file, predictions)
    assert main(["compare", *map(str, files), "--corpus", "miniwoz"]) in (0, None)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20 dialogues" in lines["paired"]
    assert "100.00" in lines["bleu"] and "p" in lines["bleu"]


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--corpus", "miniwoz"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
