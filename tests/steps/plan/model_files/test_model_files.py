"""What is asked of a model's files before any of its weights are fetched: each fault is one line of the plan."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import steps.common.storage.retry
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.plan.model import resolve_model
from steps.plan.model_files import weight_headers
from steps.plan.model_files.loadable import _known
from steps.pull.publish import publish_model, publish_tokenizer
from tests.support.hub import point_at
from tests.support.source import COMMIT, CONFIG, Asked, Behaviour, Source, sibling, write_safetensors

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 500\n"
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/base"}
TENSORS: dict[str, tuple[str, list[int]]] = {
    "model.embed_tokens.weight": ("BF16", [100, 64]),
    "model.layers.0.mlp.up_proj.weight": ("BF16", [128, 64]),
    "model.layers.1.mlp.up_proj.weight": ("F32", [128, 32]),
    "lm_head.weight": ("F16", [100, 64]),
}
Change = Callable[[Path], object]


def tokenizer(vocabulary: Any, *added: tuple[int, str]) -> str:
    tokens = [{"id": number, "content": text, "special": True} for number, text in added]
    return json.dumps({"added_tokens": tokens, "model": {"vocab": vocabulary}})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder with two shards and their index."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["LlamaForCausalLM"]}))
    (folder / "tokenizer.json").write_text(tokenizer({"a": 0, "b": 98}, (99, "</s>")))
    (folder / "generation_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    names = list(TENSORS)
    for shard, held in zip(SHARDS, (names[:2], names[2:]), strict=True):
        write_safetensors(folder / shard, {name: TENSORS[name] for name in held})
    weight_map = {name: SHARDS[number > 1] for number, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def as_single_file(folder: Path, tensors: dict[str, tuple[str, list[int]]] | None = None) -> Path:
    for name in (*SHARDS, INDEX):
        (folder / name).unlink()
    write_safetensors(folder / "model.safetensors", tensors or TENSORS)
    return folder


def configure(folder: Path, file: str = "config.json", **changes: Any) -> Path:
    path = folder / file
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({name: value for name, value in {**found, **changes}.items() if value is not None}))
    return folder


def with_weight_map(folder: Path, **changes: str) -> Path:
    found = json.loads((folder / INDEX).read_text())["weight_map"]
    (folder / INDEX).write_text(json.dumps({"weight_map": found | changes}))
    return folder


def add_adapter(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))
    write_safetensors(folder / "adapter_model.safetensors", {"lora_A.weight": ("F32", [8, 32])})
    return folder


def only_adapter(folder: Path) -> Path:
    for file in folder.iterdir():
        file.unlink()
    add_adapter(folder)
    return folder


def delete(file: Path) -> Path:
    file.unlink()
    return file


def truncate(file: Path, size: int) -> Path:
    file.write_bytes(file.read_bytes()[:size])
    return file


def quantise(folder: Path, dtype: str) -> Path:
    as_single_file(folder, {**TENSORS, "model.layers.0.mlp.up_proj.weight": (dtype, [128, 64])})
    return folder


def without_head(folder: Path, architecture: str) -> Path:
    as_single_file(folder, {name: kind for name, kind in TENSORS.items() if name != "lm_head.weight"})
    configure(folder, architectures=[architecture])
    return folder


def pad_beyond(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text(tokenizer({"a": 0}, (100, "[PAD]")))
    configure(folder, "tokenizer_config.json", pad_token={"content": "[PAD]"}, eos_token="</s>")
    return folder


REFUSED: dict[str, tuple[Change, str]] = {
    "shard that is not there": (
        lambda m: delete(m / SHARDS[1]),
        f"{INDEX} names '{SHARDS[1]}', which is not there; complete the upload",
    ),
    "shard that is a git-lfs pointer": (
        lambda m: (m / SHARDS[1]).write_text(POINTER),
        f"{SHARDS[1]} is a git-lfs pointer, not the file itself; run 'git lfs pull'",
    ),
    "index that is a git-lfs pointer": (lambda m: (m / INDEX).write_text(POINTER), f"{INDEX} is a git-lfs pointer"),
    "tokenizer that is a git-lfs pointer": (
        lambda m: (m / "tokenizer.json").write_text(POINTER),
        "tokenizer.json is a git-lfs pointer",
    ),
    "index that is none": (lambda m: (m / INDEX).write_text('{"weight_map": {}}'), f"{INDEX} is not a weights index"),
    "tensor that its shard lacks": (
        lambda m: with_weight_map(m, **{"model.norm.weight": SHARDS[0]}),
        f"{INDEX} has the tensor 'model.norm.weight' in {SHARDS[0]}, which lacks it",
    ),
    "truncated weights": (
        lambda m: truncate(m / SHARDS[1], (m / SHARDS[1]).stat().st_size - 1),
        f"{SHARDS[1]} is truncated: it has",
    ),
    "truncated header": (lambda m: truncate(m / SHARDS[0], 40), f"{SHARDS[0]} is truncated: its header alone has"),
    "empty weights": (lambda m: truncate(m / SHARDS[0], 0), f"{SHARDS[0]} is truncated: it has 0 bytes"),
    "weights with more at the end": (
        lambda m: (m / SHARDS[0]).write_bytes((m / SHARDS[0]).read_bytes() + b"?"),
        f"{SHARDS[0]} is damaged: it has",
    ),
    "weights that are a page": (
        lambda m: (m / SHARDS[0]).write_bytes(b"<html>" * 100),
        f"{SHARDS[0]} is not a safetensors file",
    ),
    "header that is not JSON": (
        lambda m: (m / SHARDS[0]).write_bytes(struct.pack("<Q", 40) + b"?" * 40),
        f"{SHARDS[0]} is not a safetensors file",
    ),
    "weights in 8 bits": (
        lambda m: quantise(m, "F8_E4M3"),
        "is published quantised: model.layers.0.mlp.up_proj.weight",
    ),
    "weights in integers": (
        lambda m: quantise(m, "I8"),
        "is of type I8; choose the repository with the original weights",
    ),
    "weights in Mistral's layout alone": (
        lambda m: (as_single_file(m), (m / "model.safetensors").rename(m / "consolidated.safetensors")),
        f"has neither model.safetensors nor {INDEX}, but 'consolidated.safetensors'",
    ),
    "pickles alone": (
        lambda m: (as_single_file(m), (m / "model.safetensors").rename(m / "pytorch_model.bin")),
        "has no safetensors; choose a repository that has",
    ),
    "adapter alone": (
        only_adapter,
        "is an adapter of 'org/base', not a model; set model to that base: model: hf://org/base",
    ),
    "adapter alone with a config": (
        lambda m: (only_adapter(m), configure(m, model_type="llama")),
        "is an adapter of 'org/base'",
    ),
    "adapter that names no base": (
        lambda m: (only_adapter(m), (m / "adapter_config.json").write_text("{}")),
        "is an adapter without its base model; set model to that base",
    ),
    "fewer layers than its config": (
        lambda m: configure(m, num_hidden_layers=3),
        "its config.json has 3 layers, and its weights have 2",
    ),
    "another vocabulary than its config": (
        lambda m: configure(m, vocab_size=101),
        "its config.json has a vocab_size of 101, and its embedding has 100 rows",
    ),
    "reward model": (
        lambda m: without_head(m, "LlamaForSequenceClassification"),
        "its weights are those of LlamaForSequenceClassification, without a language model's head",
    ),
    "language model without its head": (
        lambda m: without_head(m, "LlamaForCausalLM"),
        "its weights lack the output embedding (lm_head)",
    ),
    "language model without its head, of a type that ties it by default": (
        lambda m: (without_head(m, "GemmaForCausalLM"), configure(m, model_type="gemma", tie_word_embeddings=False)),
        "its config.json does not tie it to the input embedding",
    ),
    "code": (
        lambda m: configure(m, model_type="internlm2", auto_map={"AutoModelForCausalLM": "modeling_internlm2.X"}),
        "its model_type 'internlm2' needs Python code of its repository (auto_map), which is never run; choose a model of",
    ),
    "unknown type": (lambda m: configure(m, model_type="llamma"), "loads no language model of model_type 'llamma'"),
    "type that generates no text": (
        lambda m: configure(m, model_type="t5"),
        "loads no language model of model_type 't5'",
    ),
    "no type": (lambda m: configure(m, model_type=None), "its config.json does not set model_type"),
    "tokenizer in code": (
        lambda m: (
            configure(m, model_type="afmoe"),
            configure(
                m,
                "tokenizer_config.json",
                tokenizer_class="OwnTokenizer",
                auto_map={"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]},
            ),
        ),
        "its tokenizer OwnTokenizer needs Python code of its repository",
    ),
    "added token without a row": (
        lambda m: (m / "tokenizer.json").write_text(tokenizer({"a": 0}, (100, "[PAD]"))),
        "its tokenizer has the token '[PAD]' with id 100, and its embedding has 100 rows; enlarge the embedding",
    ),
    "padding token without a row, with which the model pads itself": (
        lambda m: (pad_beyond(m), configure(m, pad_token_id=100)),
        "has the token '[PAD]' with id 100",
    ),
    "padding token without a row that ends texts too": (
        lambda m: (pad_beyond(m), configure(m, "tokenizer_config.json", pad_token="[PAD]", eos_token="[PAD]")),
        "has the token '[PAD]' with id 100",
    ),
    "padding token and another one without rows": (
        lambda m: (pad_beyond(m), configure(m, "added_tokens.json", **{"<extra>": 101})),
        "has the token '<extra>' with id 101",
    ),
    "added token in added_tokens.json": (
        lambda m: configure(m, "added_tokens.json", **{"<extra>": 120}),
        "has the token '<extra>' with id 120",
    ),
    "added token in tokenizer_config.json": (
        lambda m: configure(m, "tokenizer_config.json", added_tokens_decoder={"107": {"content": "<extra>"}}),
        "has the token '<extra>' with id 107",
    ),
    "vocabulary without rows": (
        lambda m: (m / "tokenizer.json").write_text(tokenizer({"a": 0, "b": 100})),
        "has the token 'b' with id 100",
    ),
    "list of a vocabulary without rows": (
        lambda m: (m / "tokenizer.json").write_text(tokenizer([["a", -1.5]] * 101)),
        "with id 100",
    ),
    "pieces without rows": (
        lambda m: (delete(m / "tokenizer.json"), (m / "tokenizer.model").write_bytes(b"\x0a\x03\x0a\x01a" * 101)),
        "with id 100",
    ),
    "no tokenizer": (lambda m: delete(m / "tokenizer.json"), "has no tokenizer; it needs tokenizer.json"),
    "tokenizer that is none": (lambda m: (m / "tokenizer.json").write_text("{}"), "tokenizer.json is not a tokenizer"),
    "tokenizer that is no JSON": (lambda m: (m / "tokenizer.json").write_text("{"), "cannot be read as JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_could_not_be_loaded_is_one_line_of_the_plan(name: str, model: Path) -> None:
    change, line = REFUSED[name]
    change(model)
    with pytest.raises(UserError) as refused:
        resolve_model(model.as_uri())
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


ACCEPTED: dict[str, Change] = {
    "as it is": lambda m: None,
    "code for older versions of transformers": lambda m: (
        configure(m, auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}),
        configure(m, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_phi3.X", None]}),
    ),
    "rows for tokens that the tokenizer does not have": lambda m: (m / "tokenizer.json").write_text(
        tokenizer({"a": 0})
    ),
    "token of another modality without a row": lambda m: (m / "tokenizer.json").write_text(
        tokenizer({"a": 0}, (100, "<image_soft_token>"))
    ),
    "class without a head, and tied": lambda m: (
        without_head(m, "LlamaModel"),
        configure(m, tie_word_embeddings=True),
    ),
    "language model without its head, of a type that ties it by default": lambda m: (
        without_head(m, "GPT2LMHeadModel"),
        configure(m, model_type="gpt2"),
    ),
    "head with another name": lambda m: as_single_file(
        m, {("output.weight" if "head" in name else name): kind for name, kind in TENSORS.items()}
    ),
    "more layers than its config": lambda m: configure(m, num_hidden_layers=1),
    "integers that are no weights": lambda m: as_single_file(m, {**TENSORS, "model.position_ids": ("I64", [4, 2])}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_model_that_can_be_loaded_is_planned(name: str, model: Path) -> None:
    ACCEPTED[name](model)
    assert resolve_model(model.as_uri()).bytes > 0


def test_a_padding_token_without_a_row_is_no_obstacle_and_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pad_beyond(model)
    resolve_model(model.as_uri())
    assert "warning: model " in (told := capsys.readouterr().err)
    assert "its padding token '[PAD]' has id 100, and its embedding has 100 rows" in told


def test_the_shards_are_taken_and_the_same_weights_in_other_layouts_are_not(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = resolve_model(model.as_uri())
    names = {file.name for file in model.iterdir()}
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "model.safetensors"):
        write_safetensors(model / name, TENSORS)
    (model / "consolidated.safetensors.index.json").write_text("{}")
    (model / "pytorch_model.bin").write_bytes(b"a pickle")
    (model / "model.onnx").write_bytes(b"a graph")
    (model / "original").mkdir()
    write_safetensors(model / "original" / "model.safetensors", TENSORS)
    resolved = resolve_model(model.as_uri())
    assert resolved.bytes == plain.bytes
    told = capsys.readouterr().err
    assert "its weights are the shards of its index; left alone: consolidated.safetensors, model.fp16" in told
    folder, _ = publish_model(resolved)
    assert {file.name for file in folder.iterdir()} == names | {"manifest.json"}
    tokens, _ = publish_tokenizer(resolved)
    assert (tokens / "chat_template.jinja").is_file()


def test_a_stale_index_is_not_taken_where_the_weights_are_a_single_file(model: Path) -> None:
    index = (model / INDEX).read_text()
    as_single_file(model)
    (model / INDEX).write_text(index)
    folder, _ = publish_model(resolve_model(model.as_uri()))
    assert [file.name for file in folder.glob("*.safetensors*")] == ["model.safetensors"]


def test_an_adapter_beside_the_full_model_is_left_alone_and_said(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = resolve_model(model.as_uri())
    add_adapter(model)
    resolved = resolve_model(model.as_uri())
    assert (
        "adapter_config.json and adapter_model.safetensors beside the full model left alone" in capsys.readouterr().err
    )
    assert (resolved.digest, resolved.bytes) == (plain.digest, plain.bytes)
    folder, _ = publish_model(resolved)
    assert not [*folder.glob("adapter_*")]


def test_weights_in_another_layout_do_not_change_what_a_base_is_called(model: Path) -> None:
    """0.1.0 fetched them: what it trained keeps its base, so nothing is trained again."""
    from steps.common.storage.files import digest_of, sha256_of

    write_safetensors(model / "consolidated.safetensors", TENSORS)
    files = [[file.name, sha256_of(file)] for file in sorted(model.iterdir())]
    resolved = resolve_model(model.as_uri())
    assert resolved.digest == digest_of(files)
    folder, _ = publish_model(resolved)
    assert not (folder / "consolidated.safetensors").exists()


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    source = Source(model)
    point_at(monkeypatch, source.url)
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.001)
    yield source
    source.close()


@pytest.mark.parametrize("name", ["shard that is not there", "shard that is a git-lfs pointer", "truncated weights"])
@pytest.mark.parametrize("place", ["hub", "website", "bucket"])
def test_the_headers_are_read_wherever_the_model_is(
    name: str, place: str, hub: Source, model: Path, request: pytest.FixtureRequest
) -> None:
    change, line = REFUSED[name]
    change(model)
    hub.listed = [sibling(file) for file in sorted(model.iterdir())]
    uri = {"hub": "hf://org/tiny", "website": f"{hub.url}/folder/", "bucket": "s3://chats/tiny"}[place]
    if place == "bucket":
        bucket = request.getfixturevalue("bucket")
        for file in model.iterdir():
            bucket.upload_file(str(file), "chats", f"tiny/{file.name}")
    with pytest.raises(UserError) as refused:
        resolve_model(uri)
    assert line in str(refused.value)


def test_only_the_header_of_large_weights_is_read_and_asked_for_again_on_a_network_that_stumbles(
    hub: Source, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"model.layers.{number % 2}.norm_{number}.weight": ("BF16", [64]) for number in range(1500)}
    as_single_file(model, {**TENSORS, "model.layers.0.mlp.down_proj.weight": ("BF16", [4096, 4096]), **many})
    hub.listed = [sibling(file) for file in sorted(model.iterdir())]
    sent: list[tuple[int, int]] = []

    def behave(asked: Asked) -> Behaviour:
        if asked.name != "model.safetensors":
            return Behaviour()
        sent.append((asked.start, asked.end))
        return [Behaviour(status=503), Behaviour(cut_after=100), Behaviour(), Behaviour(no_ranges=True)][len(sent) - 1]

    hub.behave = behave
    assert resolve_model("hf://org/tiny").uri.endswith(COMMIT)
    first = (0, weight_headers.FIRST_BYTES)
    assert sent[:3] == [first, first, first]
    assert sent[3][0] == weight_headers.FIRST_BYTES
    assert sent[3][1] < 1 << 18


def test_a_published_tokenizer_is_not_read_from_its_source_again(hub: Source) -> None:
    publish_tokenizer(resolve_model("hf://org/tiny"))
    hub.asked.clear()
    resolve_model("hf://org/tiny")
    assert {asked.name for asked in hub.asked} == {"config.json", INDEX, *SHARDS}


def test_a_mirror_of_a_preset_that_lacks_its_weights_is_refused_and_a_published_one_asks_nobody(
    hub: Source, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from presets.model_preset import find

    preset, _ = find("smollm2-135m-instruct")
    source = preset.sources["hf"].model_copy(update={"uri": f"hf://org/tiny@{COMMIT}"})
    mirrored = preset.model_copy(update={"sources": {"hf": source}})
    monkeypatch.setattr("steps.plan.model.find", lambda _: (mirrored, source))
    publish_model(resolve_model("smollm2-135m-instruct"))
    hub.asked.clear()
    assert resolve_model("smollm2-135m-instruct").uri == source.uri
    assert not hub.asked
    shutil.rmtree(volumes.weights())
    (model / SHARDS[0]).write_text(POINTER)
    hub.listed = [sibling(file) for file in sorted(model.iterdir())]
    with pytest.raises(UserError, match="is a git-lfs pointer"):
        resolve_model("smollm2-135m-instruct")


def test_the_known_types_are_those_of_the_installed_transformers() -> None:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    known = _known()
    again = "run images/model_types >steps/plan/model_files/model_types.yaml"
    minor = known["transformers"].rpartition(".")[0]
    assert transformers.__version__.startswith(f"{minor}."), again
    assert set(known["causal"]) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING_NAMES), again
    assert set(known["tokenizers"]) == set(TOKENIZER_MAPPING_NAMES), again
    untied = {kind: transformers.AutoConfig.for_model(kind) for kind in weight_headers.UNTIED_BY_DEFAULT}
    assert {kind for kind, config in untied.items() if config.tie_word_embeddings is not False} == set()
