"""Tokens whose bytes are the text's give the same offsets as the tokenizer itself."""

from pathlib import Path
from typing import Any

import pytest

from steps.prepare.fast_encoding import BytesEncoding, FastEncoder

TEXTS = [
    "",
    "when do you have cats?",
    "<|im_start|>user\nwhen<|im_end|>\n",
    "größer, 猫 und 🐈‍⬛ <|im_end|> दीन",
]


@pytest.fixture(scope="module")
def byte_level(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model).backend_tokenizer


def other_tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefixed")
    tokenizer.train_from_iterator(["When do you have cats when"] * 4, trainers.BpeTrainer(vocab_size=300))
    return tokenizer


def agrees(backend: Any, texts: list[str]) -> list[bool]:
    """Check that all answers are the tokenizer's own; return whether each came from the bytes."""
    found = FastEncoder(backend).encode_all(texts)
    for text, one in zip(texts, found, strict=True):
        own = backend.encode(text, add_special_tokens=False)
        assert one.ids == own.ids
        assert len(one) == len(own)
        assert [one.char_to_token(at) for at in range(len(text) + 1)] == [
            own.char_to_token(at) for at in range(len(text) + 1)
        ]
        assert [one.token_to_chars(at) for at in range(len(own))] == [own.token_to_chars(at) for at in range(len(own))]
    return [isinstance(one, BytesEncoding) for one in found]


def test_the_offsets_are_the_tokenizers_own(byte_level: Any) -> None:
    assert all(agrees(byte_level, TEXTS))


@pytest.mark.parametrize("kind", ["metaspace", "lowercase", "prefixed"])
def test_of_other_tokenizers_their_own_offsets_are_used(kind: str) -> None:
    assert not any(agrees(other_tokenizer(kind), ["When do you have Cats", "When you"]))


def test_a_tokenizer_whose_tokens_are_never_the_bytes_is_asked_at_once() -> None:
    backend = other_tokenizer("metaspace")
    encoder = FastEncoder(backend)
    encoder.encode_all(["when you"] * 64)
    encoder._backend = Recorded(backend)
    assert [len(one) for one in encoder.encode_all(["when you"])] == [len(backend.encode("when you"))]
    assert encoder._backend.asked == ["encode_batch"]


class Recorded:
    """Records what a tokenizer is asked for."""

    def __init__(self, backend: Any) -> None:
        self._inner, self.asked = backend, list[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._inner, name)
