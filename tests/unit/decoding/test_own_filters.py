"""`generate(…, filters=[…])`: a student's filter does what labkit's own do, in every strategy and family."""

import numpy as np
import pytest
import tiny_models

from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate, stream
from labkit.errors import LabError
from labkit.models.families import route_of

NEW = 6
STRATEGIES = {
    "greedy": DecodingConfig(max_new_tokens=NEW),
    "sample": DecodingConfig("sample", max_new_tokens=NEW, temperature=1.5),
    "beam": DecodingConfig("beam", max_new_tokens=NEW, num_beams=3),
    "contrastive": DecodingConfig("contrastive", max_new_tokens=NEW),
}
PROMPTS = [[5, 6, 7, 8], [9, 8, 7, 6], [5, 6, 7, 9]]  # of one length, and two share a beginning


@pytest.fixture(scope="module", params=["GPT-NeoX", "BLOOM"])
def lm(request):
    """One family is written by the tree, the other by transformers' own `generate`."""
    model = tiny_models.case(request.param)
    model.codec.stop_ids = [0]
    assert route_of(model.base).by_tree == (request.param == "GPT-NeoX")
    return model


def only(*tokens):
    def keep(scores, written):
        kept = np.full_like(scores, -np.inf)
        kept[list(tokens)] = scores[list(tokens)]
        return kept

    return keep


def in_turn(scores, written):
    """Each prompt writes tokens of its own: 10 · (index + 1), one more at every step, and then ends."""
    at = len(written.reply)
    wanted = 0 if at == 3 else 10 * (written.index + 1) + at
    assert list(written.reply) == [10 * (written.index + 1) + step for step in range(at)]
    assert list(written.prompt) == PROMPTS[written.index]
    return only(wanted)(scores, written)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_prompt_of_a_batch_is_filtered_for_itself(lm, name):
    if name == "contrastive" and not route_of(lm.base).by_tree:
        pytest.skip("transformers has no contrastive search")
    config = STRATEGIES[name]
    expected = [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert generate(lm, PROMPTS, config, filters=[in_turn]) == expected
    some = generate(lm, PROMPTS, config, filters=[only(11, 12, 13)])
    assert set().union(*some) <= {11, 12, 13} and all(len(reply) == NEW for reply in some)
    assert generate(lm, PROMPTS[1:2], config, filters=[only(11, 12, 13)]) == some[1:2]


def test_top_k_of_ones_own_writes_what_top_k_writes(lm):
    """The student's function does the work after its tick; it may write into what it gets."""

    def top_5(scores, written):
        scores[np.argsort(-scores, kind="stable")[5:]] = -np.inf
        return scores.astype(float)

    ours = generate(lm, PROMPTS, DecodingConfig("sample", max_new_tokens=NEW, top_k=5))
    plain = DecodingConfig("sample", max_new_tokens=NEW)
    assert generate(lm, PROMPTS, plain, filters=[top_5]) == ours != generate(lm, PROMPTS, plain)
    streamed = list(stream(lm, PROMPTS[0], plain, filters=[top_5]))
    assert [token for token in streamed if token != 0] == generate(lm, PROMPTS[:1], plain, filters=[top_5])[0]


def test_filters_come_before_those_of_the_configuration(lm):
    """top_k=1 first would leave one token, and the student's filter none."""
    config = DecodingConfig("sample", max_new_tokens=2, top_k=1)
    assert set().union(*generate(lm, PROMPTS, config, filters=[only(11, 12)])) <= {11, 12}


def broken(scores, written):
    return scores[10**6]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ([broken], "the filter broken failed: IndexError"),
        ([lambda scores: scores], "failed: TypeError"),
        ([lambda scores, written: scores > 0], "truth values"),
        ([lambda scores, written: None], "no scores"),
        ([lambda scores, written: scores[:3]], r"shape \(3,\) instead of"),
        ([lambda scores, written: scores * np.nan], "no number"),
        ([only()], "leaves no token: after 0 tokens of the reply to prompt 0"),
        (broken, "list of functions: one function"),
        ([3], "list of functions: 3"),
    ],
)
@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_a_filter_that_goes_wrong_is_one_line_with_its_name(lm, filters, said, strategy):
    """transformers' own `generate` told of a model that it cannot write with."""
    with pytest.raises(LabError, match=said):
        generate(lm, PROMPTS[:1], STRATEGIES[strategy], filters=filters)


def test_a_reply_that_may_not_end_and_may_not_go_on_is_one_line(lm):
    with pytest.raises(LabError, match="min_new_tokens=2"):
        generate(lm, PROMPTS, DecodingConfig(max_new_tokens=4, min_new_tokens=2), filters=[only(0)])
