"""A model whose tokenizer is a tokenizer.model alone, SentencePiece's or tiktoken's, is planned, pulled and tokenised."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steps.common.runtime.errors import UserError
from steps.plan.model import resolve_model
from steps.pull.publish import publish_tokenizer
from tests.conftest import WORDS
from tests.support.source import CONFIG, write_safetensors

TEXT = "we are open on monday, 24 hamsters"


def pieces(folder: Path, kind: str) -> tuple[int, Callable[[str], Any]]:
    """Train a SentencePiece model; return its size, and how it encodes."""
    import sentencepiece

    lines = folder / "lines.txt"
    lines.write_text("\n".join([" ".join(WORDS), "24 cats, 35 dogs! 1678 09"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=330,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    lines.unlink()
    (folder / "tokenizer.vocab").unlink()
    found = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return found.get_piece_size(), found.encode


def ranks(folder: Path, _kind: str) -> tuple[int, Callable[[str], Any]]:
    """Write tiktoken's format: every byte, and a merge."""
    tokens = [*(bytes([number]) for number in range(256)), b"we"]
    lines = [f"{base64.b64encode(token).decode()} {number}" for number, token in enumerate(tokens)]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    return len(tokens), lambda text: [256, *text.encode()[2:]]


@pytest.mark.parametrize(
    ("kind", "write", "tokenizer_class"),
    [
        ("bpe", pieces, "LlamaTokenizer"),
        ("unigram", pieces, "T5Tokenizer"),
        ("ranks", ranks, "PreTrainedTokenizerFast"),
    ],
)
def test_a_tokenizer_model_alone_is_enough(kind: str, write: Any, tokenizer_class: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    folder.mkdir()
    rows, encode = write(folder, kind)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": rows}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    write_safetensors(
        folder / "model.safetensors",
        {"model.embed_tokens.weight": ("BF16", [rows, 64]), "lm_head.weight": ("BF16", [rows, 64])},
    )
    published, _ = publish_tokenizer(resolve_model(folder.as_uri()))
    tokenizer = AutoTokenizer.from_pretrained(published)
    assert tokenizer(TEXT, add_special_tokens=False).input_ids == encode(TEXT)
    # One row fewer, and the last token has none.
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": rows - 1}))
    write_safetensors(
        folder / "model.safetensors",
        {"model.embed_tokens.weight": ("BF16", [rows - 1, 64]), "lm_head.weight": ("BF16", [rows - 1, 64])},
    )
    with pytest.raises(UserError, match=f"with id {rows - 1}, and its embedding has {rows - 1} rows"):
        resolve_model(folder.as_uri())
    (folder / "tokenizer.model").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"tokenizer\.model is neither a SentencePiece model nor in tiktoken's format"):
        resolve_model(folder.as_uri())
