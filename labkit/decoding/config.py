"""Settings of decoding, here and in transformers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import LabError

STRATEGIES = ("greedy", "sample", "beam", "contrastive")


FILTERS = {  # setting -> value that switches it off, in the order they are applied
    "repetition_penalty": 1.0,  # in every strategy; those below in sampling only
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
}


RANGES = {"top_p": "(0, 1]", "typical_p": "(0, 1]", "min_p": "[0, 1)", "penalty_alpha": "[0, 1]", "top_k": "[0, inf)"}


RANGES |= {"max_new_tokens": "[1, inf)", "batch_size": "[1, inf)", "repetition_penalty": "(0, inf)"}


RANGES |= {"min_new_tokens": "[0, inf)"}


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class DecodingConfig:
    """How replies are chosen from what the model predicts.

    Raises:
        LabError: settings that make no sense, alone or together.
    """

    strategy: str = _option("greedy", "greedy, sample, beam or contrastive (Su et al. 2022)")
    max_new_tokens: int = _option(64, "longest reply, in tokens")
    temperature: float = _option(1.0, "sample: logits are divided by it; below 1 sharper, above 1 flatter")
    top_k: int = _option(0, "sample: keep the k likeliest tokens (0: all); contrastive: candidates (0: 4)")
    top_p: float = _option(1.0, "sample: keep the fewest tokens whose probabilities reach p (Holtzman et al. 2020)")
    min_p: float = _option(0.0, "sample: keep tokens with at least this share of the likeliest one's probability")
    typical_p: float = _option(1.0, "sample: keep the tokens of most typical surprise, up to p (Meister et al. 2023)")
    repetition_penalty: float = _option(1.0, "above 1: tokens of prompt and reply get less likely (Keskar et al. 2019)")
    num_beams: int = _option(4, "beam: hypotheses kept")
    penalty_alpha: float = _option(0.6, "contrastive: weight of the penalty for similarity to the context")
    min_new_tokens: int = _option(0, "shortest reply, in tokens: before it, no token that ends a reply is allowed")
    seed: int = _option(42, "sample: same seed, same text, whatever the batch")
    batch_size: int = _option(64, "rows decoded together; changes the speed, not the text")

    def __post_init__(self) -> None:
        for wrong, found, action in self._checks():
            if wrong:
                raise LabError("these decoding settings make no sense", found, action)

    def _checks(self) -> Iterator[tuple[bool, str, str]]:
        yield self.strategy not in STRATEGIES, f"strategy={self.strategy!r}", f"choose one of {', '.join(STRATEGIES)}"
        cold = "dividing by temperature 0 is not defined; its limit is greedy"
        yield self.temperature <= 0, cold, "use strategy='greedy', or a temperature above 0"
        for name, interval in RANGES.items():
            value, (low, high) = getattr(self, name), map(float, interval[1:-1].split(","))
            open_end = (value == low and interval[0] == "(") or (value == high and interval[-1] == ")")
            yield open_end or not low <= value <= high, f"{name}={value}", f"choose a number in {interval}"
        short = f"min_new_tokens={self.min_new_tokens} is above max_new_tokens={self.max_new_tokens}"
        yield self.min_new_tokens > self.max_new_tokens, short, "raise max_new_tokens, or lower min_new_tokens"
        one = {"beam": self.num_beams < 2, "contrastive": self.top_k == 1}.get(self.strategy, False)
        yield one, f"{self.strategy} search with 1 candidate is greedy search", "use strategy='greedy', or 2 or more"
        kept = {"sample": set(FILTERS), "contrastive": {"top_k"}}.get(self.strategy, set()) | {"repetition_penalty"}
        vain = [name for name, off in FILTERS.items() if name not in kept and getattr(self, name) != off]
        yield bool(vain), f"{', '.join(vain)} would have no effect on {self.strategy}", "use strategy='sample'"


def transformers_options(config: DecodingConfig) -> dict[str, Any]:
    """What transformers' own `generate` has to be given for the same.

    Every filter is named, since some are on there by default: top_k is 50. Samples are drawn from another generator, so
    the distribution is the same and the text is not.

    Raises:
        LabError: contrastive search, which transformers 5 no longer has.
    """
    if config.strategy == "contrastive":
        raise LabError("transformers 5 has no contrastive search", "", "use labkit.generate")
    names = {"sample": list(FILTERS), "beam": ["repetition_penalty", "num_beams"]}
    used = ["max_new_tokens", *names.get(config.strategy, ["repetition_penalty"])]
    used += ["min_new_tokens"] if config.min_new_tokens else []
    return {"do_sample": config.strategy == "sample", **{name: getattr(config, name) for name in used}}


def transformers_call(config: DecodingConfig) -> str:
    """The same as Python to paste: `lm` is the loaded model, `ids` and `mask` a left-padded batch [B, T]."""
    try:
        given = ", ".join(f"{name}={value!r}" for name, value in transformers_options(config).items())
    except LabError as error:
        return f"# {error}"
    seed = f"torch.manual_seed({config.seed})\n" * (config.strategy == "sample")
    return f"{seed}lm.base.generate(ids, attention_mask=mask, eos_token_id=lm.codec.stop_ids, {given})"
