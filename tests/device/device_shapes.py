"""Models of published shapes with random weights, and dialogues of a known length, for measurements."""

from pathlib import Path

PYTHIA = {"vocab_size": 50304, "max_position_embeddings": 2048}
SHAPES = {  # the published sizes (Biderman et al. 2023, table 1)
    "pythia-70m": {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8},
    "pythia-410m": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}


def config(name: str):
    """The GPT-NeoX configuration of a shape."""
    from transformers import GPTNeoXConfig

    size = SHAPES[name]
    return GPTNeoXConfig(**PYTHIA, **size, intermediate_size=4 * size["hidden_size"], bos_token_id=0, eos_token_id=0)


def folder(name: str, root: Path) -> Path:
    """A model folder with random weights and a stand-in's tokenizer, made where it is not there yet."""
    import torch
    from transformers import AutoTokenizer, GPTNeoXForCausalLM

    from labkit.models.find import WEIGHTS

    target = root / name
    if not target.is_dir():
        torch.manual_seed(0)
        GPTNeoXForCausalLM(config(name)).to(torch.bfloat16).save_pretrained(target)
        AutoTokenizer.from_pretrained(WEIGHTS / "mini-pythia-8m").save_pretrained(target)
    return target


def even_corpus(codec, dialogues: int, length: int):
    """Dialogues of one exchange, each of `length` tokens as near as a text can be, half of them the bot's."""
    from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Turn
    from labkit.prompts.build import examples

    def dialogue(words: int) -> Dialogue:
        text = "hotel " * words
        return Dialogue("even", (), [Turn(USER, text), Turn(BOT, text)])

    words = 1
    while len(examples(dialogue(words + 1), codec, max_length=10 * length)[0].input_ids) <= length:
        words += 1
    made = [Dialogue(f"even{i}", (), dialogue(words).turns) for i in range(dialogues)]
    return Corpus("even", {"train": made, "dev": made[:1], "test": made[:1]}, "made for a measurement")
