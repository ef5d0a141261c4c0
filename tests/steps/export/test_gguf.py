"""GGUF files, read back by transformers and by gguf's own reader: the same weights, tokens and templates."""

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from presets.model_preset import model_presets
from recipes.reader import RecipeError, load
from recipes.recipe import Recipe
from recipes.serving import Export
from steps.common.gguf.architectures import why_not_config, why_not_preset
from steps.common.gguf.quantisations import BYTES_PER_WEIGHT
from steps.common.gguf.tokenizers import GgufTokenizer, identify_tokenizer, read_gguf_tokenizer
from steps.common.runtime.errors import UserError
from steps.export.gguf_file import GgufMetadata, write_gguf
from steps.plan.exportable import check_exportable
from steps.plan.model import listed_files

ROWS = 416  # of the embedding matrix: more than the tokenizer has tokens
SMALL: dict[str, Any] = {
    "vocab_size": ROWS,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama-tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama-scaled": ("LlamaConfig", {"rope_parameters": SCALED}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "phi3": ("Phi3Config", {}),
    "qwen2": ("Qwen2Config", {}),
    # transformers' GGUF reader supports only the usual head dimension.
    "qwen3": ("Qwen3Config", {"head_dim": 128}),
}
METADATA = GgufMetadata(name="pet-store", version="v3", licence="mit", base="tiny", base_uri="file:///tiny")


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path) -> Path:
    return build(tmp_path / "model", tiny_model, request.param)


def build(folder: Path, tiny_model: Path, family: str) -> Path:
    """A model of random weights, biases and norms, with the tiny model's tokenizer."""
    import torch
    import transformers

    name, more = FAMILIES[family]
    torch.manual_seed(3)
    made = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**{**SMALL, **more}))
    for parameter in made.parameters():
        # With the initial values attention is uniform, and wrongly permuted heads would go unnoticed.
        parameter.data = torch.rand_like(parameter) + 0.5 if parameter.dim() == 1 else 8 * parameter.data
    made.to(torch.bfloat16).save_pretrained(folder)
    for file in tiny_model.iterdir():
        if file.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(file, folder / file.name)
    return folder


def written(model: Path, quantisation: str) -> Path:
    target = model.parent / f"{quantisation}.gguf"
    write_gguf(model, target, quantisation, METADATA)
    return target


def fields(file: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def logits(folder: Path, **how: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how).eval()
    with torch.inference_mode():
        return loaded(torch.tensor([[1, *range(5, 60, 3), 2]])).logits


def read_back(file: Path) -> Any:
    from transformers import GgufConfig

    return logits(file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True))


def test_it_computes_what_the_merged_model_computes(model: Path) -> None:
    import torch

    before = logits(model)
    if (model / "config.json").read_text().count('"llama3"'):
        # transformers' GGUF reader ignores rope scaling; the test below checks what is written.
        return
    assert torch.allclose(read_back(written(model, "bf16")), before, atol=1e-4)
    close = read_back(written(model, "q8_0"))
    assert torch.corrcoef(torch.stack([before.flatten(), close.flatten()]))[0, 1] > 0.999


def test_scaled_rotary_embeddings_are_written_as_divisors_of_their_frequencies(
    tmp_path: Path, tiny_model: Path
) -> None:
    from gguf import GGUFReader

    file = written(build(tmp_path / "model", tiny_model, "llama-scaled"), "f16")
    (divisors,) = [tensor.data for tensor in GGUFReader(file).tensors if tensor.name == "rope_freqs.weight"]
    # Of eight frequencies, the one with a wavelength below 32 / 4 tokens stays; those above 32 are divided by 8.
    assert divisors[0] == pytest.approx(1.0)
    assert 1 < divisors[1] < 8
    assert list(divisors[2:]) == pytest.approx([8.0] * 6)


@pytest.mark.parametrize("quantisation", BYTES_PER_WEIGHT)
def test_every_quantisation_of_a_recipe_is_written(tmp_path: Path, tiny_model: Path, quantisation: str) -> None:
    from gguf import GGUFReader

    Export(gguf=quantisation)
    file = written(build(tmp_path / "model", tiny_model, "llama"), quantisation)
    kinds = {tensor.name: tensor.tensor_type.name.lower() for tensor in GGUFReader(file).tensors}
    assert kinds["blk.1.ffn_up.weight"] == quantisation
    assert kinds["output.weight"] == kinds["token_embd.weight"] == ("q8_0" if quantisation[1] in "45" else quantisation)
    assert kinds["blk.1.attn_norm.weight"] == kinds["output_norm.weight"] == "f32"
    assert fields(file)["general.file_type"] > 0


def test_a_matrix_whose_rows_are_not_whole_blocks_stays_in_16_bits(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf import GGUFReader

    monkeypatch.setitem(SMALL, "intermediate_size", 72)
    file = written(build(tmp_path / "model", tiny_model, "llama"), "q4_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(file).tensors}
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.0.ffn_up.weight"]) == ("F16", "Q4_0")


def test_the_tokenizer_encodes_as_before_and_has_its_template(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    file = written(build(tmp_path / "model", tiny_model, "llama"), "q8_0")
    before = AutoTokenizer.from_pretrained(tiny_model)
    after = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    for text in ("we are open", " it's  7 days,\n\n\t365 or 12345", "<|im_start|>user\nÄ汉🙂<|im_end|>", ""):
        assert after(text).input_ids == before(text).input_ids
    chat = [{"role": "user", "content": "open?"}]
    assert after.apply_chat_template(chat, tokenize=False) == before.apply_chat_template(chat, tokenize=False)
    metadata = fields(file)
    assert metadata["tokenizer.ggml.pre"] == "gpt-2"
    assert (metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.add_bos_token"]) == (2, False)
    assert len(metadata["tokenizer.ggml.tokens"]) == ROWS
    assert metadata["tokenizer.ggml.tokens"][-1] == f"[PAD{ROWS - 1}]"
    assert (metadata["tokenizer.ggml.token_type"][1], metadata["tokenizer.ggml.token_type"][-1]) == (3, 5)


def test_the_file_states_its_name_and_its_base(tmp_path: Path, tiny_model: Path) -> None:
    metadata = fields(written(build(tmp_path / "model", tiny_model, "qwen2"), "q4_0"))
    assert (metadata["general.name"], metadata["general.version"], metadata["general.license"]) == (
        "pet-store",
        "v3",
        "mit",
    )
    assert metadata["general.base_model.0.repo_url"] == "file:///tiny"
    assert (metadata["general.architecture"], metadata["qwen2.attention.head_count_kv"]) == ("qwen2", 2)


def test_weights_that_f16_cannot_hold_are_named(tmp_path: Path, tiny_model: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = build(tmp_path / "model", tiny_model, "llama")
    held = load_file(model / "model.safetensors")
    held["model.layers.0.mlp.up_proj.weight"][0, 0] = 70000.0
    save_file(held, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"f16 cannot hold model\.layers\.0\.mlp\.up_proj\.weight.*use bf16"):
        written(model, "f16")
    written(model, "bf16")


def cut_by(*parts: Any, whole_words: bool = False, normalizer: Any = None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(parts))
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def test_a_tokenizer_is_identified_by_how_it_splits_text() -> None:
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    qwen = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
    threes = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX.replace(r"\p{N}|", r"\p{N}{1,3}|")), "isolated")
    assert identify_tokenizer(cut_by(gpt2)) == GgufTokenizer("gpt2", "gpt-2")
    assert identify_tokenizer(cut_by(digits, gpt2)) == GgufTokenizer("gpt2", "smollm")
    assert identify_tokenizer(cut_by(qwen, letters, normalizer=normalizers.NFC())) == GgufTokenizer("gpt2", "qwen2")
    assert identify_tokenizer(cut_by(threes, letters)) == GgufTokenizer("gpt2", "dbrx")
    assert identify_tokenizer(cut_by(threes, letters, whole_words=True)) == GgufTokenizer("gpt2", "llama-bpe")
    assert identify_tokenizer(cut_by(gpt2, normalizer=normalizers.Lowercase())) is None
    assert identify_tokenizer(cut_by(pre_tokenizers.ByteLevel(add_prefix_space=True))) is None
    assert identify_tokenizer(cut_by(pre_tokenizers.Whitespace())) is None


def test_an_unknown_tokenizer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers

    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        read_gguf_tokenizer(tmp_path)
    cut_by(pre_tokenizers.Whitespace()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"use export\.merged=true"):
        read_gguf_tokenizer(tmp_path)


@pytest.mark.parametrize("name", [name for name, preset in model_presets().items() if not preset.cannot_be_tuned])
def test_presets_of_unsupported_families_are_refused(name: str) -> None:
    refused = name.startswith(("falcon", "gemma", "phi-2"))
    assert bool(why_not_preset(name)) is refused


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gpt_neox"}, "the architecture 'gpt_neox' is not supported; GGUF can be written for llama,"),
        ({"model_type": "llama", "rope_scaling": {"type": "dynamic"}}, "of type 'dynamic'"),
        ({"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 32768}, "window of 4096 tokens"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "its activation is 'gelu'"),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 4096,
                "max_position_embeddings": 32768,
                "use_sliding_window": False,
            },
            "",
        ),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}}, ""),
    ],
)
def test_a_config_that_llama_cpp_would_compute_differently_is_refused(config: dict[str, Any], reason: str) -> None:
    refusal = why_not_config(config)
    assert reason in refusal
    assert bool(refusal) is bool(reason)


def recipe(model: str, gguf: str) -> Recipe:
    return load(f"name: a\ndata: {{train: a.jsonl}}\nmodel: '{model}'\nexport: {{gguf: {gguf}}}\n")


def test_an_unknown_quantisation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"export\.gguf: input should be 'none', 'bf16'.* or 'q4_0', not 'q4_k_m'"):
        recipe("qwen3-8b", "q4_k_m")
    assert get_args(Export.model_fields["gguf"].annotation) == ("none", *BYTES_PER_WEIGHT)


def test_what_cannot_be_written_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    def check(wanted: Recipe) -> None:
        check_exportable(wanted, listed_files(wanted.model))

    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"export\.gguf: the architecture 'gpt_neox' is not supported; .* set export\.merged=true"
    ):
        check(recipe(tmp_path.as_uri(), "q8_0"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        UserError, match=r"export\.gguf: the model has no tokenizer\.json to make a vocabulary from; set"
    ):
        check(recipe(tmp_path.as_uri(), "q8_0"))
    (tmp_path / "tokenizer.json").write_text("{}")
    check(recipe(tmp_path.as_uri(), "q8_0"))
    with pytest.raises(UserError, match=r"export\.gguf: the architecture of falcon-7b is not supported"):
        check(recipe("falcon-7b", "q8_0"))
    check(recipe("falcon-7b", "none"))
    check(recipe("qwen3-8b", "q4_0"))
