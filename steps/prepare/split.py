"""Removes duplicates, and splits the rows so that no question is on both sides."""

import hashlib
import re
from dataclasses import dataclass

from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError


@dataclass(frozen=True)
class Split:
    """The two sides, and the number of rows that were left out."""

    train: list[Row]
    validation: list[Row]
    duplicates: int
    leaked: int


def split(train: list[Row], validation: list[Row], share: float, seed: int) -> Split:
    """Remove duplicates, and training rows with the question of a held-out row.

    Args:
        train: training rows, in file order.
        validation: held-out rows; empty to hold out some of the training rows.
        share: share of the training rows to hold out in that case. All rows with the same question stay on one side.
        seed: seed of the choice. The same rows and seed give the same split, in any order of the rows.

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
        raise UserError("data.train: no row is left: each is a duplicate, or has the question of a held-out row")
    return Split(kept, unique_validation, again + again_held, len(unique_train) - len(kept))


def normal(text: str) -> str:
    """Return `text` without differences of case, punctuation and spacing."""
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
            "data.train: has only one question; at least two are needed, one to train on and one to hold out"
        )
    count = min(len(questions) - 1, max(1, round(len(questions) * share)))
    held = set(questions[:count])
    train = [row for row in rows if normal(row.question) not in held]
    return train, [row for row in rows if normal(row.question) in held]
