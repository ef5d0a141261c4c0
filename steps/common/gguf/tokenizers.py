"""Which of llama.cpp's tokenizers a tokenizer is, told by what it does to a text.

llama.cpp's own converter tells by a hash over the token ids of a text, so that a token more makes a tokenizer unknown to
it. How a text is cut before merges apply has nothing to do with the ids, and is all that `tokenizer.ggml.pre` says.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from steps.common.runtime.errors import UserError

SPACE = "▁"  # what a SentencePiece vocabulary writes for a space
# Each part is cut differently by at least two of the known ways: runs of digits, contractions in both cases, capitals
# inside a word, combining marks, punctuation with a slash or a line break after it, runs of white space. It is in NFC: that
# a tokenizer composes characters first (Qwen's) does not show, and llama.cpp leaves it out of every GGUF.
PROBE = (
    "It's 7 or 42, 365, 2026 and 1234567 days: WE'LL see, SomeCamelCase HTTPServer's x1y22z333\n"
    "ça déjà vu ÀÉ नमस्ते हिन्दी ภาษาไทย 汉字かな Ελλάδα Привет\n\n\n  two  three   four\t\ttabs \n \r\n"
    "a/b//c ...!!?/\n (x)[y]{z} <tag/> #1 @me $5.00 50% «quoted» — dash… 🙂🙂 end   "
)


@dataclass(frozen=True)
class TokenizerKind:
    """A tokenizer as GGUF tells it: `tokenizer.ggml.model`, and `tokenizer.ggml.pre`."""

    model: str  # gpt2: byte-level BPE; llama: SentencePiece's BPE
    pre: str


def kind_of(folder: Path) -> TokenizerKind:
    """Return which tokenizer a model's folder has.

    Raises:
        UserError: llama.cpp knows none that cuts a text in the same way.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(f"export.gguf: {folder} has no tokenizer.json, from which the GGUF's vocabulary is made")
    found = kind(Tokenizer.from_file(str(file)))
    if found is None:
        raise UserError(
            "export.gguf: llama.cpp knows no tokenizer that cuts text as this model's does; "
            "leave export.gguf out and take export.merged=true"
        )
    return found


def kind(tokenizer: Any) -> TokenizerKind | None:
    """Return which tokenizer a `tokenizers.Tokenizer` is; None where llama.cpp has none that does the same."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("type") != "BPE":
        return None
    pieces = _pieces(tokenizer)
    if model.get("byte_fallback"):
        whole = PROBE.replace(" ", SPACE)
        return TokenizerKind("llama", "default") if pieces in ([whole], [SPACE + whole]) else None
    for known in _known():
        if bool(model.get("ignore_merges")) == known["whole_words"] and pieces == known["pieces"]:
            return TokenizerKind("gpt2", known["name"])
    return None


def _pieces(tokenizer: Any) -> list[str]:
    text = tokenizer.normalizer.normalize_str(PROBE) if tokenizer.normalizer else PROBE
    return _cut(tokenizer.pre_tokenizer, text)


def _cut(pre_tokenizer: Any, text: str) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] if pre_tokenizer else [text]


@cache
def _known() -> list[dict[str, Any]]:
    from tokenizers import Regex, pre_tokenizers

    text = resources.files("steps.common.gguf").joinpath("pre_tokenizers.yaml").read_text()
    known: list[dict[str, Any]] = yaml.safe_load(text)
    for one in known:
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in one["patterns"]]
        bytes_to_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        one["pieces"] = _cut(pre_tokenizers.Sequence([*cuts, bytes_to_letters]), PROBE)
    return known
