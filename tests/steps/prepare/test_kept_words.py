"""Words that are tokenised once give the tokens and offsets of whole texts."""

import re
import string
from pathlib import Path
from typing import Any

import pytest

from steps.prepare import kept_words
from steps.prepare.kept_words import WordEncoder, WordsEncoding

CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"
TEXTS = [
    "",
    "when do you have cats? When do you",
    "<|im_start|>user\nwhen do<|im_end|>\n<|im_start|>assistant\nyes we do<|im_end|>\n",
    "größer als, 猫 und 🐈‍⬛ <|im_end|> दीन are  two   spaces\n and 7 days a-b  c",
    "x = {'a': 1, \"b\": [2, 3]} # and so on\n\tif x: print(x)",
    " leading and trailing ",
    "don't I'll we've <|im_end|> <|im_end|>  a",
]


@pytest.fixture(scope="module")
def byte_level(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model).backend_tokenizer


def trained(kind: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if kind == "split":  # as Qwen and Llama 3 have it
        words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        split, level = pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        tokenizer.normalizer = normalizers.NFC()
    elif kind == "pairs of words":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+ \w+"), "isolated")
    elif kind == "first":  # marks the start of the text, and not what follows an added token
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    elif kind not in ("whole", "rare"):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "rare":  # only one token goes over the border of two words, and the probes do not have it
        tokens = [*CHARACTERS, "zq", "zq "]
        return Tokenizer(models.BPE({one: number for number, one in enumerate(tokens)}, [("z", "q"), ("zq", " ")]))
    corpus = ["when do you have cats and the cat sat on the mat in 2020 we had"] * 4
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind in ("split", "strips", "spaced") else []
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    if kind == "first":
        tokenizer.add_special_tokens(["<|im_end|>"])
    if kind == "strips":
        tokenizer.add_special_tokens([AddedToken("<|im_end|>", rstrip=True)])
    if kind == "spaced":
        tokenizer.add_tokens(["have cats"])
    return tokenizer


def agrees(backend: Any) -> list[bool]:
    """Check that all answers are the tokenizer's own; return whether each was put together from words."""
    encoder = WordEncoder(backend)
    kinds = []
    for _ in range(2):  # the second time, the words are known
        for text, one in zip(TEXTS, encoder.encode_all(TEXTS), strict=True):
            own = backend.encode(text, add_special_tokens=False)
            assert one.ids == own.ids
            assert len(one) == len(own)
            places, tokens = range(len(text) + 1), range(len(own))
            assert [one.char_to_token(at) for at in places] == [own.char_to_token(at) for at in places]
            assert [one.token_to_chars(at) for at in tokens] == [own.token_to_chars(at) for at in tokens]
            assert not isinstance(one, WordsEncoding) or one.offsets == own.offsets
            kinds.append(isinstance(one, WordsEncoding))
    return kinds


def test_tokens_and_offsets_are_the_tokenizers_own(byte_level: Any) -> None:
    assert all(agrees(byte_level))


def test_words_that_are_not_kept_are_tokenised_again(byte_level: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_words, "KEPT_WORDS", 3)
    assert all(agrees(byte_level))


@pytest.mark.parametrize(
    ("kind", "by_words"),
    [
        ("split", True),
        ("pairs of words", False),
        ("whole", False),
        ("strips", False),
        ("spaced", False),
        ("first", False),
        ("rare", False),
    ],
)
def test_only_a_tokenizer_that_splits_before_words_is_asked_for_words(kind: str, by_words: bool) -> None:
    assert agrees(trained(kind)) == [by_words] * 2 * len(TEXTS)


def test_a_tokenizer_that_differs_in_a_first_text_is_asked_for_whole_texts(
    byte_level: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_words, "PROBES", ())
    monkeypatch.setattr(kept_words, "OVER_BORDER", re.compile("(?!)"))
    backend = trained("pairs of words")
    assert not any(agrees(backend))
