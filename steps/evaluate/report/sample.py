"""A prepared row as a person can check it: which of its text is only read, and which is learnt."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from steps.common.model.packs import IGNORE_INDEX, TokenRow

LONGEST = 600  # tokens shown


def first_row(path: Path) -> TokenRow:
    """Read the first row of a file that `prepare` wrote, and no more of it."""
    with path.open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    return TokenRow(row["input_ids"], row["labels"], [])


def masked(row: TokenRow, tokenizer: Any) -> list[dict[str, Any]]:
    """Return the row's text in pieces, special tokens included, each with whether it is learnt."""
    pairs = list(zip(row.input_ids, row.labels, strict=True))[:LONGEST]
    return [
        {"text": tokenizer.decode([token for token, _ in piece]), "learnt": learnt}
        for learnt, piece in groupby(pairs, key=lambda pair: pair[1] != IGNORE_INDEX)
    ]
