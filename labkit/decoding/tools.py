"""The database as a tool: a model asks for a look-up in JSON, and hears what the database has (Schick et al. 2023).

How a notebook calls it (`lm` is any model; one with a chat template is asked through it):

    grammar = labkit.tool_grammar(corpus)                   # or only_said=True, as labkit.state_grammar
    used = labkit.use_tool(lm, dialogue, grammar, corpus.database)      # answers the dialogue's last user turn
    print(used.call, used.found)                            # {"name": "find_hotel", …} 3
    print(used.reply)

Every call is valid JSON with slots and values that exist, because no other token is allowed. A template that takes
tools gets the functions' schemas as it was taught; any other model is told them in the system's message.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from labkit.corpora.search import DOMAINS, Database, VenueDatabase
from labkit.corpora.types import Corpus, Dialogue
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.decoding.rows import OwnFilter
from labkit.decoding.vocabulary import Vocabularies, Vocabulary, language_filter
from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.prompts.call_language import FIND, Call, CallLanguage, tools_of
from labkit.prompts.chat import Messages, Tool, chat_prompt, takes_tools
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import spoken
from labkit.prompts.state_values import Heard, Slots, said_slots, slots_of

CALL_TOKENS = 192  # room for a call; rows leave at its newline
INSTRUCTION = "You help visitors of a city. Look up what they want with one of these functions, then answer."
SYNTAX = '{}[]":, _\n'


class ToolGrammar:
    """The look-ups of a corpus as function calls, one function for each domain with a database."""

    def __init__(self, slots: Slots, *, only_said: bool = False):
        self.slots: Slots = {}
        for domain, names in slots.items():
            if domain in DOMAINS:
                self.slots[domain] = {slot: values for slot, values in names.items() if not slot.startswith("book")}
        self.only_said = only_said
        self._vocabularies = Vocabularies()

    @property
    def tools(self) -> list[Tool]:
        """The functions' schemas, as chat templates take them."""
        return tools_of(self.slots)

    def language(self, heard: Heard, codec: TextCodec | None = None, *, lead: str = "") -> CallLanguage:
        """The calls of a dialogue in which something was heard, as far as a tokenizer has their letters."""
        slots = self.slots
        if self.only_said:
            slots = {domain: {} for domain in self.slots} | said_slots(self.slots, heard, changes=False)
        letters = self._vocabulary(codec).letters if codec else None
        return CallLanguage(slots, heard, lead=lead, letters=letters)

    def filter(self, codec: TextCodec, languages: Sequence[CallLanguage]) -> OwnFilter:
        """A filter of `generate` for prompts after which a call is written; a language for each of them.

        Raises:
            LabError: the tokenizer lacks a letter that every call needs.
        """
        return language_filter(self._vocabulary(codec), languages, "call_grammar")

    def text(self, codec: TextCodec, ids: Sequence[int]) -> str:
        """What some tokens say, as the grammar reads them."""
        return self._vocabulary(codec).text(ids)

    def _vocabulary(self, codec: TextCodec) -> Vocabulary:
        vocabulary = self._vocabularies.of(codec)
        vocabulary.check_letters(SYNTAX, "use another model")
        return vocabulary


def tool_grammar(corpus: Corpus, *, only_said: bool = False) -> ToolGrammar:
    """The look-ups of a corpus: domains and slots of its schema, values of schema, database and dialogue.

    `only_said` as in `labkit.state_grammar`.

    Raises:
        LabError: the corpus has no schema, or none of its domains is looked up.
    """
    grammar = ToolGrammar(slots_of(corpus), only_said=only_said)
    if not grammar.slots:
        raise LabError(f"{corpus.name} has nothing to look up", "", "take a corpus with a database")
    return grammar


@dataclass(frozen=True)
class ToolUse:
    """A look-up and the reply to it."""

    call: Call
    found: int  # entities that the database has for it
    reply: str
    written: str  # the call as the model wrote it

    @property
    def result(self) -> str:
        """What the model hears from the database."""
        return json.dumps({"found": self.found})


def use_tool(
    lm: LanguageModel,
    dialogue: Dialogue,
    grammar: ToolGrammar,
    database: Database | VenueDatabase,
    config: DecodingConfig | None = None,
) -> ToolUse:
    """Answer the last user turn of a dialogue: a call under the grammar, the look-up, and the reply after it.

    The bot turn after the user's, if there is one, is not read.

    Raises:
        LabError: nothing was said, a tokenizer that cannot write a call, no room for the prompt; or as `generate`.
    """
    config = config or DecodingConfig()
    venues = database if isinstance(database, VenueDatabase) else VenueDatabase(database)
    turn = (len(dialogue.turns) - 1) // 2
    if turn < 0:
        raise LabError(f"nobody has said anything in {dialogue.dialogue_id}", "", "give a user turn")
    asking = _asking(lm, dialogue, turn, grammar)
    language = grammar.language(Heard.of(dialogue, turn), lm.codec, lead=asking.lead)
    room = max(1, lm.context_length - CALL_TOKENS)
    longer = replace(config, max_new_tokens=CALL_TOKENS)
    (ids,) = generate(lm, [asking.prompt(room)], longer, filters=[grammar.filter(lm.codec, [language])])
    written = language.whole(grammar.text(lm.codec, ids))
    call = Call.read(written)
    found = len(venues.query(call.domain, call.arguments))
    answering = asking.after(call, json.dumps({"found": found}))
    room = max(1, lm.context_length - config.max_new_tokens)
    (reply,) = generate(lm, [answering.prompt(room)], config)
    return ToolUse(call, found, lm.codec.decode(reply), written)


@dataclass(frozen=True)
class _Asking:
    """A conversation on its way to a call or a reply."""

    lm: LanguageModel
    head: Messages
    said: Messages
    tools: tuple[Tool, ...]

    @property
    def is_chat(self) -> bool:
        return bool(getattr(self.lm.tokenizer, "chat_template", None))

    @property
    def lead(self) -> str:
        """What stands before a call."""
        return "" if self.is_chat else " "

    def prompt(self, room: int) -> list[int]:
        """Token ids, in the chat template where there is one, else in lines; the oldest turns go where it is long."""
        if self.is_chat:
            return chat_prompt(self.head, self.said, self.lm.codec, room, self.tools)
        ids: list[int] = []
        for first in range(0, len(self.said), 2):
            ids = self._lines(self.said[first:])
            if len(ids) <= room:
                break
        return ids

    def _lines(self, said: Messages) -> list[int]:
        codec = self.lm.codec
        ids = list(codec.prefix)
        for message in [*self.head, *said]:
            line = f"{message['role']}> {message['content']}\n"
            ids += codec.encode(line)
        mark = "call>" if said[-1]["role"] == "user" else "assistant>"
        return ids + codec.encode(mark)

    def after(self, call: Call, result: str) -> "_Asking":
        """The same conversation with the call and what the database said."""
        asked = {"role": "assistant", "content": str(call)}
        heard = {"role": "tool" if self.tools else "user", "content": result}
        if not self.is_chat:
            heard["role"] = "db"
        return replace(self, said=[*self.said, asked, heard])


def _asking(lm: LanguageModel, dialogue: Dialogue, turn: int, grammar: ToolGrammar) -> _Asking:
    said: Messages = []
    for number, words in enumerate(spoken(dialogue, True)[: 2 * turn]):
        role = "assistant" if number % 2 else "user"
        said.append({"role": role, "content": words})
    said.append({"role": "user", "content": dialogue.turns[2 * turn].utterance})
    tools = tuple(grammar.tools) if takes_tools(lm.codec) else ()
    instruction = INSTRUCTION
    if not tools:
        instruction = f"{INSTRUCTION} {signatures(grammar.slots)}"
    return _Asking(lm, [{"role": "system", "content": instruction}], said, tools)


def signatures(slots: Slots) -> str:
    """The functions as a line of text, for models that were never taught a schema.

    >>> signatures({"hotel": {"area": None, "stars": None}})
    'find_hotel(area, stars)'
    """
    listed = []
    for domain, names in sorted(slots.items()):
        arguments = ", ".join(sorted(names))
        listed.append(f"{FIND}{domain}({arguments})")
    return "; ".join(listed)
