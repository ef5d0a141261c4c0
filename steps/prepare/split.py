"""Duplicates out, and no question on both sides of the split between learning and checking."""

import hashlib
import re
from dataclasses import dataclass

from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError


@dataclass(frozen=True)
class Split:
    """The two sides, and what was left out."""

    train: list[Row]
    validation: list[Row]
    duplicates: int
    leaked: int


def split(train: list[Row], validation: list[Row], share: float, seed: int) -> Split:
    """Remove duplicates, and training rows that ask what a held-out row asks.

    Args:
        train: training rows in the file's order.
        validation: held-out rows; empty where the training rows have to give some.
        share: of the training rows to hold out then. All rows with one question stay on one side.
        seed: which ones; the same rows and seed give the same split in whatever order the rows come.

    Raises:
        UserError: one side would be empty.
    """
    unique_train, again = _without_duplicates(train)
    unique_validation, again_held = _without_duplicates(validation)
    if not validation:
        unique_train, unique_validation = _hold_out(unique_train, share, seed)
    held = {normal(row.question) for row in unique_validation}
    kept = [row for row in unique_train if normal(row.question) not in held]
    if not kept:
        raise UserError("data.train: no row is left: every one is a duplicate, or asks what a held-out row asks")
    return Split(kept, unique_validation, again + again_held, len(unique_train) - len(kept))


def normal(text: str) -> str:
    """Return `text` without what makes two writings of the same differ: case, punctuation, spacing."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _without_duplicates(rows: list[Row]) -> tuple[list[Row], int]:
    unique = {normal(row.content): row for row in reversed(rows)}
    kept = [row for row in rows if unique.pop(normal(row.content), None) is not None]
    return kept, len(rows) - len(kept)


def _hold_out(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    questions = sorted(
        {normal(row.question) for row in rows}, key=lambda q: hashlib.sha256(f"{seed} {q}".encode()).digest()
    )
    if len(questions) < 2:
        raise UserError(
            "data.train: has one question only; at least two are needed, one to learn from and one to check with"
        )
    count = min(len(questions) - 1, max(1, round(len(questions) * share)))
    held = set(questions[:count])
    train = [row for row in rows if normal(row.question) not in held]
    return train, [row for row in rows if normal(row.question) in held]
