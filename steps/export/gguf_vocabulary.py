"""A tokenizer as GGUF has it: tokens, what each is, merges or scores, the special ones, and the chat template."""

import json
import re
from pathlib import Path
from typing import Any

from steps.common.gguf.tokenizers import SPACE, kind_of

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Added tokens that mark a turn, though some models do not call them special; llama.cpp's converter tells by the look too.
MARK = re.compile(r"<[|\uff5c].*[|\uff5c]>")  # DeepSeek writes a full-width line
UNREACHABLE = -1e9  # the score of a token that no merge makes


def add_vocabulary(writer: Any, folder: Path, rows: int) -> None:
    """Write the tokenizer of a model's folder.

    Args:
        writer: gguf's.
        folder: of the merged model.
        rows: of its embedding; a row that no token has gets a token that is never used.

    Raises:
        UserError: llama.cpp has no such tokenizer.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = kind_of(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model(kind.model)
    writer.add_tokenizer_pre(kind.pre)
    tokens, types = _tokens(tokenizer, rows, bytes_apart=kind.model == "llama")
    writer.add_token_list(tokens)
    merges = [_pair(merge) for merge in model["merges"]]
    if kind.model == "llama":
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_begins_with_space(tokenizer))
    else:
        writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_token_types(types)
    _add_special(writer, tokenizer, rows)


def _tokens(tokenizer: Any, rows: int, *, bytes_apart: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(rows):
        token = by_id.get(number, f"[PAD{number}]")
        if number not in by_id:
            kind = TokenType.UNUSED
        elif number == tokenizer.unk_token_id and bytes_apart:
            kind = TokenType.UNKNOWN
        elif number in added:
            control = added[number].special or MARK.fullmatch(token)
            kind = TokenType.CONTROL if control else TokenType.USER_DEFINED
            token = token if control else token.replace(SPACE, " ")
        elif bytes_apart and BYTE.fullmatch(token):
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
    """Return each token's score: llama.cpp merges what makes the token of the highest score, so the earlier the higher."""
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
    # What is left out llama.cpp supposes, for some tokenizers otherwise than they do.
    around = tokenizer("a").input_ids
    writer.add_add_bos_token(around[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(len(around) > 1 and around[-1] == tokenizer.eos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
