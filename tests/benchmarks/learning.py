"""Learning from own conversations on MiniWOZ with mini-pythia (both stand-ins): expert iteration and DPO, each beside
as many steps on corpus dialogues. Every step is kept in FOLDER and not made again: a run that was killed goes on.

    labkit finetune --model mini-pythia-8m --bits 4 --corpus miniwoz --format turns --max-steps 440 --batch-size 2 \\
                    --eval-steps 0 --max-length 1024 --out FOLDER/base
    python tests/benchmarks/learning.py FOLDER [goals [held-out goals [tries [rate [arms, with commas]]]]]

A folder belongs to one choice of goals, tries and rate.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import labkit
from labkit.corpora.types import Corpus, Dialogue, Turn
from labkit.errors import LabError
from labkit.interaction import ConversationScores, compare_conversations, converse, model_bot, try_replies
from labkit.interaction.progress import ASKED_AGAIN, FAULTS
from labkit.prompts.preferences import Preference
from labkit.storage import read_json, write_json
from labkit.training.config import FinetuneConfig
from labkit.training.preferences import pair_likelihoods

SAMPLED = labkit.DecodingConfig(strategy="sample", temperature=1.0)
STEPS = FinetuneConfig(max_steps=60, batch_size=4, train_embeddings=False, eval_steps=0, max_length=1024)
PART = 20  # goals that are played between two saves
ARMS = {  # name: what it is compared with
    "base": (),
    "control": ("base",),  # the same steps on dialogues of the corpus
    "expert": ("base", "control"),  # … on its own strict successes, the best of the tries given at each turn
    "dpo": ("base", "control"),  # … on pairs of replies
}
Lessons = tuple[list[Dialogue], list[Preference]]


def report(**row: object) -> None:
    print(json.dumps(row), flush=True)


def base_model(folder: Path) -> labkit.models.LanguageModel:
    trained = json.loads((folder / "base" / "run.json").read_text(encoding="utf-8"))
    return labkit.merge(labkit.load_model(trained["model"], bits=trained["bits"], adapter=folder / "base"))


# --- lessons ----------------------------------------------------------------------------------------------------------


def lessons_of(folder: Path, corpus: Corpus, goals: int, tries: int) -> Lessons:
    """What can be learnt from conversations over training goals: strict successes, and pairs."""
    successes: list[Dialogue] = []
    pairs: list[Preference] = []
    for start in range(0, goals, PART):
        file = folder / f"lessons-{start}.json"
        if not file.exists():
            _play_part(file, corpus, start, min(PART, goals - start), tries)
        kept = read_json(file)
        successes += [_dialogue(dialogue) for dialogue in kept["successes"]]
        for pair in kept["pairs"]:
            pairs.append(Preference(_dialogue(pair["context"]), pair["chosen"], pair["rejected"], pair["why"]))
    report(goals=goals, successes=len(successes), pairs=Counter(pair.why for pair in pairs))
    return successes, pairs


def _play_part(file: Path, corpus: Corpus, start: int, goals: int, tries: int) -> None:
    """Play some goals and keep what can be learnt from them."""
    started = time.process_time()
    bot = model_bot(base_model(file.parent), corpus, "train", config=SAMPLED, states="user")
    how = {"dialogues": goals, "skip": start, "tries": tries, "give_best": True}
    lessons = try_replies(bot, corpus, split="train", **how)
    print(lessons, flush=True)
    successes = _some(lambda: lessons.successes()["train"])
    pairs = _some(lambda: lessons.preferences((*FAULTS, ASKED_AGAIN)))
    content = {"successes": list(map(asdict, successes)), "pairs": list(map(asdict, pairs))}
    write_json(file, content)
    report(step="lessons", start=start, cpu_seconds=round(time.process_time() - started))


def _some(asked: Callable[[], list]) -> list:
    """What is asked for, or nothing where labkit says that there is none: a part is small."""
    try:
        return asked()
    except LabError:
        return []


def _dialogue(told: dict) -> Dialogue:
    turns = [Turn(turn["speaker"], turn["utterance"], turn["state"]) for turn in told["turns"]]
    return Dialogue(told["dialogue_id"], tuple(told["services"]), turns)


# --- arms -------------------------------------------------------------------------------------------------------------


def train(arm: str, folder: Path, corpus: Corpus, lessons: Lessons, rate: float) -> labkit.models.LanguageModel:
    """The model of an arm."""
    lm = base_model(folder)
    if arm == "base":
        return lm
    successes, pairs = lessons
    config = replace(STEPS, learning_rate=rate)
    out = folder / arm
    if arm == "dpo":
        labkit.prefer(lm, pairs, config, out)
    elif arm == "expert":
        labkit.finetune(lm, replace(corpus, splits={"train": successes}, name="own successes"), config, out)
    else:
        labkit.finetune(lm, corpus, config, out)
    tuned = labkit.load_adapter(lm, out)
    if arm == "dpo":
        report(arm=arm, pairs_right=_right(lm, pairs), pairs_right_after=_right(tuned, pairs))
    return labkit.merge(tuned)


def _right(lm: labkit.models.LanguageModel, pairs: list[Preference]) -> float:
    """Of how many pairs, in per cent, the chosen reply is the likelier one."""
    right = [one.is_right for one in pair_likelihoods(lm, pairs)]
    return round(100 * sum(right) / len(right), 1)


def held_out(corpus: Corpus) -> Corpus:
    """Test and dev as one split: nothing was trained or chosen on either."""
    both = [*corpus["test"], *corpus["dev"]]
    return replace(corpus, splits={"train": corpus["train"], "test": both})


def play(arm: str, lm: labkit.models.LanguageModel, folder: Path, corpus: Corpus, goals: int) -> ConversationScores:
    """Greedy conversations on the held-out goals; what was played before is read back."""
    file = folder / f"{arm}.json"
    recorded = read_json(file) if file.exists() else {}

    def keep(replies: dict) -> None:
        written = sum(map(len, replies.values()))
        if written > sum(map(len, recorded.values())):
            write_json(file, replies, indent=None)

    started = time.process_time()
    how = {"format": "turns", "states": "user", "dialogues": goals, "recorded": recorded, "on_turn": keep}
    scores = converse(lm, held_out(corpus), **how)
    report(
        arm=arm,
        success=str(scores.success),
        strict=str(scores.strict_success),
        abandoned=str(scores.abandoned),
        faults=dict(scores.events),
        cpu_seconds=round(time.process_time() - started),
    )
    return scores


def main(
    folder: str, goals: str = "80", n_held_out: str = "200", tries: str = "4", rate: str = "5e-4", arms: str = ""
) -> None:
    corpus = labkit.load_corpus("miniwoz")
    place = Path(folder)
    lessons = lessons_of(place, corpus, int(goals), int(tries))
    scores: dict[str, ConversationScores] = {}
    for arm, others in ARMS.items():
        if arms and arm not in arms.split(","):
            continue
        lm = train(arm, place, corpus, lessons, float(rate))
        scores[arm] = play(arm, lm, place, corpus, int(n_held_out))
        for other in others:
            if other not in scores:
                continue
            print(f"{other} → {arm}\n{compare_conversations(scores[other], scores[arm])}\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
