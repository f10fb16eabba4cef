"""Settings of decoding, here and in transformers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, NamedTuple

from labkit.errors import LabError
from labkit.options import option

STRATEGIES = ("greedy", "sample", "beam", "contrastive")

FILTERS = {  # setting -> value that switches it off, in the order they are applied
    "repetition_penalty": 1.0,  # in every strategy; those below in sampling only
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
}

CANDIDATES = 4  # of contrastive search, where top_k does not say


class Interval(NamedTuple):
    """Numbers from `low` to `high`; an open end does not belong to it."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: object) -> bool:
        if self.low_open and value == self.low:
            return False
        if self.high_open and value == self.high:
            return False
        return self.low <= value <= self.high  # False for NaN

    def __str__(self) -> str:
        left = "(" if self.low_open else "["
        right = ")" if self.high_open else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


UPWARDS = math.inf
RANGES = {
    "top_p": Interval(0, 1, low_open=True),
    "typical_p": Interval(0, 1, low_open=True),
    "min_p": Interval(0, 1, high_open=True),
    "penalty_alpha": Interval(0, 1),
    "top_k": Interval(0, UPWARDS, high_open=True),
    "max_new_tokens": Interval(1, UPWARDS, high_open=True),
    "batch_size": Interval(1, UPWARDS, high_open=True),
    "temperature": Interval(0, UPWARDS, low_open=True, high_open=True),
    "repetition_penalty": Interval(0.01, 100),
    "num_beams": Interval(1, 256),
    "min_new_tokens": Interval(0, UPWARDS, high_open=True),
    "seed": Interval(0, UPWARDS, high_open=True),
}

Problem = tuple[str, str]  # what was found, what to do


@dataclass(frozen=True)
class DecodingConfig:
    """How replies are chosen from what the model predicts.

    Raises:
        LabError: settings that make no sense, alone or together.
    """

    strategy: str = option("greedy", "greedy, sample, beam or contrastive (Su et al. 2022)")
    max_new_tokens: int = option(64, "longest reply, in tokens")
    temperature: float = option(1.0, "sample: logits are divided by it; below 1 sharper, above 1 flatter")
    top_k: int = option(0, "sample: keep the k likeliest tokens (0: all); contrastive: candidates (0: 4)")
    top_p: float = option(1.0, "sample: keep the fewest tokens whose probabilities reach p (Holtzman et al. 2020)")
    min_p: float = option(0.0, "sample: keep tokens with at least this share of the likeliest one's probability")
    typical_p: float = option(1.0, "sample: keep the tokens of most typical surprise, up to p (Meister et al. 2023)")
    repetition_penalty: float = option(1.0, "above 1: tokens of prompt and reply get less likely (Keskar et al. 2019)")
    num_beams: int = option(4, "beam: hypotheses kept")
    penalty_alpha: float = option(0.6, "contrastive: weight of the penalty for similarity to the context")
    min_new_tokens: int = option(0, "shortest reply, in tokens: before it, no token that ends a reply is allowed")
    seed: int = option(42, "sample: same seed, same text, whatever the batch")
    batch_size: int = option(64, "prompts decoded together (twice as many alike ones); changes the speed, not the text")

    def __post_init__(self) -> None:
        for found, action in self._problems():
            raise LabError("these decoding settings make no sense", found, action)

    def _problems(self) -> Iterator[Problem]:
        """One at a time: a later check relies on those before it."""
        if self.strategy not in STRATEGIES:
            choices = ", ".join(STRATEGIES)
            yield f"strategy={self.strategy!r}", f"choose one of {choices}"
        yield from self._wrong_types()
        if self.temperature <= 0:
            cold = "dividing by temperature 0 is not defined; its limit is greedy"
            yield cold, "use strategy='greedy', or a temperature above 0"
        for name, interval in RANGES.items():
            value = getattr(self, name)
            if value not in interval:
                yield f"{name}={value}", f"choose a number in {interval}"
        yield from self._contradictions()

    def _wrong_types(self) -> Iterator[Problem]:
        """Whole numbers where something is counted, numbers elsewhere; a whole number passes for a float."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            found = f"{setting.name}={value!r}"
            counts = isinstance(setting.default, int)
            measures = isinstance(setting.default, float)
            if counts and not isinstance(value, Integral):
                yield found, "choose a whole number"
            if measures and not isinstance(value, Real):
                yield found, "choose a number"

    def _contradictions(self) -> Iterator[Problem]:
        """Settings that contradict each other, or that would change nothing."""
        if self.min_new_tokens > self.max_new_tokens:
            short = f"min_new_tokens={self.min_new_tokens} is above max_new_tokens={self.max_new_tokens}"
            yield short, "raise max_new_tokens, or lower min_new_tokens"
        one_beam = self.strategy == "beam" and self.num_beams < 2
        one_candidate = self.strategy == "contrastive" and self.top_k == 1
        if one_beam or one_candidate:
            found = f"{self.strategy} search with 1 candidate is greedy search"
            yield found, "use strategy='greedy', or 2 or more"
        vain = ", ".join(self._without_effect())
        if vain:
            yield f"{vain} would have no effect on {self.strategy}", "use strategy='sample'"

    def _without_effect(self) -> Iterator[str]:
        """Filters that are on, though the strategy does not use them."""
        used = {"repetition_penalty"}
        if self.strategy == "sample":
            used = set(FILTERS)
        elif self.strategy == "contrastive":
            used = {"repetition_penalty", "top_k"}
        for name, off in FILTERS.items():
            is_on = getattr(self, name) != off
            if is_on and name not in used:
                yield name


def transformers_options(config: DecodingConfig) -> dict[str, Any]:  # Any: arguments of `generate`, of many types
    """What transformers' own `generate` has to be given for the same.

    Every filter is named, since some are on there by default: top_k is 50. Samples are drawn from another generator, so
    the distribution is the same and the text is not.

    Raises:
        LabError: contrastive search, which transformers 5 no longer has.
    """
    if config.strategy == "contrastive":
        raise LabError("transformers 5 has no contrastive search", "", "use labkit.generate")
    used = ["max_new_tokens", "repetition_penalty"]
    if config.strategy == "sample":
        used = ["max_new_tokens", *FILTERS]
    elif config.strategy == "beam":
        used.append("num_beams")
    if config.min_new_tokens:
        used.append("min_new_tokens")
    options = {name: getattr(config, name) for name in used}
    return {"do_sample": config.strategy == "sample", **options}


def transformers_call(config: DecodingConfig) -> str:
    """The same as Python to paste: `lm` is the loaded model, `ids` and `mask` a left-padded batch [B, T]."""
    try:
        options = transformers_options(config)
    except LabError as error:
        return f"# {error}"
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    call = f"lm.base.generate(ids, attention_mask=mask, eos_token_id=lm.codec.stop_ids, {given})"
    if config.strategy == "sample":
        return f"torch.manual_seed({config.seed})\n{call}"
    return call
