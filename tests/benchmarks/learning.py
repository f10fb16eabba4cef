"""Learning from own conversations on MiniWOZ with mini-pythia (both stand-ins): expert iteration and DPO, each against
the same steps on corpus dialogues. Every step is kept in FOLDER and not made again.

    labkit finetune --model mini-pythia-8m --bits 4 --corpus miniwoz --format turns --max-steps 440 --batch-size 2 \\
                    --eval-steps 0 --max-length 1024 --out FOLDER/base
    python tests/benchmarks/learning.py FOLDER [step …]      # all steps; or some of: pairs arms play:ARM compare
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
from labkit.interaction.progress import FAULTS
from labkit.prompts.preferences import Preference
from labkit.storage import read_json, write_json
from labkit.training.config import FinetuneConfig
from labkit.training.preferences import pair_likelihoods

GOALS = 80  # of the training split, to learn from
HELD_OUT = 60  # of test and dev: nothing was trained or chosen on either
TRIES = 4
SAMPLED = labkit.DecodingConfig(strategy="sample", temperature=1.0)
STEPS = FinetuneConfig(
    max_steps=60, batch_size=4, learning_rate=1e-3, train_embeddings=False, eval_steps=0, max_length=1024
)
ARMS = ("base", "control", "expert", "dpo")
DECODING = {
    "greedy": labkit.DecodingConfig(),
    "beams": labkit.DecodingConfig(strategy="beam", num_beams=2),
}


def started() -> float:
    return time.process_time()


def report(**row: object) -> None:
    print(json.dumps(row), flush=True)


def base_model(folder: Path) -> labkit.models.LanguageModel:
    trained = json.loads((folder / "base" / "run.json").read_text(encoding="utf-8"))
    return labkit.merge(labkit.load_model(trained["model"], bits=trained["bits"], adapter=folder / "base"))


def write_pairs(folder: Path, corpus: Corpus) -> None:
    """Play training goals, and keep what can be learnt from them."""
    before = started()
    bot = model_bot(base_model(folder), corpus, "train", config=SAMPLED, states="user")
    lessons = try_replies(bot, corpus, split="train", dialogues=GOALS, tries=TRIES)
    print(lessons)
    successes = [asdict(dialogue) for dialogue in lessons.successes()["train"]]
    pairs = [asdict(pair) for pair in lessons.preferences(FAULTS)]
    write_json(folder / "lessons.json", {"successes": successes, "pairs": pairs})
    kinds = Counter(pair["why"] for pair in pairs)
    report(step="pairs", successes=len(successes), pairs=kinds, cpu_seconds=round(started() - before))


def read_lessons(folder: Path) -> tuple[list[Dialogue], list[Preference]]:
    kept = read_json(folder / "lessons.json")
    pairs = []
    for pair in kept["pairs"]:
        pairs.append(Preference(_dialogue(pair["context"]), pair["chosen"], pair["rejected"], pair["why"]))
    return [_dialogue(dialogue) for dialogue in kept["successes"]], pairs


def _dialogue(told: dict) -> Dialogue:
    turns = [Turn(turn["speaker"], turn["utterance"], turn["state"]) for turn in told["turns"]]
    return Dialogue(told["dialogue_id"], tuple(told["services"]), turns)


def train_arms(folder: Path, corpus: Corpus) -> None:
    lm = base_model(folder)
    successes, pairs = read_lessons(folder)
    own = replace(corpus, splits={"train": successes}, name="own successes")
    for arm in ("dpo", "expert", "control"):
        before = started()
        out = folder / arm
        if arm == "dpo":
            labkit.prefer(lm, pairs, STEPS, out)
        else:
            labkit.finetune(lm, own if arm == "expert" else corpus, STEPS, out)
        tuned = labkit.load_adapter(lm, out)
        right = [one.is_right for one in pair_likelihoods(tuned, pairs)]
        report(step=arm, pairs_right=round(100 * sum(right) / len(right), 1), cpu_seconds=round(started() - before))


def held_out(corpus: Corpus) -> Corpus:
    """Test and dev as one split, so that there are 200 goals."""
    both = [*corpus["test"], *corpus["dev"]]
    return replace(corpus, splits={"train": corpus["train"], "test": both})


def play(folder: Path, corpus: Corpus, arm: str, decoding: str) -> ConversationScores:
    """Conversations of an arm on the held-out goals; what was played before is read back."""
    file = folder / f"{arm}-{decoding}.json"
    recorded = read_json(file) if file.exists() else {}
    before = started()
    lm = base_model(folder)
    if arm != "base":
        lm = labkit.merge(labkit.load_adapter(lm, folder / arm))

    def keep(replies: dict) -> None:
        write_json(file, replies, indent=None)

    scores = converse(
        lm,
        held_out(corpus),
        dialogues=HELD_OUT,
        config=DECODING[decoding],
        format="turns",
        states="user",
        recorded=recorded,
        on_turn=None if recorded else keep,
    )
    report(
        arm=arm,
        decoding=decoding,
        success=str(scores.success),
        strict=str(scores.strict_success),
        abandoned=str(scores.abandoned),
        faults=dict(scores.events),
        cpu_seconds=round(started() - before),
    )
    return scores


def main(folder: str, *steps: str) -> None:
    corpus = labkit.load_corpus("miniwoz")
    place = Path(folder)
    if not steps:
        steps = ("pairs", "arms", "compare")
    for step in steps:
        name, _, rest = step.partition(":")
        if name == "pairs":
            write_pairs(place, corpus)
        elif name == "arms":
            train_arms(place, corpus)
        elif name == "play":
            arm, decoding = rest.split(":")
            play(place, corpus, arm, decoding)
        else:
            compare(place, corpus)


def compare(folder: Path, corpus: Corpus) -> None:
    for decoding in DECODING:
        scores = {arm: play(folder, corpus, arm, decoding) for arm in ARMS}
        for a, b in (
            ("base", "control"),
            ("base", "expert"),
            ("base", "dpo"),
            ("control", "expert"),
            ("control", "dpo"),
        ):
            print(f"{decoding}: {a} → {b}\n{compare_conversations(scores[a], scores[b])}\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
