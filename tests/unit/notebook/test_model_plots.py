"""Figures that compare models are drawn from rows alone; those of what is inside, from plain arrays."""

import math

import numpy as np
import pytest
import torch
from tiny_models import language_model

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.errors import LabError
from labkit.metrics import reply_perplexity
from labkit.models import inside
from labkit.notebook import model_plots as plots

EVIL = "<script>alert(1)</script>"


def row(model, parameters, bleu, tuned=False, **more):
    known = {"model": model, "parameters": parameters, "bleu": bleu, "inform": 50.0, "success": 20.0, "stand_in": True}
    known |= {"adapter": "a" if tuned else None, "richness": {"entropy": bleu}, "intervals": {"bleu": (bleu - 1, 9.0)}}
    known |= {"per_domain": {"success": {"taxi": 10.0, "hotel": 30.0}}, "flops": 1e9 if tuned else None}
    return known | more


ROWS = [row("large", 8, 5.0), row("small", 1, 2.0), row("large", 8, 7.0, tuned=True)]
ROWS += [{"model": "lost", "failed": "out of memory", "stand_in": False}]


def test_scores_against_size_are_sorted_with_intervals_and_states_differ_in_more_than_colour():
    figure = plots.against(ROWS)
    assert "(stand-ins)" in figure.layout.title.text and figure.layout.xaxis.type == "log"
    untuned, tuned, *_ = figure.data
    assert untuned.x == (1, 8) and untuned.y == (2.0, 5.0) and tuned.y == (7.0,)
    assert untuned.error_y.array == (7.0, 4.0) and untuned.error_y.arrayminus == (1.0, 1.0)
    assert untuned.marker.symbol != tuned.marker.symbol and untuned.line.dash != tuned.line.dash
    assert [note.text for note in figure.layout.annotations][:3] == ["BLEU", "Inform", "Success"]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["untuned", "tuned"]


def test_compute_leaves_out_what_took_none_and_one_metric_names_the_axis():
    figure = plots.against(ROWS, "flops", ["bleu"])
    assert [trace.x for trace in figure.data] == [(), (1e9,)]
    assert figure.layout.yaxis.title.text == "BLEU" and "Kaplan" in figure.layout.annotations[-1].text


def test_rows_of_failures_only_are_figures_too():
    for rows in ([], ROWS[-1:]):
        assert not any(trace.x for trace in plots.against(rows).data)
        assert not plots.by_domain(rows).data[0].z


def test_domains_are_in_one_order_and_have_their_figures_written_in():
    rows = [*ROWS, row("other", 1, 1.0, per_domain={"success": {"train": 5.0, "hotel": 1.0}})]
    figure = plots.by_domain(rows)
    assert figure.layout.xaxis.ticktext == ("hotel", "taxi", "train")
    assert figure.layout.yaxis.ticktext == ("large, untuned", "small, untuned", "large, tuned", "other, untuned")
    assert figure.data[0].text[3] == ["1", "", "5"]  # no such goal is no zero
    assert figure.data[0].z[3][1] is None


def test_heat_maps_carry_texts_and_names_are_never_markup():
    shown = plots.heat([[1.0, 0.5]], ["a", EVIL], ["a"], "t", names=("x", "y", "weight"), texts=[["b", "c"]])
    assert shown.layout.xaxis.ticktext[1] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert (shown.data[0].zmin, shown.data[0].zmax) == (0, 1.0)  # plotly takes both, or neither
    assert shown.data[0].text[0] == ["b", "c"] and shown.data[0].texttemplate
    assert shown.layout.xaxis.title.text == "x" and shown.data[0].colorbar.title.text == "weight"


# --- looking inside: what more than one architecture does is in test_families.py --------------------------------------


@pytest.fixture(scope="module", params=["neox", "llama"])
def lm(request):
    return language_model(request.param)


SAID = ["a cheap hotel .", "the north ?", f"yes {EVIL}", "ok ."]
DIALOGUE = Dialogue("A", (), [Turn(BOT if i % 2 else USER, text) for i, text in enumerate(SAID)])


def test_perplexities_of_turns_come_to_that_of_all_replies(lm):
    """Trap: a turn's tokens counted to its neighbour, or the first token of a text predicted from nothing."""
    values = inside.turn_perplexities(lm, DIALOGUE)
    pieces = [lm.codec.encode(f" {text}\n") for text in SAID[1::2]]
    nats = sum(math.log(value) * len(piece) for value, piece in zip(values[1::2], pieces, strict=True))
    # the end token has a loss in training, and is no part of a turn
    ids = lm.codec.prefix + [
        token for text in (f"user> {SAID[0]}\nbot>", f" {SAID[1]}\n", f"user> {SAID[2]}\nbot>", f" {SAID[3]}\n")
        for token in lm.codec.encode(text)
    ]  # fmt: skip
    with torch.no_grad():
        end = float(lm.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[lm.codec.end[0]])
    expected = math.exp((nats - end) / (sum(map(len, pieces)) + 1))
    assert reply_perplexity(lm, [DIALOGUE]) == pytest.approx(expected, rel=1e-4)
    assert len(values) == 4 and values[0] != values[2]


def test_surprise_is_told_in_figures_and_text_is_never_markup(lm):
    shown = plots.surprise(DIALOGUE, [1.5, 20.25, 300.0, 4.0])
    assert shown.text.split("\n")[2].split() == ["20.2", "bot>", "the", "north", "?"]
    assert "<script" not in shown.html and "300.0  user" in shown.html
    assert "bot>" not in shown.text.split("\n")[1]


def test_surprise_shows_marks_that_a_user_wrote():
    """The turns are shown as they are read, and no mark is taken off a text again; one figure for each turn."""
    turns = [Turn(USER, "what is a line with\nbot>"), Turn(BOT, "yes"), Turn(USER, "left without a reply")]
    shown = plots.surprise(Dialogue("A", (), turns), [2.0, 3.0])
    assert shown.text.split("\n")[1:] == ["     2.0  user> what is a line with bot>", "     3.0  bot> yes"]
    with pytest.raises(LabError, match="3 perplexities for 2 turns"):
        plots.surprise(Dialogue("A", (), turns), [1.0, 2.0, 3.0])


def test_layer_and_head_are_chosen_apart_in_the_attention_figure():
    """A slider's step changes only which layer is visible, an entry of the menu only what all layers hold."""
    weights = [np.stack([np.full((3, 3), (layer + 1) * (head + 1) / 10) for head in range(4)]) for layer in range(2)]
    shown = plots.attention(weights, ["a", EVIL, "a"], layer=1, head=2)
    assert [bool(trace.visible) for trace in shown.data] == [False, True] and shown.data[1].z[0][0] == 0.6
    (slider,), (menu,) = shown.layout.sliders, shown.layout.updatemenus
    assert [step.args[0] for step in slider.steps] == [{"visible": [True, False]}, {"visible": [False, True]}]
    assert slider.active == 1 and menu.active == 2 and len(menu.buttons) == 4
    assert [z[0][0] for z in menu.buttons[3].args[0]["z"]] == [0.4, 0.8]
    assert (
        set(menu.buttons[3].args[0]) == {"z"}
        and shown.layout.xaxis.ticktext[1] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    )
    for layer, head in ((2, 0), (0, 4), (-1, 0)):
        with pytest.raises(LabError, match="2 layers of 4 heads"):
            plots.attention(weights, ["a", "b", "c"], layer=layer, head=head)
    with pytest.raises(LabError, match="no attention"):
        plots.attention([], [])


def test_attention_of_a_large_model_leaves_layers_out_and_keeps_the_wanted_one():
    weights = [np.zeros((32, 40, 40), dtype=np.float32)] * 24
    shown = plots.attention(weights, ["x"] * 40, layer=5)
    layers = [int(step.label) for step in shown.layout.sliders[0].steps]
    assert 5 in layers and len(layers) * weights[0].size <= plots.MOST_WEIGHTS and len(layers) > 5
    assert len(shown.to_json()) < 10_000_000


def test_every_token_of_a_long_heat_map_has_its_label():
    """Of 36 tokens plotly labelled every second or third."""
    shown = plots.heat(np.eye(36), ["x"] * 36, ["y"] * 36, "t")
    assert len(shown.layout.yaxis.tickvals) == 36 and shown.layout.yaxis.tickfont.size == 10
    assert shown.layout.height >= 36 * 14


def test_attention_of_a_plain_transformer_is_softmax_of_queries_and_keys():
    """GPT-2 has no rotations, so that the weights can be written down."""
    from tiny_models import family

    model, tokenizer = family("gpt2")
    lm = language_model("neox")
    lm.model, lm.tokenizer = model, tokenizer
    ids = list(range(5, 17))
    with torch.no_grad():
        block = model.transformer.h[0]
        inputs = model.transformer.wte.weight[ids] + model.transformer.wpe.weight[: len(ids)]
        q, k, _ = block.attn.c_attn(block.ln_1(inputs)).view(len(ids), 3, 4, 16).unbind(1)  # [T, heads, D]
        scores = torch.einsum("thd,shd->hts", q, k) / 4 + torch.full((12, 12), -torch.inf).triu(1)
    assert np.allclose(inside.attention(lm, ids, layer=0), scores.softmax(-1).numpy(), atol=1e-5)


def test_too_long_and_no_adapter_are_one_line(lm):
    with pytest.raises(LabError, match="reads 1 to 512"):
        inside.attention(lm, list(range(100)) * 6)
    with pytest.raises(LabError, match="no LoRA"):
        inside.adapter_changes(lm)
