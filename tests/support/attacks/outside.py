"""Point 2: no code from outside, and what a stranger's file declares is bounded."""

import json
import os
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import labkit
from attacks.case import EITHER, LINE, RESULT, Case, expect, written
from attacks.stage import MODEL, adapter_copy, model_copy, stage
from labkit.corpora.download import fetch_multiwoz22
from labkit.corpora.pins import pins
from labkit.models import attach_adapter

RAN = "ran.txt"  # a stranger's code would write it
EVIL = f"open({RAN!r}, 'w').write('x')\n"
PICKLE = b"cos\nsystem\n(S'touch ran.txt'\ntR."
GONE = object()
Json = Any  # whatever a JSON file holds

CONFIG: dict[str, tuple[Json, ...]] = {
    "num_hidden_layers": (0, -1, 100_000, 10**12, 1.5, "4", None, [], 5, 3),
    "hidden_size": (0, -1, 63, 10**9, "64", None, 128, []),
    "num_attention_heads": (0, -1, 3, 10**6, None, "4", 2.0),
    "intermediate_size": (0, -1, 10**9, 255, None),
    "vocab_size": (0, -1, 10**9, 5, None, "x"),
    "max_position_embeddings": (0, -1, 10**12, None, "x"),
    "model_type": ("", "moon", None, 3, "bert", "t5", "llama", "whisper", [], GONE),
    "architectures": (None, [], ["Moon"], "x", 3),
    "hidden_act": ("moon", None, 3, ""),
    "rope_parameters": (None, {}, 3, {"rope_type": "moon"}, {"rope_theta": 0}, {"partial_rotary_factor": 9}),
    "layer_norm_eps": (None, "x", -1, 0),
    "eos_token_id": (None, -5, 10**9, "x", [0, 1]),
    "dtype": ("moon", None, 3, "int8"),
    "quantization_config": ({}, {"quant_method": "moon"}, {"quant_method": "gptq", "bits": 4}, 3),
    "auto_map": ({}, 3, {"AutoModelForCausalLM": "evil.M"}, {"AutoConfig": "evil.C"}),
    "tie_word_embeddings": ("x", True),
    "attention_bias": (False, None),
    "transformers_version": (3, "99.0", None),
}
ADAPTER: dict[str, tuple[Json, ...]] = {
    "peft_type": ("MOON", None, 3, "PREFIX_TUNING", "PROMPT_TUNING", "IA3", GONE),
    "r": (0, -1, 1.5, "x", None, 10**9, 3),
    "lora_alpha": (None, "x", float("nan")),
    "lora_dropout": (-1, 2, "x", None),
    "target_modules": (None, [], ["moon"], "(", "(.*)*(.*)*(.*)*X", 3, "all-linear", {}),
    "task_type": ("MOON", None, "SEQ_CLS", 3),
    "bias": ("moon", None, "all"),
    "modules_to_save": (["moon"], 3, "x"),
    "auto_mapping": ({"base_model_class": "evil.M", "parent_library": "evil"}, 3),
    "rank_pattern": (3, {"(": 3}, {".*": 10**9}),
    "layers_to_transform": ([99], -1, "x"),
    "base_model_name_or_path": (3, None, "../evil", "no/such"),
    "unknown_field": (3,),
}
FILES: dict[str, tuple[bytes, ...]] = {
    "config.json": (b"", b"null", b"[]", b"3", b"{", b"{}", b"\x00", b"[" * 5000, b'{"model_type": "gpt_neox"}'),
    "tokenizer.json": (b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b'{"version": "1.0", "model": {"type": "Moon"}}'),
    "tokenizer_config.json": (b"", b"null", b"[]", b"3", b"{", b'{"tokenizer_class": "Moon"}', b'{"eos_token": 3}'),
    "model.safetensors": (b"", b"\x00" * 8, b"\xff" * 8, PICKLE, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"x" * 1000),
    "generation_config.json": (b"null", b"[]", b"{", b'{"temperature": "x"}', b'{"do_sample": 3}'),
    "chat_template.jinja": (b"{{", b"\xff"),
}
TEMPLATES = (
    "{{", "{{ moon }}", "{{ 1 // 0 }}", "{{ messages + ' ' }}", "{{ 'a' * 10**10 }}", "{{ raise_exception('') }}",
    "{{ raise_exception('no system role') }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 9 ** 9 ** 9 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch ran.txt') }}", "{% include '/etc/passwd' %}", "{{ messages[99] }}",
    "{{ messages[0].x.y }}", "{{ None() }}", "{{ messages | sort }}", "\ud83d", "{{ lipsum() * 10**8 }}",
)  # fmt: skip
PATTERNS = ("(", "[", "(.*)*(.*)*(.*)*X", "(a+)+$|(.*.*.*.*)*Y", "", "moon", "(?P<x>", "\\", "*", "\ud83d", "(?<=a*)b")
PLACES = (
    "../x",
    "/x",
    "a/../../x",
    "..",
    ".",
    "",
    "a//b",
    "a\\b",
    "C:x",
    "C:\\x",
    "a\nb",
    "a\0b",
    "a/",
    "\ud83d",
    "~/../x/..",
)
PIN = {"repository": "o/n", "commit": "c" * 40, "path": "p", "blob": "0" * 40}
PINS: tuple[Json, ...] = (
    None,
    [],
    {},
    3,
    "x",
    [PIN],
    {"x": None},
    {"x": []},
    {"x": {}},
    {"x": "y"},
    {"x": {**PIN, "blob": 3}},
)
PINS += ({"x": {**PIN, "size": "x"}}, {"x": {**PIN, "repository": "a\nb"}}, {"x": {**PIN, "path": ""}})


def cases() -> list[Case]:
    """Model folders, adapters, GGUF files, chat templates, patterns and pins of a stranger."""
    return [*_models(), *_code(), *_adapters(), *_gguf(), *_templates(), *_patterns(), *_pins()]


def _no_code_ran() -> None:
    expect(not Path(RAN).exists(), "a stranger's code ran")


def _loaded(folder: Path | str, **options: Json) -> None:
    try:
        lm = labkit.load_model(str(folder), **options)
        labkit.generate(lm, [[5, 6]], labkit.DecodingConfig(max_new_tokens=1))
    finally:
        _no_code_ran()


# --- model folders ----------------------------------------------------------------------------------------------------


def _models() -> Iterator[Case]:
    for field, values in CONFIG.items():
        for value in values:
            shown = "gone" if value is GONE else repr(value)
            yield Case(2, f"config.json, {field} is {shown}", partial(_with_config, field, value), EITHER, seconds=15)
    for name, contents in FILES.items():
        for content in contents:
            yield Case(
                2, f"a model's {name} is {content[:16]!r}", partial(_with_file, name, content), EITHER, seconds=15
            )
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        yield Case(2, f"a model without {name}", partial(_without, name))
    yield Case(2, "weights cut", _cut_weights)


def _changed(file: Path, field: str, value: Json) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    if value is GONE:
        del content[field]
    else:
        content[field] = value
    file.write_text(json.dumps(content), encoding="utf-8")


def _with_config(field: str, value: Json) -> None:
    folder = model_copy()
    _changed(folder / "config.json", field, value)
    written(folder / "evil.py", EVIL)
    _loaded(folder)


def _with_file(name: str, content: bytes) -> None:
    folder = model_copy()
    written(folder / name, content)
    _loaded(folder)


def _without(name: str) -> None:
    folder = model_copy()
    (folder / name).unlink()
    _loaded(folder)


def _cut_weights() -> None:
    folder = model_copy()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    _loaded(folder)


def _code() -> Iterator[Case]:
    maps: dict[str, Json] = {
        "the model": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
        "the model of a repository": {"AutoModelForCausalLM": "owner/name--evil.M"},
        "the tokenizer": {"AutoTokenizer": ["evil.T", None]},
    }
    for name, auto_map in maps.items():
        for answer in (b"", b"y\n" * 9):
            act = partial(_with_code, auto_map, answer)
            yield Case(2, f"own code for {name}, stdin {answer[:1]!r}", act, EITHER, seconds=10)
    yield Case(2, "weights in a pickle only", _pickled_weights)


def _with_code(auto_map: Json, answer: bytes) -> None:
    os.dup2(os.open(written("stdin", answer), os.O_RDONLY), 0)
    folder = model_copy()
    written(folder / "evil.py", EVIL)
    _changed(folder / "config.json", "auto_map", auto_map)
    if "AutoTokenizer" in auto_map:
        _changed(folder / "tokenizer_config.json", "auto_map", auto_map)
    else:
        _changed(folder / "config.json", "model_type", "own_model")
    _loaded(folder)


def _pickled_weights() -> None:
    folder = model_copy()
    (folder / "model.safetensors").unlink()
    written(folder / "pytorch_model.bin", PICKLE)
    _loaded(folder)


# --- adapters ---------------------------------------------------------------------------------------------------------


def _adapters() -> Iterator[Case]:
    for field, values in ADAPTER.items():
        for value in values:
            shown = "gone" if value is GONE else repr(value)
            yield Case(2, f"adapter_config.json, {field} is {shown}", partial(_with_adapter, field, value), EITHER)
    for content in (b"", b"null", b"[]", b"{", b"\x00", b"[" * 5000):
        act = partial(_with_adapter_file, "adapter_config.json", content)
        yield Case(2, f"adapter_config.json is {content[:8]!r}", act)
    for content in (b"", b"\xff" * 8, PICKLE, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"):
        act = partial(_with_adapter_file, "adapter_model.safetensors", content)
        yield Case(2, f"an adapter's weights are {content[:8]!r}", act)
    yield Case(2, "an adapter in a pickle", _pickled_adapter, says="pickle")
    yield Case(2, "an adapter of another model", _adapter_of_another)
    for name in ("", "no/such/adapter", "/nothing", "x" * 5000, "a\0b", "half \ud83d"):
        yield Case(2, f"an adapter named {name[:9]!a}", partial(_loaded, MODEL, adapter=name))


def _with_adapter(field: str, value: Json) -> None:
    folder = adapter_copy()
    _changed(folder / "adapter_config.json", field, value)
    _loaded(MODEL, adapter=folder)


def _with_adapter_file(name: str, content: bytes) -> None:
    folder = adapter_copy()
    written(folder / name, content)
    _loaded(MODEL, adapter=folder)


def _pickled_adapter() -> None:
    folder = adapter_copy()
    (folder / "adapter_model.safetensors").unlink()
    written(folder / "adapter_model.bin", PICKLE)
    _loaded(MODEL, adapter=folder)


def _adapter_of_another() -> None:
    _loaded("mini-pythia-2m", adapter=stage().adapter)


# --- GGUF -------------------------------------------------------------------------------------------------------------

_U32, _U64 = "<I", "<Q"


def _pairs(*parts: bytes) -> bytes:
    return b"GGUF" + struct.pack(_U32, 3) + b"".join(parts)


def _number(value: int) -> bytes:
    return struct.pack(_U64, value)


GGUF = {
    "empty": b"",
    "not GGUF": b"hello",
    "cut after the magic": b"GGUF",
    "2**63 pairs": _pairs(_number(0), _number(2**63)),
    "2**63 tensors": _pairs(_number(2**63), _number(0)),
    "a key of 2**60 bytes": _pairs(_number(0), _number(1), _number(2**60)),
    "an unknown type": _pairs(_number(0), _number(1), _number(1), b"k", struct.pack(_U32, 99)),
    "a list of 2**60": _pairs(_number(0), _number(1), _number(1), b"k", struct.pack("<IIQ", 9, 0, 2**60)),
    "a list of lists": _pairs(_number(0), _number(1), _number(1), b"k", struct.pack("<IIQ", 9, 9, 1) * 50),
    "no pairs": _pairs(_number(0), _number(0)),
    "NULs": b"GGUF" + b"\x00" * 200,
}


def _gguf() -> Iterator[Case]:
    for name, content in GGUF.items():
        yield Case(2, f"a GGUF file: {name}", partial(_with_gguf, content), seconds=30)


def _with_gguf(content: bytes) -> None:
    _loaded(written("model.gguf", content))


# --- templates, patterns, pins ----------------------------------------------------------------------------------------


def _templates() -> Iterator[Case]:
    for template in TEMPLATES:
        yield Case(2, f"chat template {template!a}", partial(_with_template, template), EITHER, seconds=15)


def _with_template(template: str) -> None:
    lm = stage().lm
    lm.tokenizer.chat_template = template
    try:
        labkit.predict(lm, stage().corpus["test"][:1], labkit.DecodingConfig(max_new_tokens=1), chat=True)
    finally:
        _no_code_ran()


def _patterns() -> Iterator[Case]:
    for pattern in PATTERNS:
        right = EITHER if pattern == "" else (LINE,)
        yield Case(2, f"lora_modules {pattern!a}", partial(attach_adapter, stage().lm, modules=pattern), right)
    for r in (0, -1, 1.5, "x", None, float("nan"), True):
        right = EITHER if r is True else (LINE,)
        yield Case(2, f"a LoRA of rank {r!r}", partial(attach_adapter, stage().lm, r=r), right)
    for dropout in (-0.1, 1, 1.5, float("nan"), "x", None):
        yield Case(2, f"LoRA dropout {dropout!r}", partial(attach_adapter, stage().lm, dropout=dropout))


def _pins() -> Iterator[Case]:
    for place in PLACES:
        yield Case(2, f"a pin at {place!a}", partial(_pinned, {place: PIN}))
    for content in PINS:
        yield Case(2, f"pins are {content!r:.60}", partial(_pinned, content))
    for text in ("", "{", "\x00", "[" * 5000):
        yield Case(2, f"the file of pins is {text[:8]!r}", partial(_pinned_by, text))
    yield Case(2, "a link in the cache is not followed", _link_in_the_cache, (LINE, RESULT))


def _pinned(content: Json) -> None:
    _pinned_by(json.dumps(content))


def _pinned_by(text: str) -> None:
    os.environ["LAB_MULTIWOZ_PINS"] = str(written("pins.json", text))
    pins()


def _link_in_the_cache() -> None:
    """The corpus' file, and what is written beside it, lead to a file of the user's."""
    from attacks.network import serving

    bashrc = written("bashrc", "years of work")
    folder = Path(os.environ["LAB_CACHE"]) / "multiwoz22"
    folder.mkdir(parents=True)
    for name in ("x.json", "x.json.part", "COMPLETE"):
        os.symlink(bashrc.resolve(), folder / name)
    os.environ["LAB_MULTIWOZ_PINS"] = str(written("pins.json", json.dumps({"x.json": {**PIN, "blob": _BLOB_OF_X}})))
    with serving(b"x") as address:
        os.environ["LAB_MULTIWOZ_URL"] = address
        try:
            fetch_multiwoz22()
        finally:
            expect(bashrc.read_text() == "years of work", "the link's target was written")


_BLOB_OF_X = "c1b0730e0133447badcfd47fd144e254807b06e1"
