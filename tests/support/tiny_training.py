"""A tiny model, dialogues and settings that a run of fine-tuning takes seconds with."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Turn
from labkit.models import LanguageModel
from labkit.prompts.codec import TextCodec
from labkit.training.config import FinetuneConfig

TINY = FinetuneConfig(
    max_steps=6, batch_size=2, eval_steps=3, save_steps=2, max_length=128, lora_r=2, warmup_steps=1, learning_rate=1e-2
)
SHAPE = {"vocab_size": 257, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 256}


def byte_tokenizer(bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, and an end token; `bos` as in Llama."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate([*alphabet, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", **({"bos_token": "<end>"} if bos else {})
    )


def tiny_lm(family: str = "gpt_neox") -> LanguageModel:
    torch.manual_seed(0)
    kinds = {"gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig), "llama": (LlamaForCausalLM, LlamaConfig)}
    model, config = kinds[family]
    tokenizer = byte_tokenizer(bos=family == "llama")
    model = model(config(**SHAPE, initializer_range=0.2)).eval()
    return LanguageModel(family, model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)


def plain_dialogue(name: str, n: int) -> Dialogue:
    pairs = [(Turn(USER, f"question {i} of {name}"), Turn(BOT, f"answer {i} " + "x" * i)) for i in range(n)]
    return Dialogue(name, (), [turn for pair in pairs for turn in pair])


def plain_corpus() -> Corpus:
    """Ten dialogues of one to three exchanges in each split."""
    splits = {}
    for split in ("train", "dev", "test"):
        splits[split] = [plain_dialogue(f"{split}{i}", 1 + i % 3) for i in range(10)]
    return Corpus("tiny", splits, "test")
