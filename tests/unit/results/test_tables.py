"""Tables in Markdown."""

from labkit.tables import markdown_table


def test_a_bar_or_a_line_break_in_a_cell_breaks_the_table():
    table = markdown_table(["a|b", "n"], [["x\ny", "1"], ["`p|q`", ""]], numeric=True)
    assert table == "| a\\|b | n |\n| --- | ---: |\n| x y | 1 |\n| `p\\|q` |  |"
