"""Fixtures that all tests share, and the line of the report that says which model and corpus the tests ran on."""

import gc
import os
import ssl
from functools import cache
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("LAB_PROFILE", "smoke")
MULTIWOZ = Path(__file__).parents[2] / "shared" / "data" / "multiwoz"


@cache
def test_model() -> tuple[str, str]:
    """(model, reason): EleutherAI/pythia-70m where it is reachable or cached, LAB_MODEL's, else the stand-in."""
    from labkit.lab import choose_model, look_outside

    name, reason, problems = choose_model(*look_outside()[1][:1])
    if problems:
        pytest.exit(f"LAB_MODEL cannot be met: {problems[0].what} → {problems[0].action}", returncode=2)
    return name, reason


test_model.__test__ = False  # a fixture's helper, not a test


def multiwoz_folder() -> Path:
    return Path(os.environ.get("LAB_MULTIWOZ") or MULTIWOZ)


def pytest_report_header() -> list[str]:
    name, reason = test_model()
    real = multiwoz_folder() if multiwoz_folder().is_dir() else f"none at {multiwoz_folder()}: tests on real data skip"
    return [f"labkit: model {name} ({reason})", f"labkit: corpus miniwoz (a stand-in); MultiWOZ: {real}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no process is left with one when the others have finished."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    _keep_for_good()
    _compile_peft_s_card_once()
    _read_certificates_once()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What the tests of a file have imported and kept is no garbage for the next: Trainer collects before every run."""
    if nextitem is not None and nextitem.path != item.path:
        _keep_for_good()


def _read_certificates_once() -> None:
    """Each new client of HTTP reads them all, and no test asks a server that has one."""
    ssl.create_default_context = cache(ssl.create_default_context)


def _compile_peft_s_card_once() -> None:
    """Every checkpoint has one: to compile its template anew took a fifth of a tiny training run."""
    try:
        from jinja2 import Environment
    except ImportError:
        return
    compiled = Environment.compile

    @cache
    def once(source: str) -> object:
        return compiled(Environment(), source)

    def compile_(self, source, *args, **options):
        if type(self) is Environment and isinstance(source, str) and "{{ card_data }}" in source:
            return once(source)
        return compiled(self, source, *args, **options)

    Environment.compile = compile_


def _keep_for_good() -> None:
    """What there is by now stays to the end: the collector need not walk over it each time, in forks least of all.

    With torch, transformers and a corpus in memory a collection takes 0.4 s, and half a second in a fork, which has to
    copy every object that the collector touches.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def model_name() -> str:
    """The model that slow tests load (see the report's header)."""
    return test_model()[0]


@pytest.fixture(scope="session")
def multiwoz_dir() -> Path:
    """A folder of real dialogues in the MultiWOZ 2.2 layout."""
    if not multiwoz_folder().is_dir():
        pytest.skip(f"no MultiWOZ at {multiwoz_folder()}: set LAB_MULTIWOZ")
    return multiwoz_folder()


@pytest.fixture(scope="session")
def multiwoz(multiwoz_dir: Path):
    """Real dialogues; a split is read when it is first used."""
    from labkit.corpora import load_corpus

    return load_corpus(multiwoz_dir)


@pytest.fixture(scope="session")
def miniwoz():
    """The generated stand-in corpus, whole (1,000 / 150 / 150 dialogues; generating takes under 3 s)."""
    from labkit.corpora import load_corpus

    corpus = load_corpus("miniwoz")
    _keep_for_good()
    return corpus


@pytest.fixture
def four_threads():
    """torch's threads, where the machine's tests have one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_lm():
    """A random 2-layer GPT-NeoX with the shipped tokenizer: right in every shape and token, useless in what it says."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from labkit.models import LanguageModel
    from labkit.prompts.codec import TextCodec

    tokenizer = _tokenizer()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = GPTNeoXConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **size)
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    return LanguageModel(
        name="tiny-random",
        model=GPTNeoXForCausalLM(config).eval(),
        tokenizer=tokenizer,
        codec=TextCodec(tokenizer),
        bits=32,
        dtype="float32",
        device="cpu",
        stand_in=True,
        adapter=None,
    )


def _tokenizer():
    from transformers import AutoTokenizer

    import labkit.models

    shipped = sorted(Path(labkit.models.__file__).parent.glob("weights/mini-pythia-*/tokenizer.json"))
    return AutoTokenizer.from_pretrained(shipped[0].parent) if shipped else _trained_tokenizer()


def _trained_tokenizer():
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(["user> i want a cheap hotel\nbot> what area ?\n"], 300, special_tokens=["<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
