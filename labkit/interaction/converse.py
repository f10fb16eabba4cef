"""`labkit.converse`: a bot talks to simulated users to the end, and is scored for it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

from labkit.corpora.types import Corpus, Reply
from labkit.decoding.config import DecodingConfig
from labkit.decoding.grammar import StateGrammar
from labkit.errors import LabError
from labkit.interaction.acts import ActClassifier
from labkit.interaction.bots import Bot, ModelBot, Track
from labkit.interaction.play import Recorded, play
from labkit.interaction.scores import ConversationScores
from labkit.interaction.tracker import Tracker
from labkit.interaction.user import UserConfig, users_for
from labkit.interaction.wishes import playable
from labkit.models import LanguageModel
from labkit.storage import read_json

OPTIMISTIC = "the bot was given what the user means (states=user): it cannot misunderstand, and a real one can"


def converse(
    bot: LanguageModel | Bot,
    corpus: Corpus,
    *,
    split: str = "test",
    dialogues: int | None = 100,
    config: DecodingConfig | None = None,
    format: str = "",
    states: str = "",
    track: Track | None = None,
    grammar: StateGrammar | None = None,
    user: UserConfig | None = None,
    recorded: Recorded | None = None,
    on_turn: Callable[[Mapping[str, Sequence[Reply]]], None] | None = None,
) -> ConversationScores:
    """Whole conversations of a bot with simulated users, one for each goal, all a turn at a time together.

    The bot hears its own words, not those of a corpus. The same seeds give the same conversations, however many are
    played at once.

    Args:
        bot: a model, or anything with `labkit.interaction.Bot`'s `reply` and `states`.
        dialogues: play the goals of the first so many dialogues of the split that have one; None: all.
        config: how a model decodes; a `Bot` has its own settings.
        format: the prompt format that a model was tuned in; by default what stands beside its adapter, else turns.
        states: where a model's belief states come from. "own": it writes them; "tracked": `track`, by default a tagger
            learnt from the corpus; "user": it is given what the user means. By default "own" where the format has
            states, else "tracked".
        grammar: `labkit.state_grammar(corpus)`: then every state that the model writes is valid.
        user: what the users are like.
        recorded, on_turn: to go on with an interrupted run, see `labkit.interaction.play`.

    Raises:
        LabError: no goal to play, states that the format cannot have, no other split to learn the users' language
            from; or as `labkit.generate`.
    """
    user = user or UserConfig()
    if dialogues is not None and dialogues < 1:
        raise LabError(f"{dialogues} conversations", "", "choose dialogues from 1 on, or None for all")
    chosen = playable(corpus, split)[:dialogues]
    if isinstance(bot, LanguageModel):
        bot = model_bot(bot, corpus, split, config=config, format=format, states=states, track=track)
        bot.grammar = grammar if bot.states == "own" else None
    users = users_for(corpus, chosen, user, split)
    classifier = ActClassifier.of(corpus, split)
    started = perf_counter()
    conversations = play(bot, users, classifier, recorded=recorded, on_turn=on_turn)
    notes = (OPTIMISTIC,) if bot.states == "user" else ()
    return ConversationScores(
        conversations=conversations,
        corpus=corpus,
        states=bot.states,
        grammar=grammar_of(bot),
        seconds=perf_counter() - started,
        notes=notes,
    )


def grammar_of(bot: Bot) -> str:
    """What the states that a bot writes are held to: one of `labkit.decoding.grammar.GRAMMARS`."""
    grammar = getattr(bot, "grammar", None)
    return grammar.name if grammar else "none"


def model_bot(
    lm: LanguageModel,
    corpus: Corpus,
    split: str = "test",
    *,
    config: DecodingConfig | None = None,
    format: str = "",
    states: str = "",
    track: Track | None = None,
) -> ModelBot:
    """A model as a bot; arguments and defaults are `converse`'s."""
    format = format or tuned_format(lm)
    if not states:
        states = "tracked" if format == "turns" else "own"
    if states == "tracked" and track is None:
        track = Tracker.of(corpus, split)
    return ModelBot(lm, config, format=format, states=states, track=track, database=corpus.database)


def tuned_format(lm: LanguageModel) -> str:
    """The format that `labkit.finetune` has left beside an adapter or a fully tuned model; turns where none is."""
    for folder in (lm.adapter, lm.source):
        record = Path(folder or "") / "run.json"
        if folder and record.is_file():
            return str(read_json(record).get("format", "turns"))
    return "turns"
