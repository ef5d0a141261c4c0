"""How alike two answers are.

A server on other processors, or with other kernels, rounds otherwise: now and then another word is likelier by a hair, and
from there on a greedy answer goes its own way, in mostly the same words. So neither equality is asked for nor the order
of the words, but their F1, as SQuAD scores answers (https://arxiv.org/abs/1606.05250, section 6.1). A wrong model, or
the base without its adapter, has other words altogether.
"""

import re
from collections import Counter

from steps.common.runtime.word_splitting import UNSPACED

_WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def similarity(one: str, other: str) -> float:
    """Return the F1 of the words of two answers: 1 for the same words, 0 where none is shared."""
    first, second = (Counter(_WORDS.findall(text.casefold())) for text in (one, other))
    if not first or not second:
        return float(one.strip() == other.strip())
    shared = sum((first & second).values())
    return 2 * shared / (first.total() + second.total())
