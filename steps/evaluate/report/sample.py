"""A training row for a person to check: which parts of its text are learnt, and which are only read."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from steps.common.handover.report_parts import SamplePiece
from steps.common.model.packs import IGNORE_INDEX, TokenRow

LONGEST = 600  # tokens to show


def first_row(path: Path) -> TokenRow:
    """Read only the first row of a file that `prepare` wrote."""
    with path.open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    return TokenRow(row["input_ids"], row["labels"])


def masked(row: TokenRow, tokenizer: Any) -> list[SamplePiece]:
    """Return the row's text, special tokens included, in pieces that are learnt or only read."""
    pairs = list(zip(row.input_ids, row.labels, strict=True))[:LONGEST]
    return [
        SamplePiece(text=tokenizer.decode([token for token, _ in piece]), learnt=learnt)
        for learnt, piece in groupby(pairs, key=lambda pair: pair[1] != IGNORE_INDEX)
    ]
