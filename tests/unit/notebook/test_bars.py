"""Progress bars: no widget in a notebook, nothing left behind, and the loop's own results as without a bar."""

import sys

import pytest

from labkit import bars
from labkit.bars import NotebookBar, progress_bar


@pytest.fixture
def shown(monkeypatch):
    """What a notebook's bar displays, one after the other."""
    pictures = []

    class Handle:
        @staticmethod
        def update(data, raw):
            pictures.append(data)

    def display(data, raw, display_id):
        pictures.append(data)
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(bars, "_in_notebook", lambda: True)
    return pictures


def test_a_bar_in_a_notebook_is_no_widget_and_is_gone_at_the_end(shown):
    """Each bar of a notebook that was opened again was an error box: "model not found"."""
    assert [2 * n for n in progress_bar(range(3), desc="<b>doubling", mininterval=0)] == [0, 2, 4]
    pages = [data.get("text/html", "") for data in shown]
    assert not any("widget" in kind for data in shown for kind in data)
    assert any('max="3" value="2"' in page and "&lt;b&gt;doubling" in page for page in pages)
    assert pages[-1] == "" and not any("<b>" in page for page in pages)


def test_a_bar_counts_what_it_is_told(shown):
    with progress_bar(total=10, desc="writing", unit="reply", mininterval=0) as bar:
        bar.update(4)
        assert 'max="10" value="4"' in shown[-1]["text/html"] and "4/10" in shown[-1]["text/plain"]
        bar.set_postfix_str("8m")
        assert "8m" in shown[-1]["text/html"]


def test_an_error_in_the_loop_takes_the_bar_away(shown):
    with pytest.raises(ZeroDivisionError), progress_bar(total=1, desc="dividing") as bar:
        bar.update(1 // 0)
    assert shown[-1]["text/html"] == ""


def test_elsewhere_a_bar_is_a_line_of_text(capsys):
    assert list(progress_bar(range(3), desc="counting", mininterval=0)) == [0, 1, 2]
    told = capsys.readouterr()
    assert told.out == "" and "counting" in told.err


def test_a_bar_for_nobody_is_no_error(shown, monkeypatch):
    """Outside of IPython `display` gives no handle."""
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    assert list(NotebookBar(range(2))) == [0, 1]


def test_without_ipython_nothing_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert bars._in_notebook() is False
