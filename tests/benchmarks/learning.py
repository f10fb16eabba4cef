"""Learning from own conversations on MiniWOZ with mini-pythia (both stand-ins): expert iteration and DPO, each against
the same steps on corpus dialogues. Every step is kept in FOLDER and not made again, so a stopped run goes on.

    labkit finetune --model mini-pythia-8m --bits 4 --corpus miniwoz --format turns --max-steps 440 --batch-size 2 \\
                    --eval-steps 0 --max-length 1024 --out FOLDER/base
    python tests/benchmarks/learning.py FOLDER [goals [held-out goals [tries [arms, with commas]]]]
"""

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import labkit
from labkit.corpora.types import Corpus, Dialogue, Turn
from labkit.interaction import ConversationScores, compare_conversations, converse, model_bot, try_replies
from labkit.interaction.progress import EARLY_OFFER, FAULTS
from labkit.prompts.preferences import Preference
from labkit.storage import read_json, write_json
from labkit.training.config import FinetuneConfig
from labkit.training.preferences import pair_likelihoods

SAMPLED = labkit.DecodingConfig(strategy="sample", temperature=1.0)
STEPS = FinetuneConfig(
    max_steps=60, batch_size=4, learning_rate=1e-3, train_embeddings=False, eval_steps=0, max_length=1024
)
GENTLE = replace(STEPS, max_steps=40, learning_rate=2e-4)
ARMS = {  # name: what it is compared with
    "base": (),
    "dpo": ("base",),  # all that strict Success does not forgive
    "control": ("base", "dpo"),
    "gentle dpo": ("base", "control"),  # the same pairs, a fifth of the rate
    "expert": ("base", "control"),
}


def report(**row: object) -> None:
    print(json.dumps(row), flush=True)


def base_model(folder: Path) -> labkit.models.LanguageModel:
    trained = json.loads((folder / "base" / "run.json").read_text(encoding="utf-8"))
    return labkit.merge(labkit.load_model(trained["model"], bits=trained["bits"], adapter=folder / "base"))


# --- lessons ----------------------------------------------------------------------------------------------------------


def lessons_of(folder: Path, corpus: Corpus, goals: int, tries: int) -> tuple[list[Dialogue], list[Preference]]:
    """What can be learnt from conversations over training goals: strict successes, and pairs."""
    file = folder / "lessons.json"
    if not file.exists():
        started = time.process_time()
        bot = model_bot(base_model(folder), corpus, "train", config=SAMPLED, states="user")
        lessons = try_replies(bot, corpus, split="train", dialogues=goals, tries=tries)
        print(lessons, flush=True)
        successes = [asdict(dialogue) for dialogue in lessons.successes()["train"]]
        pairs = [asdict(pair) for pair in lessons.preferences(FAULTS)]
        write_json(file, {"successes": successes, "pairs": pairs})
        report(step="lessons", cpu_seconds=round(time.process_time() - started))
    kept = read_json(file)
    pairs = []
    for pair in kept["pairs"]:
        pairs.append(Preference(_dialogue(pair["context"]), pair["chosen"], pair["rejected"], pair["why"]))
    successes = [_dialogue(dialogue) for dialogue in kept["successes"]]
    kinds = Counter(pair.why for pair in pairs)
    report(successes=len(successes), pairs=kinds, asked_first=kinds[EARLY_OFFER])
    return successes, pairs


def _dialogue(told: dict) -> Dialogue:
    turns = [Turn(turn["speaker"], turn["utterance"], turn["state"]) for turn in told["turns"]]
    return Dialogue(told["dialogue_id"], tuple(told["services"]), turns)


# --- arms -------------------------------------------------------------------------------------------------------------


def train(
    arm: str, folder: Path, corpus: Corpus, successes: list[Dialogue], pairs: list[Preference]
) -> labkit.models.LanguageModel:
    """The model of an arm."""
    started = time.process_time()
    lm = base_model(folder)
    out = folder / arm
    if arm == "base":
        return lm
    if arm.endswith("dpo"):
        labkit.prefer(lm, pairs, GENTLE if arm == "gentle dpo" else STEPS, out)
    elif arm == "expert":
        labkit.finetune(lm, replace(corpus, splits={"train": successes}, name="own successes"), STEPS, out)
    else:
        labkit.finetune(lm, corpus, STEPS, out)
    tuned = labkit.load_adapter(lm, out)
    right = [one.is_right for one in pair_likelihoods(tuned, pairs)]
    before = [one.is_right for one in pair_likelihoods(lm, pairs)]
    report(
        arm=arm,
        pairs_right_before=round(100 * sum(before) / len(before), 1),
        pairs_right=round(100 * sum(right) / len(right), 1),
        cpu_seconds=round(time.process_time() - started),
    )
    return labkit.merge(tuned)


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


def main(folder: str, goals: str = "300", n_held_out: str = "200", tries: str = "6", arms: str = "") -> None:
    corpus = labkit.load_corpus("miniwoz")
    place = Path(folder)
    successes, pairs = lessons_of(place, corpus, int(goals), int(tries))
    scores: dict[str, ConversationScores] = {}
    for arm, others in ARMS.items():
        if arms and arm not in arms.split(","):
            continue
        lm = train(arm, place, corpus, successes, pairs)
        scores[arm] = play(arm, lm, place, corpus, int(n_held_out))
        for other in others:
            if other not in scores:
                continue
            print(f"{other} → {arm}\n{compare_conversations(scores[other], scores[arm])}\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
