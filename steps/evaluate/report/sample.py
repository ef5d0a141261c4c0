"""A training row for a person to check: which parts of its text are learnt, and which are only read."""

from itertools import groupby
from typing import Any

from steps.common.handover.report_parts import SamplePiece
from steps.common.model.packs import IGNORE_INDEX, TokenRow

LONGEST = 600  # tokens to show


def masked(row: TokenRow, tokenizer: Any) -> list[SamplePiece]:
    """Return the row's text, special tokens included, in pieces that are learnt or only read."""
    pairs = list(zip(row.input_ids, row.labels, strict=True))[:LONGEST]
    return [
        SamplePiece(text=tokenizer.decode([token for token, _ in piece]), learnt=learnt)
        for learnt, piece in groupby(pairs, key=lambda pair: pair[1] != IGNORE_INDEX)
    ]
