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

GROUPED = {"num_key_value_heads": 2}
WINDOW = {"sliding_window": 8}  # tokens: prompts are longer
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SHARED = {"shared_expert_intermediate_size": 32}
HEAD = {"head_dim": 16}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4}
LINEAR |= {"linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
CASES = {  # name -> (transformers' model type, settings beyond the common ones)
    "GPT-NeoX": ("gpt_neox", {}),
    "GPT-2": ("gpt2", {}),
    "GPT-J": ("gptj", {"rotary_dim": 8}),
    "GPT-Neo, global": ("gpt_neo", {"attention_types": [[["global"], 2]]}),
    "GPT-Neo, local": ("gpt_neo", {"attention_types": [[["global", "local"], 1]], "window_size": 8}),
    "GPT-BigCode": ("gpt_bigcode", {}),
    "CodeGen": ("codegen", {"rotary_dim": 8, "n_ctx": 512}),
    "OPT": ("opt", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "Falcon, multi-query": ("falcon", {"multi_query": True, "ffn_hidden_size": 96}),
    "Falcon, new decoder": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 96}),
    "Falcon, ALiBi": ("falcon", {"alibi": True, "ffn_hidden_size": 96}),
    "BLOOM": ("bloom", {"n_layer": 2, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 64, "n_heads": 4, "n_layers": 2}),
    "LLaMA": ("llama", GROUPED),
    "LLaMA, dynamic positions": ("llama", GROUPED | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0,
                                 "rope_theta": 1e4}, "max_position_embeddings": 64}),
    "Mistral": ("mistral", GROUPED | WINDOW),
    "Mistral, no window": ("mistral", GROUPED | {"sliding_window": None}),
    "Ministral": ("ministral", GROUPED | WINDOW | HEAD | MIXED),
    "Mixtral": ("mixtral", GROUPED | WINDOW | {"num_local_experts": 4}),
    "StarCoder 2": ("starcoder2", GROUPED | WINDOW),
    "Qwen 2": ("qwen2", GROUPED | WINDOW | {"use_sliding_window": True, "max_window_layers": 1}),
    "Qwen 2, window off": ("qwen2", GROUPED | WINDOW),
    "Qwen 2 MoE": ("qwen2_moe", GROUPED | EXPERTS | SHARED),
    "Qwen 3": ("qwen3", GROUPED | WINDOW | HEAD | {"use_sliding_window": True, "max_window_layers": 1}),
    "Qwen 3 MoE": ("qwen3_moe", GROUPED | EXPERTS | WINDOW | HEAD | {"use_sliding_window": True}),
    "Qwen 3 Next": ("qwen3_next", GROUPED | EXPERTS | SHARED | HEAD | LINEAR),
    "Gemma": ("gemma", HEAD | {"num_key_value_heads": 1}),
    "Gemma 2": ("gemma2", GROUPED | WINDOW | HEAD),
    "Gemma 3": ("gemma3_text", GROUPED | WINDOW | HEAD | MIXED),
    "Phi": ("phi", {}),
    "Phi 3": ("phi3", GROUPED | WINDOW),
    "OLMo": ("olmo", GROUPED),
    "OLMo 2": ("olmo2", GROUPED),
    "OLMo 3": ("olmo3", GROUPED | WINDOW | MIXED),
    "OLMoE": ("olmoe", GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}),
    "SmolLM 3": ("smollm3", GROUPED | WINDOW | {"use_sliding_window": True, "no_rope_layers": [1, 0]}),
    "Granite": ("granite", GROUPED | {"logits_scaling": 2.0, "residual_multiplier": 0.5}),
    "Granite MoE": ("granitemoe", GROUPED | {"num_local_experts": 4}),
    "Cohere": ("cohere", GROUPED),
    "Cohere 2": ("cohere2", GROUPED | WINDOW | MIXED),
    "StableLM": ("stablelm", GROUPED),
    "Helium": ("helium", GROUPED | HEAD),
    "GLM 4": ("glm", GROUPED | HEAD),
    "Nemotron": ("nemotron", GROUPED),
    "gpt-oss": ("gpt_oss", GROUPED | WINDOW | HEAD | MIXED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Mamba": ("mamba", {"state_size": 8}),
    "Mamba 2": ("mamba2", {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 8, "chunk_size": 16}),
    "RecurrentGemma": ("recurrent_gemma", HEAD | {"attention_window_size": 8, "lru_width": 64, "num_key_value_heads": 1,
                       "block_types": ["recurrent", "attention"]}),
    "LFM 2": ("lfm2", GROUPED | {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}),
    "GPT-1, not in the table": ("openai-gpt", {}),
}  # fmt: skip


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


def case(name: str, **more) -> LanguageModel:
    """One of CASES with a byte-level tokenizer; weights so wide that replies differ, input and output not tied."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, settings = CASES[name]
    tokenizer = byte_bpe()
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    size |= {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "tie_word_embeddings": False}
    size |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **size | settings | more)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.2)
    return LanguageModel(name, model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)


def language_model(architecture: str) -> LanguageModel:
    model, tokenizer = build(architecture)
    return LanguageModel(f"tiny-{architecture}", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)


def saved(architecture: str, folder, half: bool = True, vocab_size: int | None = None):
    """The model as a checkpoint folder, in float16 like pythia's."""
    model, tokenizer = build(architecture, vocab_size)
    (model.half() if half else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
