"""Does it work for a user? A simulated user, whole conversations with a bot, and their scores."""

from labkit.interaction.acts import ActClassifier, Heard
from labkit.interaction.agenda import Agenda
from labkit.interaction.blind import Answers, BlindTest, Verdicts, blind_test, read_answers, verdicts, write_answers
from labkit.interaction.bots import STATES, Bot, ModelBot, Talk
from labkit.interaction.converse import converse, model_bot
from labkit.interaction.judge import Judgement, judge
from labkit.interaction.noise import Noise
from labkit.interaction.paired import compare_conversations
from labkit.interaction.partner import Partner, partner_of
from labkit.interaction.play import Conversation, play
from labkit.interaction.policies import ConstantPolicy, EagerPolicy, EveryPlaceholderPolicy, RandomPolicy, RulePolicy
from labkit.interaction.progress import UserAct
from labkit.interaction.scores import Account, ConversationScores, Share
from labkit.interaction.tracker import Tracker
from labkit.interaction.tries import Lessons, Tried, try_replies
from labkit.interaction.user import SimulatedUser, UserConfig, users_for
from labkit.interaction.wishes import Wish, playable, wishes_of

__all__ = [
    "STATES",
    "Account",
    "ActClassifier",
    "Agenda",
    "Answers",
    "BlindTest",
    "Bot",
    "ConstantPolicy",
    "Conversation",
    "ConversationScores",
    "EagerPolicy",
    "EveryPlaceholderPolicy",
    "Heard",
    "Judgement",
    "Lessons",
    "ModelBot",
    "Noise",
    "Partner",
    "RandomPolicy",
    "RulePolicy",
    "Share",
    "SimulatedUser",
    "Talk",
    "Tracker",
    "Tried",
    "UserAct",
    "UserConfig",
    "Verdicts",
    "Wish",
    "blind_test",
    "compare_conversations",
    "converse",
    "judge",
    "model_bot",
    "partner_of",
    "play",
    "playable",
    "read_answers",
    "try_replies",
    "users_for",
    "verdicts",
    "wishes_of",
    "write_answers",
]
