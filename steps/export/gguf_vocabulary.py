"""Writes a tokenizer to GGUF: tokens with their types, merges or scores, special tokens, and the chat template."""

import json
import re
from pathlib import Path
from typing import Any

from steps.common.gguf.tokenizers import SPACE, read_gguf_tokenizer

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Added tokens that mark turns, though some models do not declare them special; llama.cpp's converter uses such a pattern too.
MARK = re.compile(r"<[|\uff5c].*[|\uff5c]>")  # DeepSeek uses a full-width bar
UNREACHABLE = -1e9  # score of a token that no merge produces


def add_vocabulary(writer: Any, folder: Path, rows: int) -> None:
    """Write the tokenizer of a model.

    Args:
        writer: a GGUFWriter.
        folder: of the merged model.
        rows: of its embedding matrix; a row without a token gets an unused one.

    Raises:
        UserError: llama.cpp does not support the tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    gguf_tokenizer = read_gguf_tokenizer(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model(gguf_tokenizer.model)
    writer.add_tokenizer_pre(gguf_tokenizer.pre)
    tokens, types = _tokens(tokenizer, rows, byte_fallback=gguf_tokenizer.model == "llama")
    writer.add_token_list(tokens)
    merges = [_pair(merge) for merge in model["merges"]]
    if gguf_tokenizer.model == "llama":
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_begins_with_space(tokenizer))
    else:
        writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_token_types(types)
    _add_special(writer, tokenizer, rows)


def _tokens(tokenizer: Any, rows: int, *, byte_fallback: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(rows):
        token = by_id.get(number, f"[PAD{number}]")
        if number not in by_id:
            kind = TokenType.UNUSED
        elif number == tokenizer.unk_token_id and byte_fallback:
            kind = TokenType.UNKNOWN
        elif number in added:
            control = added[number].special or MARK.fullmatch(token)
            kind = TokenType.CONTROL if control else TokenType.USER_DEFINED
            token = token if control else token.replace(SPACE, " ")
        elif byte_fallback and BYTE.fullmatch(token):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        tokens.append(token)
        types.append(int(kind))
    return tokens, types


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> list[float]:
    """Return each token's score; llama.cpp merges to the highest score first, so earlier merges score higher."""
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        rank.setdefault(left + right, number)
    return [-float(rank[token]) if token in rank else UNREACHABLE for token in tokens]


def _begins_with_space(tokenizer: Any) -> bool:
    return str(tokenizer.tokenize("a")[0]).startswith(SPACE)


def _add_special(writer: Any, tokenizer: Any, rows: int) -> None:
    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None and number < rows:
            getattr(writer, f"add_{name}_token_id")(number)
    # Without these llama.cpp assumes a default, which is wrong for some tokenizers.
    token_ids = tokenizer("a").input_ids
    writer.add_add_bos_token(token_ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(len(token_ids) > 1 and token_ids[-1] == tokenizer.eos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
