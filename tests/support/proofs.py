"""All answers that prove a checker: RIGHT_ANSWERS {id: [answer]}, WRONG_ANSWERS {id: [(answer, words it must get)]}."""

import proofs_0
import proofs_1
import proofs_2
import proofs_3
import proofs_4
import proofs_5
import proofs_6

TABLES = (proofs_0, proofs_1, proofs_2, proofs_3, proofs_4, proofs_5, proofs_6)
RIGHT_ANSWERS = {id: answers for table in TABLES for id, answers in table.RIGHT.items()}
WRONG_ANSWERS = {id: answers for table in TABLES for id, answers in table.WRONG.items()}
