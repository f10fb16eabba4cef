"""Decoding: batched generation that gives each prompt what it would get alone, and a look at the next token.

Prompts that share a beginning (all turns of a dialogue do, when the history is gold) are read once: the longest one,
the trunk, fills a key-value cache, and the rows that branch off it write together, each leaving at its stop token.
"""

from labkit.corpora.types import Predictions
from labkit.decoding.config import FILTERS, STRATEGIES, DecodingConfig, transformers_call, transformers_options
from labkit.decoding.conversations import write_conversations
from labkit.decoding.filters import Stage, entropy, filter_stages, remaining
from labkit.decoding.generate import Step, check_room, generate, next_token_logits, reply_steps, stream
from labkit.decoding.grammar import StateGrammar, state_grammar
from labkit.decoding.limits import find_max_batch
from labkit.decoding.predict import answer, predict
from labkit.decoding.rows import OwnFilter, Written
from labkit.decoding.tools import ToolGrammar, ToolUse, tool_grammar, use_tool

__all__ = [
    "FILTERS",
    "STRATEGIES",
    "DecodingConfig",
    "OwnFilter",
    "Predictions",
    "Stage",
    "StateGrammar",
    "Step",
    "ToolGrammar",
    "ToolUse",
    "Written",
    "answer",
    "check_room",
    "entropy",
    "filter_stages",
    "find_max_batch",
    "generate",
    "next_token_logits",
    "predict",
    "remaining",
    "reply_steps",
    "state_grammar",
    "stream",
    "tool_grammar",
    "transformers_call",
    "transformers_options",
    "use_tool",
    "write_conversations",
]
