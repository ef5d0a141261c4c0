"""Tokenises texts word by word, each different word once: most words of a text have occurred before.

A tokenizer first splits a text at its special tokens, then into what its pre-tokenizer takes for words, and then tokenises each
of these by itself. So wherever the pre-tokenizer splits, the parts can be tokenised apart. All that are in use split before a
space that follows ASCII text and precedes an ASCII letter, or have no token that goes over such a space, which comes to the
same. A tokenizer that has one, or for which this does not hold in the probes or in one of the first texts, is asked for whole
texts.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

BORDER = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
# Of a token that goes over a border, or up to a border's other side; U+2581 and U+0120 stand for a space.
OVER_BORDER = re.compile("[!-~][ \u2581\u0120]")
PROBES = (
    "the cat Sat on THE mat",
    "I'm a B c, d. E! f? (g) h-i j_k",
    "in 2020 we had 7 of x",
    'he "said" it; she: no% yes$ and\nso on',
    "caf\u00e9 au lait a\u00f1o Nuevo",
    "".join(f"{chr(left)} a {chr(left)}{chr(left)} Z" for left in range(ord("!"), ord("~") + 1)),
)
PROBED_TOKENS = 4  # added tokens of each kind that are probed too
CHECKED_TEXTS = 128  # that are tokenised whole too, before the words are relied on
# Of words, twice as many are kept: 40 MB in each process. Longer ones, in characters, seldom occur twice.
KEPT_WORDS, LONGEST_WORD = 50_000, 32

Word = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]  # tokens, and the characters of each


class Encoding(Protocol):
    """What is asked of the tokens of a text."""

    @property
    def ids(self) -> list[int]:
        """The tokens."""

    def __len__(self) -> int: ...

    def char_to_token(self, char_pos: int) -> int | None:
        """Return the index of the first token that has a character; None if there is none."""

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """Return the first character of a token, and the one behind its last."""


class WordsEncoding:
    """The tokens of a text, put together from those of its words."""

    def __init__(self, parts: list[str], words: list[Word]) -> None:
        """Join the words of a text, each as it stands there and as tokens."""
        self.ids = list(itertools.chain.from_iterable([ids for ids, _ in words]))
        self._parts, self._words = parts, words
        self._starts: list[int] = []  # the first character of each word
        self._firsts: list[int] = []  # the first token of each word

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The characters of each token."""
        self._locate()
        words = zip(self._starts, self._words, strict=False)  # the last start is behind the last word
        return [(start + begin, start + end) for start, (_, places) in words for begin, end in places]

    def _locate(self) -> None:
        if not self._starts:
            self._starts = list(itertools.accumulate(map(len, self._parts), initial=0))
            self._firsts = list(itertools.accumulate([len(ids) for ids, _ in self._words], initial=0))

    def char_to_token(self, char_pos: int) -> int | None:
        """Return the index of the first token that has a character; None if there is none."""
        self._locate()
        if not 0 <= char_pos < self._starts[-1]:
            return None
        word = bisect_right(self._starts, char_pos) - 1
        at = char_pos - self._starts[word]
        found = (place for place, (begin, end) in enumerate(self._words[word][1]) if begin <= at < end)
        place = next(found, None)
        return None if place is None else self._firsts[word] + place

    def token_to_chars(self, token_index: int) -> tuple[int, int] | None:
        """Return the first character of a token, and the one behind its last."""
        self._locate()
        word = bisect_right(self._firsts, token_index) - 1
        begin, end = self._words[word][1][token_index - self._firsts[word]]
        return self._starts[word] + begin, self._starts[word] + end


def _probes_of(added: Iterable[Any]) -> list[str]:
    """Return texts with added tokens: some tokenizers take only the start of the whole text for a start."""
    kinds: dict[tuple[bool, bool], list[str]] = {}
    for token in added:
        kinds.setdefault((token.special, token.normalized), []).append(token.content)
    return [f"the cat{one}of the {one} end" for kind in kinds.values() for one in kind[:PROBED_TOKENS]]


class WordEncoder:
    """Tokenises texts without adding special tokens."""

    def __init__(self, backend: Any) -> None:
        """Wrap a `tokenizers.Tokenizer`."""
        self._backend = backend
        self._kept: dict[str, Word] = {}
        self._of_before: dict[str, Word] = {}  # what was kept until there was too much of it
        added = list(backend.get_added_tokens_decoder().values())
        specials = sorted((token.content for token in added), key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, specials)) + ")") if specials else None
        # These look at what surrounds them.
        looks_around = any(token.lstrip or token.rstrip or token.single_word for token in added)
        self._by_words = not looks_around and not any(BORDER.search(special) for special in specials)
        self._by_words = self._by_words and not any(map(OVER_BORDER.search, backend.get_vocab(with_added_tokens=False)))
        self._to_check = CHECKED_TEXTS
        self._by_words = self._by_words and self._agrees([*PROBES, *_probes_of(added)])

    def encode_all(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenise texts."""
        if not texts:
            return []
        if self._by_words and self._to_check > 0:
            self._to_check -= len(texts)
            self._by_words = self._agrees(texts)
        return list(self._of_words(texts) if self._by_words else self._whole(texts))

    def _agrees(self, texts: Sequence[str]) -> bool:
        return all(
            one.ids == other.ids and one.offsets == other.offsets
            for one, other in zip(self._of_words(texts), self._whole(texts), strict=True)
        )

    def _whole(self, texts: Sequence[str]) -> list[Any]:
        found: list[Any] = self._backend.encode_batch(texts, add_special_tokens=False)
        return found

    def _of_words(self, texts: Sequence[str]) -> list[WordsEncoding]:
        if len(self._kept) > KEPT_WORDS:
            self._kept, self._of_before = {}, self._kept
        parts = [self._split(text) for text in texts]
        new = list(set().union(*parts).difference(self._kept))
        unknown = [word for word in new if word not in self._of_before]
        self._kept.update((word, self._of_before[word]) for word in new if word in self._of_before)
        for word, found in zip(unknown, self._backend.encode_batch(unknown, add_special_tokens=False), strict=True):
            self._kept[word] = tuple(found.ids), tuple(found.offsets)
        encodings = [WordsEncoding(words, [self._kept[word] for word in words]) for words in parts]
        for word in unknown:
            if len(word) > LONGEST_WORD:
                del self._kept[word]
        return encodings

    def _split(self, text: str) -> list[str]:
        if not self._special:
            return BORDER.split(text)
        found: list[str] = []
        for number, part in enumerate(self._special.split(text)):
            if part:
                found += [part] if number % 2 else BORDER.split(part)
        return found
