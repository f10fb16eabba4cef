"""Where conversations die: a cause for each that failed, figures of shares and causes, a city of other names."""

from random import Random

import pytest

from labkit.corpora.renamed import with_other_names
from labkit.corpora.types import Turn
from labkit.interaction import (
    ActClassifier,
    Agenda,
    Conversation,
    RulePolicy,
    Share,
    UserConfig,
    play,
    playable,
    users_for,
    wishes_of,
)
from labkit.interaction.acts import understood
from labkit.interaction.causes import CAUSES, cause_of, causes
from labkit.interaction.venues import Venues
from labkit.notebook.look import MARKERS, PATTERNS
from labkit.notebook.talk_plots import cause_plot, share_plot

DINNER = {"informable": {"food": "thai", "area": "centre"}, "requestable": ["PHONE"], "booking": []}
TABLE = {"booking": {"people": "2", "day": "friday", "time": "18:00"}}
BOOKED = ("[restaurant_reference]", {"Book"})
OFFER = ("[restaurant_name]", {"Inform"})
NOTHING = ("well", set())


def ended(corpus, goal, replies, then, state=None):
    """A conversation: some replies, then one for ever; `state` is what the bot believed, None: what the user means."""
    venues = Venues.of(corpus)
    agenda = Agenda(wishes_of({"restaurant": goal}, venues), venues, Random(1))
    users, said, labels = [], [], []
    while act := agenda.speak():
        users.append(Turn("user", "…", agenda.state, act.acts()))
        text, acts = replies[len(said)] if len(said) < len(replies) else then
        believed = agenda.state if state is None else state
        said.append({"response": text, "state": believed})
        labels.append(frozenset(acts))
        agenda.listen(understood(text, frozenset(acts)), believed)
    return Conversation("x", users, said, labels, [[]] * len(said), agenda)


ALL_SAID = [("", {"Request food", "Request area"})]
DEATHS = {
    "language": (DINNER, [], NOTHING, None),
    "state": (DINNER, ALL_SAID, ("", {"Inform"}), {"restaurant": {"food": "thai"}}),
    "repeated question": (DINNER, [], ("", {"Request food"}), None),
    "offer": (DINNER, ALL_SAID, ("", {"Inform"}), None),
    "booking": (DINNER | TABLE, [*ALL_SAID, OFFER], ("", {"Inform"}), None),
    "request": (DINNER, [*ALL_SAID, OFFER], ("", {"Inform"}), None),
}


@pytest.mark.parametrize("cause", DEATHS)
def test_a_conversation_dies_of_what_the_user_waited_for(cause, miniwoz):
    one = ended(miniwoz, *DEATHS[cause])
    assert one.agenda.abandoned and cause_of(one) == cause


def test_every_cause_is_tried_here_and_a_success_has_none(miniwoz):
    assert list(DEATHS) == list(CAUSES)
    good = ended(miniwoz, DINNER, [*ALL_SAID, OFFER], ("[restaurant_phone]", {"Inform"}))
    assert good.success and cause_of(good) == ""
    dead = ended(miniwoz, *DEATHS["offer"])
    assert causes([good, dead, dead]) == dict.fromkeys(CAUSES, 0) | {"offer": 2}


def test_any_value_will_do_is_no_other_belief(miniwoz):
    """Trap: the user's state has `dontcare` where a tracker leaves the slot out."""
    goal = {**DINNER, "informable": {"food": "thai"}}
    one = ended(miniwoz, goal, [("", {"Request area"})], ("", {"Inform"}), {"restaurant": {"food": "thai"}})
    assert one.users[-1].state["restaurant"]["area"] == "dontcare" and cause_of(one) == "offer"


# --- figures ----------------------------------------------------------------------------------------------------------


def test_shares_differ_in_symbol_and_have_their_intervals():
    systems = {"<b>a</b>": {"x": Share(3, 20), "y": Share(20, 20)}, "b": {"x": Share(0, 20), "y": None}}
    figure = share_plot(systems, "shares")
    first, second = figure.data
    assert first.marker.symbol == MARKERS[0] != second.marker.symbol and len(first.x) == 2 and len(second.x) == 1
    low, high = Share(3, 20).interval
    assert first.y[0] + first.error_y.array[0] == pytest.approx(high)
    assert first.y[0] - first.error_y.arrayminus[0] == pytest.approx(low)
    assert figure.layout.xaxis.ticktext == ("&lt;b&gt;a&lt;/b&gt;", "b") and first.text == ("3 of 20", "0 of 20")


def test_an_own_interval_is_drawn():
    figure = share_plot({"a": {"x": Share(1, 2)}}, "shares", interval=lambda passed, n: (0.25, 1.0))
    assert figure.data[0].error_y.array[0] == 50 and figure.data[0].error_y.arrayminus[0] == 25


def test_causes_differ_in_pattern_and_unused_ones_are_left_out():
    figure = cause_plot({"a": {"state": 1, "offer": 0, "request": 2}, "b": {"request": 1}}, "died")
    assert [trace.name for trace in figure.data] == ["state", "request"]
    assert [trace.marker.pattern.shape for trace in figure.data] == list(PATTERNS[:2])
    assert list(figure.data[0].y) == [1, 0]


# --- other names ------------------------------------------------------------------------------------------------------


def test_in_the_other_city_all_is_the_same_but_the_names(miniwoz):
    other = with_other_names(miniwoz)
    for domain in ("restaurant", "hotel", "attraction"):
        for old, new in zip(miniwoz.database[domain], other.database[domain], strict=True):
            assert old["name"] != new["name"] and {**old, "name": ""} == {**new, "name": ""}
    assert other.database["train"] == miniwoz.database["train"] and other.stand_in
    assert with_other_names(miniwoz).database == other.database
    assert with_other_names(miniwoz, seed=1).database != other.database


def test_a_goal_keeps_its_venue_under_its_new_name(miniwoz):
    """Trap: a goal whose venue the database no longer has cannot be reached by anybody."""
    other = with_other_names(miniwoz)
    named = [key for key, goal in miniwoz.goals.items() if "name" in goal.get("restaurant", {}).get("informable", {})]
    for key in named:
        wanted = other.goals[key]["restaurant"]["informable"]["name"]
        assert wanted in {row["name"] for row in other.database["restaurant"]}
    users = users_for(other, playable(other, "dev")[:20], UserConfig(), "dev")
    played = play(RulePolicy(other), users, ActClassifier.of(miniwoz, "dev"))
    assert named and all(one.success for one in played)


def test_the_dialogues_keep_the_old_names(miniwoz):
    other = with_other_names(miniwoz)
    assert other["dev"] is miniwoz["dev"] and other.name != miniwoz.name
