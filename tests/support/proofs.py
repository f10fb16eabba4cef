"""All answers that prove a checker: RIGHT_ANSWERS {id: [answer]}, WRONG_ANSWERS {id: [(answer, words it must get)]}.

A student's answer is judged in a process of its own, which takes ten times as long as the check; `judge_here` has none.
"""

import proofs_0
import proofs_1
import proofs_2
import proofs_3
import proofs_4
import proofs_5
import proofs_6
import pytest

from labkit.notebook.exercises import Verdict, judge, judging

TABLES = (proofs_0, proofs_1, proofs_2, proofs_3, proofs_4, proofs_5, proofs_6)
RIGHT_ANSWERS = {id: answers for table in TABLES for id, answers in table.RIGHT.items()}
WRONG_ANSWERS = {id: answers for table in TABLES for id, answers in table.WRONG.items()}


def judge_here(id: str, answer: object) -> Verdict:
    """`judge`, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "isolated", lambda work, seconds: work(lambda call: None))
        return judge(id, answer)
