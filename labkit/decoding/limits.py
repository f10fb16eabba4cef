"""What this machine allows: the largest batch that decodes."""

import random
from time import perf_counter

from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.errors import OutOfMemory
from labkit.machine.device import free_memory
from labkit.models import LanguageModel


def find_max_batch(
    lm: LanguageModel, *, prompt_tokens: int = 256, new_tokens: int = 32, limit: int = 1024
) -> tuple[int, dict[int, float]]:
    """The most rows, up to `limit`, that fit into memory together, and tokens per second of every try, {rows: speed}.

    Doubles until memory runs out (speed 0), then bisects. It is the worst case: random prompts that share no beginning,
    and replies that all run to their full length. On a GPU running out is safe; a CPU's operating system may end the
    kernel first, so choose a `limit` there.
    """
    fits = 0  # the most rows that were seen to fit
    fails = limit + 1  # the fewest that did not
    speeds: dict[int, float] = {}
    while fails - fits > 1:
        nothing_failed = fails > limit
        rows = min(max(1, 2 * fits), limit) if nothing_failed else (fits + fails) // 2
        speeds[rows] = _speed(lm, rows, prompt_tokens, new_tokens)
        if speeds[rows]:
            fits = rows
        else:
            fails = rows
    return fits, dict(sorted(speeds.items()))


def _speed(lm: LanguageModel, rows: int, prompt_tokens: int, new_tokens: int) -> float:
    """New tokens per second; 0 where memory runs out, and what was taken is given back."""
    vocabulary = range(len(lm.tokenizer))
    prompts = [random.Random(row).choices(vocabulary, k=prompt_tokens) for row in range(rows)]
    config = DecodingConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens, batch_size=rows)
    start = perf_counter()
    try:
        replies = generate(lm, prompts, config)
    except OutOfMemory:
        replies = []
    if not replies:  # only now: the error's traceback held the tensors
        free_memory()
        return 0.0
    seconds = perf_counter() - start
    return sum(map(len, replies)) / seconds
