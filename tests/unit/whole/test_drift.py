"""Drift radar: what labkit calls in transformers, peft, bitsandbytes and datasets, against what is installed.

The calls are collected from the syntax trees of labkit and of the solutions, so that the list cannot go stale.
`make test-latest` runs this, and everything else, on the newest releases.
"""

import ast
import importlib
import inspect
import re
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path

import nbformat
import pytest

import labkit

ROOT = Path(labkit.__file__).parents[1]
SOURCES = sorted((ROOT / "labkit").rglob("*.py")) + sorted((ROOT / "solutions").glob("*.ipynb"))
LIBRARIES = {"transformers", "peft", "bitsandbytes", "datasets", "huggingface_hub", "accelerate"}

# Methods of objects that no import names: where the method is defined. Keywords must be known to one of these.
METHODS = {
    "generate": ["transformers.GenerationMixin", "labkit"],  # labkit.generate is called in notebooks by this name
    "save_pretrained": ["transformers.PreTrainedModel", "peft.PeftModel", "transformers.PreTrainedTokenizerBase"],
    "merge_and_unload": ["peft.tuners.lora.LoraModel"],
    "get_base_model": ["peft.PeftModel"],
    "get_delta_weight": ["peft.tuners.lora.Linear"],
    "get_output_embeddings": ["transformers.PreTrainedModel"],
    "gradient_checkpointing_enable": ["transformers.PreTrainedModel"],
    "num_parameters": ["transformers.PreTrainedModel"],
    "train": ["transformers.Trainer", "torch.nn.Module"],
    "tokenizer.encode": ["transformers.PreTrainedTokenizerBase"],
    "tokenizer.decode": ["transformers.PreTrainedTokenizerBase"],
    "tokenizer.batch_decode": ["transformers.PreTrainedTokenizerBase"],
}
# Keywords that a function takes by **kwargs: the functions whose sources name them.
BEHIND_KWARGS = {
    "transformers.AutoModelForCausalLM.from_pretrained": "transformers.PreTrainedModel.from_pretrained",
    "transformers.AutoTokenizer.from_pretrained": "transformers.AutoTokenizer.from_pretrained",
    "transformers.AutoModelForCausalLM.from_config": (
        "transformers.AutoModelForCausalLM.from_config transformers.PreTrainedModel._from_config"
    ),
    "transformers.AutoConfig.from_pretrained": "transformers.AutoConfig.from_pretrained",
    "transformers.PreTrainedTokenizerFast": (
        "transformers.PreTrainedTokenizerFast.__init__ transformers.PreTrainedTokenizerBase.__init__"
    ),
    "transformers.GPTNeoXConfig": "transformers.GPTNeoXConfig.convert_rope_params_to_dict",
    "huggingface_hub.ModelCardData": "huggingface_hub.ModelCardData.__init__",
}


class Calls(ast.NodeVisitor):
    """`calls`: (line, dotted name, keywords); `overrides`: (line, base, method, arguments) of subclasses;
    `methods`: (line, key of METHODS, keywords).
    """

    def __init__(self, tree):
        self.names, self.calls, self.overrides, self.methods = {}, [], [], []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    head = alias.name.split(".")[0]
                    self.names[alias.asname or head] = alias.name if alias.asname else head
            if isinstance(node, ast.ImportFrom):
                self.names |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
        for node in ast.walk(tree):  # the constructor of a subclass is the library's
            if isinstance(node, ast.ClassDef) and (base := self.base(node)):
                self.names[node.name] = base
        self.visit(tree)

    def dotted(self, expression):
        """The name in a library that an expression such as `bars.enable()` means, else None."""
        head, _, tail = ast.unparse(expression).partition(".")
        name = self.names.get(head, "")
        return f"{name}.{tail}".rstrip(".") if name.split(".")[0] in LIBRARIES and "(" not in tail else None

    def base(self, node):
        return next((name for base in node.bases if (name := self.dotted(base))), None)

    def visit_Call(self, node):
        keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
        if name := self.dotted(node.func):
            self.calls.append((node.lineno, name, keywords))
        elif isinstance(node.func, ast.Attribute):
            text = ast.unparse(node.func)
            self.methods += [
                (node.lineno, key, keywords) for key in METHODS if re.search(rf"\.{re.escape(key)}$", text)
            ]
        self.generic_visit(node)

    def visit_ClassDef(self, node):
        if base := self.base(node):
            for method in (item for item in node.body if isinstance(item, ast.FunctionDef)):
                taken = [argument.arg for argument in method.args.args[1:]]
                self.overrides.append((method.lineno, base, method.name, taken))
        self.generic_visit(node)


def tree(path):
    if path.suffix == ".py":
        return ast.parse(path.read_text(encoding="utf-8"))
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!]", r"\1# ", cell, flags=re.MULTILINE) for cell in cells))


@cache
def calls(path):
    return Calls(tree(path))


@cache
def collected(kind):
    """[(place, *what was found)] over all sources, `kind` being a field of Calls."""
    found = [(path, item) for path in SOURCES for item in getattr(calls(path), kind)]
    return [(f"{path.relative_to(ROOT)}:{line}", *item) for path, (line, *item) in found]


def resolve(name):
    """The object of a dotted name."""
    module, rest = name, []
    while True:
        try:
            thing = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        thing = getattr(thing, part)
    return thing


def accepts(name, keyword):
    """Whether a callable knows a keyword, by its signature or, behind **kwargs, by the source that reads them."""
    parameters = inspect.signature(resolve(name)).parameters
    if keyword in parameters:
        return parameters[keyword].kind is not inspect.Parameter.POSITIONAL_ONLY
    behind = BEHIND_KWARGS.get(name, "").split()
    return any(re.search(rf"\b{keyword}\b", inspect.getsource(resolve(function))) for function in behind)


@pytest.mark.slow
def test_the_radar_sees_the_calls():
    """Else an empty list would pass."""
    names = {name for _, name, _ in collected("calls")}
    expected = {
        "peft.LoraConfig",
        "transformers.TrainingArguments",
        "datasets.Dataset.from_list",
        "transformers.Trainer",
    }
    assert expected <= names and len(collected("calls")) > 30
    assert ("transformers.Trainer", "compute_loss") in {(base, method) for _, base, method, _ in collected("overrides")}
    assert {key for _, key, _ in collected("methods")} == set(METHODS)  # no entry of the table is stale


@pytest.mark.slow
def test_every_call_has_arguments_that_the_library_knows():
    wrong = []
    for place, name, keywords in collected("calls"):
        assert callable(resolve(name)), f"{place}: {name} is gone"
        wrong += [f"{place}: {name}({keyword}=)" for keyword in keywords if not accepts(name, keyword)]
    assert not wrong


def test_a_call_that_a_library_no_longer_knows_is_seen():
    """The arguments that transformers 5 renamed, so that the test above can fail."""
    assert not accepts("transformers.TrainingArguments", "evaluation_strategy")
    assert not accepts("transformers.Trainer", "tokenizer") and accepts("transformers.Trainer", "processing_class")
    assert not accepts("transformers.AutoModelForCausalLM.from_pretrained", "load_in_2bit")
    with pytest.raises(AttributeError):
        resolve("peft.prepare_model_for_int8_training")


@pytest.mark.slow
def test_methods_of_models_and_tokenizers_have_the_arguments_that_are_passed():
    wrong = []
    for place, key, keywords in collected("methods"):
        owners = [getattr(resolve(owner), key.split(".")[-1]) for owner in METHODS[key]]
        known = {name for owner in owners for name in inspect.signature(owner).parameters}
        known |= {"attention_mask"} if key == "generate" else set()  # of every model's forward
        if "decode" in key:  # which hand their **kwargs on to this one
            known |= set(inspect.signature(resolve("transformers.PreTrainedTokenizerFast._decode")).parameters)
        wrong += [f"{place}: .{key}({keyword}=)" for keyword in keywords if keyword not in known]
    assert not wrong


@pytest.mark.slow
def test_what_labkit_overrides_is_there_and_is_called_the_same_way():
    """A method that the library no longer calls would never run, and nothing would say so."""
    wrong = []
    for place, base, method, taken in collected("overrides"):
        if method.startswith("_") or not hasattr(resolve(base), method):
            wrong += [f"{place}: {base} has no {method}"] if not method.startswith("_") else []
            continue
        known = inspect.signature(getattr(resolve(base), method)).parameters
        wrong += [f"{place}: {base}.{method} has no {name}" for name in taken if name not in known]
    assert not wrong


@pytest.mark.parametrize("changes", [{}, {"strategy": "sample", "top_p": 0.9}, {"strategy": "beam", "num_beams": 2}])
def test_every_option_of_decoding_is_one_of_generate(changes):
    """They go to generate as keywords, where an unknown one is an error at run time only."""
    from transformers import GenerationConfig

    from labkit.decoding.config import DecodingConfig, transformers_options

    config = DecodingConfig(min_new_tokens=1, **changes)
    assert set(transformers_options(config)) | {"eos_token_id", "pad_token_id"} <= set(vars(GenerationConfig()))


@pytest.mark.parametrize("bits", [4, 8])
def test_every_option_of_quantisation_arrives(bits):
    """BitsAndBytesConfig takes **kwargs and drops what it does not know."""
    from labkit.models.base import _quantisation

    config = _quantisation(bits, "float32", "fp4", False)
    if bits == 8:
        assert config.load_in_8bit and not config.load_in_4bit
    else:
        assert config.load_in_4bit and config.bnb_4bit_quant_type == "fp4" and not config.bnb_4bit_use_double_quant
        assert str(config.bnb_4bit_compute_dtype) == "torch.float32"


def test_the_options_of_lora_are_peft_s():
    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    assert {"r", "lora_alpha", "lora_dropout", "target_modules", "init_lora_weights", "use_dora", "task_type"} <= known


def test_what_labkit_looks_up_in_bitsandbytes_is_there():
    """Attributes that are asked for by name: where they are gone, `getattr(…, None)` says nothing."""
    import bitsandbytes as bnb
    import torch

    layer = bnb.nn.Linear4bit(64, 8, compute_dtype=torch.float32).to("cpu")
    assert layer.weight.quant_state.shape == torch.Size([8, 64]) and hasattr(layer, "compute_type_is_set")


def test_trainers_optimisers_have_the_names_that_the_configuration_offers():
    from transformers.training_args import OptimizerNames

    from labkit.training.config import OPTIMIZERS, PAGED

    assert {*OPTIMIZERS, *PAGED, *PAGED.values()} <= {name.value for name in OptimizerNames}


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_oldest_versions_that_are_allowed_are_those_that_are_tested():
    """floors.txt had newer versions of torch, accelerate and numpy than pyproject.toml allowed: nobody tested those."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {}
    for line in project["dependencies"]:
        need = Requirement(line)
        lower = [part.version for part in need.specifier if part.operator == ">="]
        assert len(lower) == 1, f"{need.name} has no floor"
        allowed[need.name] = lower[0]
    floors = (ROOT / "tests" / "floors.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", floors, re.MULTILINE))
    assert {name: tested.get(name) for name in allowed} == allowed


def test_what_the_tests_run_on_is_not_older_than_the_oldest_version():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", pins, re.MULTILINE)}
    for line in project["dependencies"]:
        need = Requirement(line)
        assert need.specifier.contains(pinned[need.name.lower()], prereleases=True), line


# --- other packages' private names ------------------------------------------------------------------------------------


def test_every_private_name_is_said_with_the_version_it_was_seen_in():
    """compat.py is where such names stand, so that a new release is a matter of one file."""
    from labkit import compat

    tree_of_compat = ast.parse(Path(compat.__file__).read_text(encoding="utf-8"))
    for node in tree_of_compat.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            said = ast.get_docstring(node) or ""
            assert re.search(
                r"(transformers|torch|peft|bitsandbytes|accelerate|IPython|mwzeval|umap-learn) \d", said
            ), node.name


def test_how_a_model_attends_is_read_and_written_where_transformers_keeps_it():
    import transformers

    from labkit.compat import computes_attention

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**size, vocab_size=16))
    assert computes_attention(model) == "sdpa"
    computes_attention(model, "eager")
    assert computes_attention(model) == model.config._attn_implementation == "eager"


def test_what_says_that_a_model_is_quantised_is_still_called_so():
    """forget_gguf sets these two; where transformers asks for others, a converted GGUF cannot be saved."""
    import transformers

    source = inspect.getsource(transformers.PreTrainedModel.save_pretrained)
    assert "hf_quantizer" in source
    assert "is_quantized" in inspect.getsource(inspect.getmodule(transformers.PreTrainedModel))
