"""What this machine allows: the largest batch that decodes."""

import gc
import random
from time import perf_counter

from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.errors import OutOfMemory
from labkit.models import LanguageModel


def find_max_batch(
    lm: LanguageModel, *, prompt_tokens: int = 256, new_tokens: int = 32, limit: int = 1024
) -> tuple[int, dict[int, float]]:
    """The most rows, up to `limit`, that fit into memory together, and tokens per second of every try, {rows: speed}.

    Doubles until memory runs out (speed 0), then bisects. It is the worst case: random prompts that share no beginning,
    and replies that all run to their full length. On a GPU running out is safe; a CPU's operating system may end the
    kernel first, so choose a `limit` there.
    """
    fits, fails, speeds = 0, limit + 1, {}
    while fails - fits > 1:
        rows = min(2 * fits or 1, limit) if fails > limit else (fits + fails) // 2
        speeds[rows] = _speed(lm, rows, prompt_tokens, new_tokens)
        fits, fails = (rows, fails) if speeds[rows] else (fits, rows)
    return fits, dict(sorted(speeds.items()))


def _speed(lm: LanguageModel, rows: int, prompt_tokens: int, new_tokens: int) -> float:
    """New tokens per second; 0 where memory runs out, and what was taken is given back."""
    import torch

    prompts = [random.Random(row).choices(range(len(lm.tokenizer)), k=prompt_tokens) for row in range(rows)]
    config = DecodingConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens, batch_size=rows)
    start = perf_counter()
    try:
        return sum(map(len, generate(lm, prompts, config))) / (perf_counter() - start)
    except OutOfMemory:
        pass
    gc.collect()  # only now: the error's traceback held the tensors
    torch.cuda.empty_cache()
    return 0.0
