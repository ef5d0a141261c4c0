"""The similarity of two answers.

Other processors and kernels round differently. Now and then another word becomes the likeliest by a hair, and from there
on a greedy answer takes another course, mostly with the same words. So the measure requires neither equality nor the same
order: it is the F1 of the words, as SQuAD scores answers (https://arxiv.org/abs/1606.05250, section 6.1). A wrong model,
or the base without its adapter, uses different words altogether.
"""

import re
from collections import Counter

from steps.common.runtime.word_splitting import UNSPACED

_WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def similarity(one: str, other: str) -> float:
    """Return the F1 of the words of two answers: 1 if they are the same, 0 if none is shared."""
    first, second = (Counter(_WORDS.findall(text.casefold())) for text in (one, other))
    if not first or not second:
        return float(one.strip() == other.strip())
    shared = sum((first & second).values())
    return 2 * shared / (first.total() + second.total())
