"""Identifies which of llama.cpp's tokenizers a tokenizer is, by how it splits a text.

llama.cpp's own converter uses a hash over the token ids of a text, so one added token makes a tokenizer unknown to it. How a
text is split before merges apply does not depend on the ids, and is all that `tokenizer.ggml.pre` states.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from steps.common.runtime.errors import UserError

SPACE = "▁"  # a space in a SentencePiece vocabulary
# At least two of the known pre-tokenizers split each part differently: runs of digits, contractions in both cases, capitals
# inside a word, combining marks, punctuation before a slash or a line break, runs of white space. The text is in NFC, so that
# a tokenizer's own normalisation to NFC (Qwen's) makes no difference; llama.cpp leaves that out of every GGUF.
PROBE = (
    "It's 7 or 42, 365, 2026 and 1234567 days: WE'LL see, SomeCamelCase HTTPServer's x1y22z333\n"
    "ça déjà vu ÀÉ नमस्ते हिन्दी ภาษาไทย 汉字かな Ελλάδα Привет\n\n\n  two  three   four\t\ttabs \n \r\n"
    "a/b//c ...!!?/\n (x)[y]{z} <tag/> #1 @me $5.00 50% «quoted» — dash… 🙂🙂 end   "
)


@dataclass(frozen=True)
class GgufTokenizer:
    """A tokenizer's names in GGUF: `tokenizer.ggml.model` and `tokenizer.ggml.pre`."""

    model: str  # gpt2: byte-level BPE; llama: SentencePiece's BPE
    pre: str


def read_gguf_tokenizer(folder: Path) -> GgufTokenizer:
    """Identify the tokenizer of a model.

    Raises:
        UserError: there is no tokenizer.json, or llama.cpp has no tokenizer that splits text the same way.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"export.gguf: {folder} has no tokenizer.json to make a GGUF vocabulary from; use export.merged=true"
        )
    identified = identify_tokenizer(Tokenizer.from_file(str(file)))
    if identified is None:
        raise UserError(
            "export.gguf: llama.cpp has no tokenizer that splits text as this model's does; "
            "use export.merged=true instead"
        )
    return identified


def identify_tokenizer(tokenizer: Any) -> GgufTokenizer | None:
    """Identify a `tokenizers.Tokenizer`; None if llama.cpp has none that splits text the same way."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("type") != "BPE":
        return None
    pieces = _pieces(tokenizer)
    if model.get("byte_fallback"):
        whole = PROBE.replace(" ", SPACE)
        return GgufTokenizer("llama", "default") if pieces in ([whole], [SPACE + whole]) else None
    for known in _known():
        if bool(model.get("ignore_merges")) == known["whole_words"] and pieces == known["pieces"]:
            return GgufTokenizer("gpt2", known["name"])
    return None


def _pieces(tokenizer: Any) -> list[str]:
    text = tokenizer.normalizer.normalize_str(PROBE) if tokenizer.normalizer else PROBE
    return _split(tokenizer.pre_tokenizer, text)


def _split(pre_tokenizer: Any, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] if pre_tokenizer else [text]


@cache
def _known() -> list[dict[str, Any]]:
    from tokenizers import Regex, pre_tokenizers

    text = resources.files("steps.common.gguf").joinpath("pre_tokenizers.yaml").read_text()
    known: list[dict[str, Any]] = yaml.safe_load(text)
    for one in known:
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in one["patterns"]]
        bytes_to_characters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        one["pieces"] = _split(pre_tokenizers.Sequence([*splits, bytes_to_characters]), PROBE)
    return known
