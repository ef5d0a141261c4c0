"""Tokenises texts without the tokenizer's own offsets, which take a third of its time, where the tokens themselves tell them.

The tokens of a byte-level tokenizer stand for bytes. If those of a text are the text's own, their lengths are the offsets.
Otherwise, as with tokenizers that normalise or that write spaces as a sign of their own, the tokenizer's offsets are used.
"""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

TRIED_TEXTS = 64  # after so many texts, a tokenizer whose tokens are none of their bytes is not tried any more


class Encoding(Protocol):
    """What is asked of the tokens of a text."""

    @property
    def ids(self) -> list[int]:
        """The tokens."""

    def __len__(self) -> int: ...

    def char_to_token(self, char_pos: int) -> int | None:
        """Return the index of the token that has a character, the first one if several have parts of it."""

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """Return the first character of a token, and the one behind its last."""


class BytesEncoding:
    """The tokens of a text that are exactly its bytes."""

    def __init__(self, text: str, data: bytes, ids: list[int], parts: list[bytes]) -> None:
        """Join a text with its tokens.

        Args:
            text: the text.
            data: the same, in UTF-8.
            ids: its tokens.
            parts: the bytes of each.
        """
        self.ids, self._text, self._data = ids, text, data
        self._plain = len(data) == len(text)
        self._ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return len(self.ids)

    def char_to_token(self, char_pos: int) -> int | None:
        """Return the index of the token that has a character, the first one if several have parts of it."""
        if not 0 <= char_pos < len(self._text):
            return None
        at = char_pos if self._plain else len(self._text[:char_pos].encode())
        return bisect_right(self._ends, at)

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """Return the first character of a token, and the one behind its last."""
        begin = self._ends[token_index - 1] if token_index else 0
        return self._characters(begin)[0], self._characters(self._ends[token_index])[1]

    def _characters(self, byte: int) -> tuple[int, int]:
        """Return the number of characters before a byte: without the one that it is in the middle of, and with it."""
        if self._plain:
            return byte, byte
        whole = self._data[:byte].decode(errors="ignore")
        return len(whole), len(whole) + (len(whole.encode()) < byte)


class FastEncoder:
    """Tokenises texts without adding special tokens."""

    def __init__(self, backend: Any) -> None:
        """Wrap a `tokenizers.Tokenizer`."""
        self._backend = backend
        self._bytes = _bytes_of_tokens(backend)
        self._tried = self._worked = 0

    def encode_all(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise texts."""
        if not texts:
            return []
        if self._tried >= TRIED_TEXTS and not self._worked:
            return list(self._backend.encode_batch(texts, add_special_tokens=False))
        fast = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._encoding(text, found.ids) for text, found in zip(texts, fast, strict=True)]

    def _encoding(self, text: str, ids: list[int]) -> Encoding:
        parts, data = [self._bytes[token] for token in ids], text.encode()
        self._tried += 1
        if b"".join(parts) != data:
            own: Encoding = self._backend.encode(text, add_special_tokens=False)
            return own
        self._worked += 1
        return BytesEncoding(text, data, ids, parts)


def _bytes_of_tokens(backend: Any) -> list[bytes]:
    """Return the bytes that each token stands for in a byte-level tokenizer."""
    alphabet = _alphabet()
    written = backend.get_vocab(with_added_tokens=False)
    found = [b""] * (max([*written.values(), *backend.get_added_tokens_decoder()], default=-1) + 1)
    for token, number in written.items():
        found[number] = bytes(alphabet[one] for one in token) if alphabet.keys() >= set(token) else token.encode()
    for number, added in backend.get_added_tokens_decoder().items():
        found[number] = added.content.encode()
    return found


def _alphabet() -> dict[str, int]:
    """Return the byte of each character of the byte-level alphabet: printable ones are themselves, others follow U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + number): byte for number, byte in enumerate(others)}
