"""Models: every way to name one, the number types, adapters, and one clear line for whatever is wrong."""

import base64
import importlib.util
import json
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace

import pytest
import tiny_models
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import labkit.models.find as loading
from labkit.decoding.generate import next_token_logits
from labkit.errors import LabError
from labkit.machine.network import Hub, hub_token
from labkit.machine.out_of_memory import memory_errors
from labkit.models import (
    attach_adapter,
    count_parameters,
    folded,
    load_adapter,
    load_model,
    lora_targets,
    merge,
    push_to_hub,
    save_adapter,
    save_model,
)
from labkit.models.alignment import ALIGNMENT, align_weights
from labkit.storage import read_json

PROMPT = [40, 41, 42, 43]


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def folder(architecture, tmp_path_factory):
    return tiny_models.saved(architecture, tmp_path_factory.mktemp("models") / architecture)


def with_adapter(folder, bits):
    """A model whose adapter does something."""
    lm = attach_adapter(load_model(str(folder), bits=bits))
    torch.manual_seed(1)
    for parameter in lm.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    lm.model.eval()
    return lm


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "dtype"), [(None, "float32"), (32, "float32"), (16, "bfloat16"), (8, None), (4, None)]
)
def test_the_device_decides_the_dtype_not_the_checkpoint(folder, bits, dtype):
    """A float16 checkpoint (pythia's) would be computed in float16, at a crawl on a CPU. The head stays whole."""
    lm = load_model(str(folder), bits=bits, device="cpu")
    assert lm.bits == (bits or 32)
    assert lm.dtype == (dtype or "float32")
    assert not lm.model.training
    head = lm.model.get_output_embeddings()
    assert type(head) is torch.nn.Linear
    assert head.weight.dtype == getattr(torch, lm.dtype)
    if bits in (4, 8):
        kinds = {type(module).__name__ for module in lm.model.modules()}
        assert {4: "Linear4bit", 8: "Linear8bitLt"}[bits] in kinds
    assert next_token_logits(lm, PROMPT).shape == (lm.model.config.vocab_size,)


def test_four_bit_parameters_are_counted_whole(folder):
    """Two weights share a byte: the original reported 50 of 1,100 parameters as trainable where 100 were."""
    full, quantised = load_model(str(folder), bits=32), load_model(str(folder), bits=4)
    assert quantised.n_parameters == full.n_parameters
    assert count_parameters(attach_adapter(quantised).model) == count_parameters(attach_adapter(full).model)


def test_the_padded_vocabulary_stays(tmp_path):
    """Pythia's embeddings have more rows than its tokenizer has tokens; resizing to the tokenizer cut them off."""
    lm = load_model(str(tiny_models.saved("neox", tmp_path, vocab_size=320)))
    assert len(lm.tokenizer) < 320
    assert lm.model.config.vocab_size == 320
    assert lm.codec.pad_id < len(lm.tokenizer)
    assert attach_adapter(lm).base.get_input_embeddings().weight.shape[0] == 320


def test_a_saved_stand_in_keeps_its_rotary_dimensions(tmp_path):
    """transformers 5.0 reads one name of them only, and took a quarter instead of all from what 5.17 had written."""
    lm, ids = load_model("mini-pythia-500k", bits=32), torch.tensor([[40, 41, 42, 43, 44, 45]])
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["rotary_pct"] == 1.0
    with torch.no_grad():
        before, after = (each.model(ids).logits for each in (lm, load_model(str(tmp_path), bits=32)))
    assert torch.allclose(before, after, atol=1e-5)


def test_fresh_weights_are_reproducible_and_not_the_checkpoints(folder):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (load_model(str(folder), reinitialise=True, seed=3) for _ in range(2))
    assert torch.rand(1) == expected, "loading must not use up the caller's random numbers"
    weight, again = first.model.get_output_embeddings().weight, second.model.get_output_embeddings().weight
    assert torch.equal(weight, again)
    assert not torch.allclose(weight, load_model(str(folder)).model.get_output_embeddings().weight)


def test_a_gguf_file_is_converted_once_and_whole(tmp_path, monkeypatch):
    """Reading GGUF takes half a minute; a conversion that was cut off must not be taken for a model."""
    file, calls = tmp_path / "tiny.gguf", []
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    monkeypatch.setattr(loading, "cache_dir", lambda: tmp_path / "cache")

    def convert(path, target):
        calls.append(path)
        (target / "config.json").write_text("{")
        if len(calls) == 1:
            raise KeyboardInterrupt
        tiny_models.saved("llama", target)

    monkeypatch.setattr(loading, "_convert", convert)
    with pytest.raises(KeyboardInterrupt):
        load_model(str(file))
    assert not list((tmp_path / "cache" / "gguf").iterdir())
    assert load_model(str(file)).name == load_model(str(tmp_path)).name.replace(str(tmp_path), str(file))
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["bits=5", "quantised fresh"])
def test_bits_that_are_none(folder, name):
    options = {"bits=5": {"bits": 5}, "quantised fresh": {"bits": 4, "reinitialise": True}}[name]
    with pytest.raises(LabError, match="choose"):
        load_model(str(folder), **options)


# --- what is no model -------------------------------------------------------------------------------------------------


def refused(name) -> str:
    with pytest.raises(LabError) as error:
        load_model(str(name))
    assert "\n" not in str(error.value), "one line"
    return str(error.value)


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "model.safetensors, tokenizer.json" in refused(tmp_path)


def test_a_broken_weights_file(tmp_path):
    tiny_models.saved("neox", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load model" in refused(tmp_path)


def test_weights_of_another_shape(tmp_path):
    """transformers only warns when weights are missing from the file, and goes on with random ones."""
    tiny_models.saved("neox", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert "missing" in refused(tmp_path)


def test_an_adapter_given_as_a_model(folder, tmp_path):
    save_adapter(attach_adapter(load_model(str(folder))), tmp_path / "adapter")
    assert "adapter=" in refused(tmp_path / "adapter")


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "nowhere.gguf"])
def test_a_path_that_leads_nowhere(name):
    assert "no" in refused(name)


def test_no_network_is_not_called_an_unknown_model(monkeypatch):
    monkeypatch.setattr(loading, "hub_status", lambda: Hub(False, "no answer", "endpoint"))
    message = refused("mini-pytia-8m")
    assert "did you mean mini-pythia-8m" in message
    assert "no answer" in message
    assert "no answer" in refused("nobody/nothing")


@pytest.mark.parametrize(("kind", "says"), [("RepositoryNotFoundError", "no model"), ("GatedRepoError", "HF_TOKEN")])
def test_what_the_hub_answers(monkeypatch, kind, says):
    import httpx
    import huggingface_hub

    def answer(*_, **__):
        raise getattr(huggingface_hub.errors, kind)(
            "no", response=httpx.Response(404, request=httpx.Request("GET", "http://h"))
        )

    monkeypatch.setattr(loading, "hub_status", lambda: Hub(True, "answers", "endpoint"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    assert says in refused("someone/something")


def test_out_of_memory_says_what_to_change():
    with pytest.raises(LabError, match="smaller batch"), memory_errors("choose a smaller batch"):
        torch.empty(2**60)


# --- adapters ---------------------------------------------------------------------------------------------------------

LAYERS = {
    "neox": {"attention": {"query_key_value", "dense"}, "ffn": {"dense_h_to_4h", "dense_4h_to_h"}},
    "llama": {
        "attention": {"q_proj", "k_proj", "v_proj", "o_proj"},
        "ffn": {"gate_proj", "up_proj", "down_proj"},
    },
}


def test_module_options_choose_what_they_say(architecture):
    """In the original every option gave all linear layers, so the exercise on them could not be answered."""
    model, _ = tiny_models.build(architecture)
    found = {kind: lora_targets(model, kind) for kind in ("attention", "ffn", "linear")}
    for kind, expected in LAYERS[architecture].items():
        assert {name.split(".")[-1] for name in found[kind]} == expected
    assert sorted(found["attention"] + found["ffn"]) == sorted(found["linear"])
    assert not any("lm_head" in name for name in found["linear"])
    second = lora_targets(model, r"layers\.1\..*(query_key_value|q_proj)")
    assert len(second) == 1
    assert ".1." in second[0]


def test_modules_that_match_nothing_list_the_candidates(architecture):
    model, _ = tiny_models.build(architecture)
    with pytest.raises(LabError, match=r"layers\.N\.mlp"):
        lora_targets(model, "nonsense")
    with pytest.raises(LabError, match="regular expression"):
        lora_targets(model, "(")


def test_only_the_adapter_is_trained_and_it_learns(folder):
    for bits in (4, 32):
        lm = attach_adapter(load_model(str(folder), bits=bits), modules="attention")
        ids = torch.tensor([PROMPT])
        lm.model.train()(input_ids=ids, labels=ids).loss.backward()
        trained = {name for name, p in lm.model.named_parameters() if p.grad is not None}
        assert trained
        assert all("lora_" in name and "mlp" not in name for name in trained)


@pytest.mark.parametrize("bits", [32, 4])
def test_an_adapter_is_saved_and_loaded(folder, tmp_path, bits):
    lm = with_adapter(folder, bits)
    before = next_token_logits(lm, PROMPT)
    assert abs(before - next_token_logits(load_model(str(folder), bits=bits), PROMPT)).max() > 0.1
    save_adapter(lm, tmp_path / "adapter")
    save_adapter(lm, tmp_path / "adapter")
    again = load_model(str(folder), bits=bits, adapter=tmp_path / "adapter")
    assert (next_token_logits(again, PROMPT) == before).all()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"], "nothing temporary is left"
    with pytest.raises(LabError, match="already has"):
        attach_adapter(again)


def test_a_save_that_fails_leaves_the_old_adapter(folder, tmp_path, monkeypatch):
    lm = with_adapter(folder, 32)
    save_adapter(lm, tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}

    def half(target, **__):
        (target / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(lm.model, "save_pretrained", half)
    with pytest.raises(LabError, match="No space left"):
        save_adapter(lm, tmp_path / "adapter")
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_saved_adapter_names_its_base_and_not_this_machine(folder, tmp_path):
    lm = load_model(str(folder))
    lm.name = "mini-pythia-8m"
    save_adapter(attach_adapter(lm), tmp_path / "adapter")
    assert read_json(tmp_path / "adapter" / "adapter_config.json")["base_model_name_or_path"] == "mini-pythia-8m"
    assert not any(str(folder).encode() in path.read_bytes() for path in (tmp_path / "adapter").iterdir())


def test_an_adapter_of_another_model_is_refused(tmp_path):
    neox, llama = (tiny_models.saved(kind, tmp_path / kind) for kind in tiny_models.ARCHITECTURES)
    save_adapter(attach_adapter(load_model(str(neox))), tmp_path / "adapter")
    with pytest.raises(LabError, match="does not fit"):
        load_adapter(load_model(str(llama)), tmp_path / "adapter")
    with pytest.raises(LabError, match=r"adapter_config\.json"):
        load_adapter(load_model(str(llama)), tmp_path)


def test_merged_weights_say_the_same(folder):
    lm = with_adapter(folder, 32)
    before = next_token_logits(lm, PROMPT)
    merged = merge(lm)
    assert merged.adapter is None
    assert abs(next_token_logits(merged, PROMPT) - before).max() < 1e-4
    assert (next_token_logits(lm, PROMPT) == before).all(), "the model with its adapter is as it was"


def test_an_adapter_on_four_bits_is_merged_into_32(folder, tmp_path):
    """Merged into 4-bit weights, 39 % of the adapter's effect was lost to rounding."""
    lm = with_adapter(folder, 4)
    save_adapter(lm, tmp_path / "adapter")
    merged = merge(lm)
    assert merged.bits == 32
    exact = load_model(str(folder), bits=32, adapter=tmp_path / "adapter")
    assert abs(next_token_logits(merged, PROMPT) - next_token_logits(exact, PROMPT)).max() < 1e-4


@pytest.mark.parametrize("bits", [4, 32])
def test_a_folded_model_is_what_was_trained_and_not_what_was_before_quantising(folder, bits):
    """`merge` gives back what 4 bits lost, so its replies are others; a bot that talks faster has to say the same."""
    lm = with_adapter(folder, bits)
    before = next_token_logits(lm, PROMPT)
    quick = folded(lm)
    assert not quick.has_adapter and quick.bits == 32 and quick.name == lm.name
    assert not any(type(module).__name__ == "Linear4bit" for module in quick.model.modules())
    assert abs(next_token_logits(quick, PROMPT) - before).max() < 1e-4
    assert (next_token_logits(lm, PROMPT) == before).all() and lm.has_adapter, "the handle is as it was"
    if bits == 4:
        assert abs(next_token_logits(merge(lm), PROMPT) - before).max() > 1e-2


@pytest.mark.parametrize(("bits", "with_one"), [(16, True), (8, True), (32, False)])
def test_what_would_be_rounded_or_has_nothing_to_fold_stays_as_it_is(folder, bits, with_one):
    lm = with_adapter(folder, bits) if with_one else load_model(str(folder), bits=bits, device="cpu")
    assert folded(lm) is lm


def test_a_model_that_was_saved_and_loaded_gave_other_logits_by_where_its_file_put_the_weights(folder, tmp_path):
    """On some processors a product with one vector adds up in an order that hangs on its matrix's address."""
    save_model(load_model(str(folder)), tmp_path / "again")
    model = load_model(str(tmp_path / "again")).model
    assert {weight.data_ptr() % ALIGNMENT for weight in model.parameters()} == {0}


@pytest.mark.parametrize("longer", [0, 8, 40])
def test_weights_that_are_moved_within_their_file_are_the_same(tmp_path, longer):
    file = tmp_path / "model.safetensors"
    weights = {"a": torch.randn(3, 5), "b": torch.arange(4)}
    save_file(weights, file, metadata={"longer": longer * "-"})
    align_weights(tmp_path)
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
    assert (8 + length) % ALIGNMENT == 0
    found = load_file(file)
    assert all(torch.equal(found[name], weights[name]) for name in weights) and len(found) == 2


def test_a_saved_model_is_whole(folder, tmp_path):
    """Weights, tokenizer and vocabulary come back; an adapter or quantised weights cannot be saved as a model."""
    merged = merge(with_adapter(folder, 32))
    save_model(merged, tmp_path / "merged")
    again = load_model(str(tmp_path / "merged"))
    assert (next_token_logits(again, PROMPT) == next_token_logits(merged, PROMPT)).all()
    assert again.codec.encode("user> hi\nbot>") == merged.codec.encode("user> hi\nbot>")
    assert again.codec.stop_ids == merged.codec.stop_ids
    for wrong in (with_adapter(folder, 32), load_model(str(folder), bits=4)):
        with pytest.raises(LabError):
            save_model(wrong, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_stand_in_stays_one_when_it_is_saved(folder, tmp_path, monkeypatch):
    """A merged mini-pythia is still a stand-in, and its numbers must say so."""
    monkeypatch.setattr(loading, "WEIGHTS", tmp_path)
    save_model(load_model(str(folder)), tmp_path / "mini-pythia-2m")
    assert not load_model(str(tmp_path / "mini-pythia-2m")).stand_in
    lm = load_model("mini-pythia-2m")
    assert lm.stand_in
    save_model(merge(attach_adapter(lm)), tmp_path / "tuned")
    assert load_model(str(tmp_path / "tuned")).stand_in


class LoopbackHub:
    """As much of the Hub as an upload needs: repositories that are created, and files that are committed to them."""

    def __init__(self, token):
        self.repositories, self.files, hub = [], {}, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.headers["Authorization"] != f"Bearer {token}":
                    return self.answer({"error": "unauthorised"}, 401)
                return self.answer(hub.post(self.path, body))

            def answer(self, value, code=200):
                text = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, path, body):
        if path == "/api/repos/create":
            asked = json.loads(body)
            private = asked.get("private") or asked.get("visibility") == "private"  # its name in newer versions
            self.repositories.append((f"{asked['organization']}/{asked['name']}", private))
            return {"url": f"http://127.0.0.1/{self.repositories[-1][0]}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:  # "regular": the content comes within the commit
            files = json.loads(body)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        assert path == f"/api/models/{self.repositories[-1][0]}/commit/main", path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"http://127.0.0.1/{self.repositories[-1][0]}/commit/{'0' * 40}", "commitOid": "0" * 40}


@pytest.fixture
def hub(monkeypatch):
    """A Hub on the loopback address; HF_TOKEN is the one it knows."""
    from huggingface_hub import constants

    loopback = LoopbackHub("hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{loopback.server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield loopback
    loopback.server.shutdown()
    loopback.server.server_close()


def test_a_push_creates_the_repository_and_uploads_a_model_with_its_scores(folder, hub, tmp_path, monkeypatch, capsys):
    """Traps: an upload without a repository; the base's tokenizer; a card without scores, or with another adapter's;
    the token in a file or on the screen."""
    from labkit.cli import main
    from labkit.results.board import Board

    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    save_adapter(with_adapter(folder, 32), tmp_path / "adapter")
    (tmp_path / "adapter" / "run.json").write_text('{"learning_rate": 0.002}')
    scores = {"corpus": "miniwoz", "split": "test", "dialogues": 9, "bleu": 12.5, "inform": 60.0, "success": 41.0}
    Board().add({"adapter": str(tmp_path / "adapter"), **scores})
    Board().add({"adapter": str(tmp_path / "other"), **scores, "bleu": 99.0})
    flags = ["--adapter", str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]
    assert main(["merge", "--model", str(folder), *flags, "--push-to-hub", "someone/tuned"]) == 0
    assert hub.repositories == [("someone/tuned", True)]
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(hub.files)
    assert hub.files["model.safetensors"] == (tmp_path / "merged" / "model.safetensors").read_bytes()
    assert hub.files["tokenizer.json"] == (tmp_path / "merged" / "tokenizer.json").read_bytes()
    (tmp_path / "README.md").write_bytes(hub.files["README.md"])
    card = ModelCard.load(tmp_path / "README.md")
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told == {"bleu": 12.5, "inform": 60.0, "success": 41.0} and "learning_rate" in card.text
    assert "| miniwoz | test | 9 | 12.5 | 60.0 | 41.0 |" in card.text
    everything = capsys.readouterr().out.encode() + b"".join(hub.files.values())
    assert b"hf_secret" not in everything + b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_a_push_that_the_hub_refuses_is_one_line_without_the_token(folder, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(LabError, match="HF_TOKEN") as refused:
        push_to_hub(load_model(str(folder)), "someone/tuned")
    assert "hf_wrong" not in str(refused.value) and not hub.files


def test_the_token_comes_from_kaggles_secrets_where_there_is_no_other(monkeypatch):
    """Trap: huggingface_hub knows Colab's secrets only."""
    kaggle = ModuleType("kaggle_secrets")
    kaggle.__spec__ = importlib.util.spec_from_loader("kaggle_secrets", None)
    kaggle.UserSecretsClient = lambda: SimpleNamespace(get_secret=lambda name: f"{name} of Kaggle")
    monkeypatch.setitem(sys.modules, "kaggle_secrets", kaggle)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert hub_token() == "HF_TOKEN of Kaggle"
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "mine")
    assert hub_token() == "mine"


def test_loftq_begins_nearer_to_the_exact_model(folder):
    """Trap: alpha / r forgotten, or a LoRA that begins at random and so makes quantisation worse."""
    exact = next_token_logits(load_model(str(folder), bits=32), PROMPT)
    plain = next_token_logits(attach_adapter(load_model(str(folder), bits=4), r=16), PROMPT)
    begun = attach_adapter(load_model(str(folder), bits=4), r=16, alpha=48, init_lora_weights="loftq")
    assert abs(next_token_logits(begun, PROMPT) - exact).mean() < 0.9 * abs(plain - exact).mean()


def test_loftq_has_nothing_to_mend_in_exact_weights(folder):
    with pytest.raises(LabError, match="bits=4"):
        attach_adapter(load_model(str(folder), bits=32), init_lora_weights="loftq")


def test_the_stop_tokens_of_a_tokenizer(architecture):
    """A reply ends at its newline: a token of its own (GPT-NeoX) or a byte (Llama, which also begins with <s>)."""
    codec = tiny_models.language_model(architecture).codec
    newline = codec.encode("bot> yes\n")[-1]
    assert newline in codec.stop_ids
    assert codec.end[0] in codec.stop_ids
    assert codec.prefix == ([] if architecture == "neox" else [1])
    assert codec.decode(codec.encode(" i want a hotel .\n")) == "i want a hotel ."
