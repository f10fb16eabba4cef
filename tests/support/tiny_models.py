"""Random models of several architectures, each with its kind of tokenizer: right in shape, useless in what they say."""

import pytest
import transformers

from labkit.models import LanguageModel
from labkit.prompts.codec import TextCodec

TEXT = ["user> i want a cheap hotel in the north .\n", "bot> the [hotel_name] is cheap . anything else ?\n"] * 4
ARCHITECTURES = ("neox", "llama")
FAMILIES = {  # transformers' name -> settings beyond the common ones
    "gpt_neox": {},
    "llama": {"num_key_value_heads": 2},
    "falcon": {"multi_query": True, "ffn_hidden_size": 96},  # as falcon-7b
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "gpt2": {},
    "phi": {},
}


def byte_bpe():
    """A byte-level tokenizer like GPT-NeoX's: no token of its own at the beginning of a text."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(TEXT, 300, special_tokens=["<|endoftext|>"], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>")


def sentencepiece_like():
    """A tokenizer like Llama's: begins a text with <s>, marks spaces with ▁, spells a newline as the byte <0x0A>."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=[*specials, *(f"<0x{i:02X}>" for i in range(256))], show_progress=False
    )
    tokenizer.train_from_iterator([text.strip() for text in TEXT], trainer)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def build(architecture: str, vocab_size: int | None = None):
    """(model, tokenizer); weights so wide that replies differ from prompt to prompt, and in length."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    tokenizer = byte_bpe() if architecture == "neox" else sentencepiece_like()
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    size |= {"vocab_size": vocab_size or len(tokenizer), "max_position_embeddings": 512, "initializer_range": 0.2}
    torch.manual_seed(0)
    if architecture == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**size)).eval(), tokenizer
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **size)).eval(), tokenizer


def family(model_type: str):
    """(model, tokenizer) of one of FAMILIES; a byte-level tokenizer for all but Llama and Mistral."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = sentencepiece_like() if model_type in ("llama", "mistral") else byte_bpe()
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    size |= {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **size | FAMILIES[model_type])
    if not hasattr(config, "pad_token_id"):
        pytest.skip(f"transformers {transformers.__version__} cannot build a {model_type}: no pad_token_id")
    return AutoModelForCausalLM.from_config(config).eval(), tokenizer


def language_model(architecture: str) -> LanguageModel:
    model, tokenizer = build(architecture)
    return LanguageModel(f"tiny-{architecture}", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)


def saved(architecture: str, folder, half: bool = True, vocab_size: int | None = None):
    """The model as a checkpoint folder, in float16 like pythia's."""
    model, tokenizer = build(architecture, vocab_size)
    (model.half() if half else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
