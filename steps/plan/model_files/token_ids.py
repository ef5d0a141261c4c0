"""The highest token id of a model's tokenizer, from its files, and whether the embedding has a row for it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.weights.sources.listing import Listing, SourceFile
from steps.common.weights.sources.small_file import FilePartReader, part_reader
from steps.common.weights.sources.weights_index import refuse_pointer

LONGEST_FILE = 64 << 20  # bytes; the largest vocabularies of today take half of that
FAST, PIECES, CONFIG, SPECIALS = "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"
RANKED_LINE = re.compile(rb"[A-Za-z0-9+/=]+ (\d+)")  # of tiktoken's format: a token in base64, and its id
# Stands for an image, sound or video in the tokenizer of a whole family. Text does not have it, and a text model such as
# Gemma 3 1B has no row for it.
OTHER_MODALITY = re.compile(r"<[^>]*(?:image|audio|video|vision)[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class TokenId:
    """A token, and its row of the embedding."""

    text: str
    number: int


def refuse_ids_beyond(listing: Listing, rows: int, padding: int = 0) -> None:
    """Refuse a tokenizer that has tokens without a row in the embedding; warn if it is only the one that pads.

    Args:
        listing: of the model.
        rows: of the embedding.
        padding: token id with which the model itself pads, according to its config.json.

    Raises:
        UserError: with the highest such token; or the model has no tokenizer, or one that cannot be read.
        UnreachableError: the source did not answer, even when asked again.
    """
    files = _at_hand(listing)
    with part_reader() as reader:
        beyond = {token for token in _tokens(listing.uri, files, reader) if token.number >= rows}
        pad = _padding_token(listing.uri, files, reader) if beyond else ""
    if not beyond:
        return
    highest = max(beyond, key=lambda token: token.number)
    # Rows are packed and not padded with it. The model loads if it does not use that id itself.
    if {token.text for token in beyond} == {pad} and padding < rows:
        say(
            f"warning: model {listing.uri}: its padding token {pad!r} has id {highest.number}, and its embedding has {rows} "
            "rows; no row is padded with it, and a row whose text has it is a bad row"
        )
    else:
        raise UserError(
            f"model {listing.uri}: its tokenizer has the token {highest.text!r} with id {highest.number}, and its embedding "
            f"has {rows} rows; enlarge the embedding with transformers' resize_token_embeddings and save the model, or remove "
            "the token"
        )


def _padding_token(uri: str, files: dict[str, SourceFile], reader: FilePartReader) -> str:
    """Return the token that only pads; empty if there is none, or if it has another task as well."""
    named: dict[str, str] = {}
    for file in (file for name, file in files.items() if name in (SPECIALS, CONFIG)):
        for task, value in _json(uri, file.name, _content(uri, file, reader)).items():
            text = value.get("content") if isinstance(value, dict) else value
            if task.endswith("_token") and isinstance(text, str):
                named[task] = text
    pad = named.pop("pad_token", "")
    return "" if pad in named.values() else pad


def _tokens(uri: str, files: dict[str, SourceFile], reader: FilePartReader) -> Iterator[TokenId]:
    """Yield the tokens that text may have."""

    def read(name: str) -> Any:
        return _json(uri, name, _content(uri, files[name], reader)) if name in files else {}

    if FAST in files:
        fast = read(FAST)
        if not isinstance(fast.get("model"), dict):
            raise UserError(f"model {uri}: {FAST} is not a tokenizer; choose another revision")
        found = [*_vocabulary(fast["model"].get("vocab")), *_added(fast.get("added_tokens"))]
    elif PIECES in files:
        content = _content(uri, files[PIECES], reader)
        ranked = RANKED_LINE.fullmatch(content.rstrip().rpartition(b"\n")[2])
        count = int(ranked[1]) + 1 if ranked else _pieces(content)
        if not count:
            raise UserError(f"model {uri}: {PIECES} is neither a SentencePiece model nor in tiktoken's format")
        found = [TokenId("the last of its vocabulary", count - 1)]
    elif "vocab.json" in files:
        found = [*_vocabulary(read("vocab.json"))]
    elif any(name.endswith((".model", ".tiktoken")) or name in ("vocab.txt", "tekken.json") for name in files):
        found = []
    else:
        raise UserError(
            f"model {uri}: has no tokenizer; it needs {FAST}, {PIECES}, or vocab.json and merges.txt beside its weights"
        )
    found += _vocabulary(read("added_tokens.json"))
    decoder = read(CONFIG).get("added_tokens_decoder")
    by_id = decoder.items() if isinstance(decoder, dict) else []
    found += _added([{**token, "id": number} for number, token in by_id if isinstance(token, dict)])
    yield from (token for token in found if not OTHER_MODALITY.fullmatch(token.text))


def _at_hand(listing: Listing) -> dict[str, SourceFile]:
    """Return the files by name, on the volume if they are published: large tokenizers are then not read from afar again."""
    digest = listing.digest
    files = {file.name: file for file in listing.files}
    for folder in (volumes.published_tokenizer(digest), volumes.published_model(digest)):
        files |= {
            name: SourceFile(name=name, bytes=file.bytes, url=str(folder / name))
            for name, file in files.items()
            if (folder / name).is_file()
        }
    return files


def _content(uri: str, file: SourceFile, reader: FilePartReader) -> bytes:
    if file.bytes > LONGEST_FILE:
        raise UserError(
            f"model {uri}: {file.name} has {file.bytes} bytes, too many for a tokenizer; choose another revision"
        )
    content = reader.read(file, 0, None)
    refuse_pointer(uri, file.name, content[:200].decode(errors="replace"))
    return content


def _json(uri: str, name: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"model {uri}: {name} cannot be read as JSON; choose another revision")
    return found


def _vocabulary(found: Any) -> Iterator[TokenId]:
    """Yield a vocabulary's tokens: BPE has ids by token; Unigram has a list of tokens with their scores."""
    if isinstance(found, dict):
        yield from (TokenId(text, number) for text, number in found.items() if isinstance(number, int))
    elif isinstance(found, list) and found:
        yield TokenId(str(found[-1][0] if isinstance(found[-1], list) else found[-1]), len(found) - 1)


def _added(found: Any) -> Iterator[TokenId]:
    for token in found if isinstance(found, list) else []:
        if isinstance(token, dict) and str(token.get("id", "")).isdigit():
            yield TokenId(str(token.get("content", "")), int(token["id"]))


def _pieces(content: bytes) -> int:
    """Return the number of pieces of a SentencePiece model: of the fields 1 in its protobuf message. 0: it is not one."""
    at, count = 0, 0
    try:
        while at < len(content):
            key, at = _varint(content, at)
            field, kind = key >> 3, key & 7
            if kind == 2:  # length-delimited
                length, at = _varint(content, at)
                at += length
            elif kind == 0:
                _, at = _varint(content, at)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                return 0
            count += field == 1
    except IndexError:
        return 0
    return count if at == len(content) else 0


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
