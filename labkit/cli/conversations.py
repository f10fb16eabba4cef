"""`labkit converse`: conversations that can be interrupted, gone on with, and read back as a corpus."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import labkit
from labkit.corpora.types import Corpus, Reply
from labkit.errors import LabError
from labkit.results.row import Settings, model_name
from labkit.storage import Json, read_json, write_json
from labkit.writable import is_stream

if TYPE_CHECKING:
    from labkit.decoding.grammar import StateGrammar
    from labkit.interaction.scores import ConversationScores

Given = Mapping[str, object]


def converse(how_loaded: Given, chosen: Given, user: Given, settings: Settings, out: Path) -> "ConversationScores":
    """Run the command; what is returned is printed. Arguments are groups of its flags."""
    from labkit.interaction import Noise, UserConfig, model_bot
    from labkit.results.board import Board
    from labkit.results.conversations import conversation_row

    config = labkit.DecodingConfig(**settings)
    noise = Noise(typos=float(user["typos"]), recognition=float(user["misheard"]))
    asked = UserConfig(seed=config.seed, patience=int(user["patience"]), noise=noise)
    board = Board()
    board.check_writable()
    corpus = labkit.load_corpus(str(chosen["corpus"]))
    adapter = how_loaded["adapter"]
    lm = labkit.load_model(str(how_loaded["model"]), bits=how_loaded["bits"], adapter=adapter)
    split = str(chosen["split"])
    format = str(chosen["format"] or "")
    states = str(chosen["states"] or "")
    bot = model_bot(lm, corpus, split, config=config, format=format, states=states)
    bot.grammar = _grammar(str(chosen["grammar"]), bot.states, corpus)
    record = {**how_loaded, **chosen, **user, "settings": dict(settings), "states": bot.states, "format": bot.format}
    kept = _Kept(out, record)
    scores = labkit.converse(
        bot,
        corpus,
        split=split,
        dialogues=int(chosen["dialogues"]),
        user=asked,
        recorded=kept.replies,
        on_turn=kept.keep,
    )
    row = conversation_row(lm, kept.timed(scores), split, decoding=config, user=asked)
    board.add(row)
    kept.finish(scores, row)
    return scores


def _grammar(name: str, states: str, corpus: Corpus) -> "StateGrammar | None":
    """The grammar that a bot's own states are held to.

    Raises:
        LabError: the bot writes none, or the corpus has no schema.
    """
    from labkit.decoding.grammar import grammar_called

    if name != "none" and states != "own":
        action = "choose --states own, or leave out --grammar"
        raise LabError("a grammar is for states that the model writes", f"states {states}", action)
    return grammar_called(name, corpus)


class _Kept:
    """What an unfinished run has written: replies are enough, since users say the same again."""

    def __init__(self, out: Path, record: Json):
        self.out = out
        self.path = out.with_name(f"{out.name}.partial")
        self.record = json.loads(json.dumps(record, default=str))
        self.replies, self.seconds_before = self._unfinished()
        self.started = perf_counter()

    def _unfinished(self) -> tuple[dict[str, list[Reply]], float]:
        """The replies of an interrupted run of the same command, and the seconds that it took.

        Raises:
            LabError: the file is not labkit's.
        """
        from labkit.metrics.predictions import checked

        if not self.path.is_file():
            return {}, 0.0
        earlier = read_json(self.path)
        if not isinstance(earlier, dict) or not {"run", "replies"} <= earlier.keys():
            raise LabError(f"{self.path} holds no unfinished conversations", "", "delete it, or choose another --json")
        if earlier["run"] != self.record:
            return {}, 0.0
        seconds = earlier.get("seconds", 0.0)
        return checked(earlier["replies"]), seconds if isinstance(seconds, float) else 0.0

    @property
    def seconds(self) -> float:
        return self.seconds_before + perf_counter() - self.started

    def keep(self, replies: Mapping[str, Sequence[Reply]]) -> None:
        """Called after every turn of all conversations."""
        if not is_stream(self.out):
            content = {"run": self.record, "seconds": self.seconds, "replies": replies}
            write_json(self.path, content, indent=None)

    def timed(self, scores: "ConversationScores") -> "ConversationScores":
        """The scores with the seconds of all runs together."""
        return replace(scores, seconds=self.seconds)

    def finish(self, scores: "ConversationScores", row: Json) -> None:
        """Write the conversations as a corpus, with their scores and the row."""
        from labkit.interaction.records import as_raw

        raw = as_raw(scores.conversations, scores.corpus)
        model = model_name(str(row["model"]))
        content = {"run": {"model": model, "task": row["task"]}, "scores": row["conversation"], **raw}
        write_json(self.out, content, indent=None)
        if not is_stream(self.out):
            self.path.unlink(missing_ok=True)
