"""Removes duplicates, and splits the rows so that no question is on both sides: by hashes, so that no text is kept.

A hash is of 128 bits: among a billion rows, two different texts have the same one with a probability of 1 in 10^21.
"""

import hashlib
from dataclasses import dataclass

import numpy

from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError
from steps.prepare.normal_text import normal

HASH_BYTES = 16


@dataclass(frozen=True)
class RowKeys:
    """What rows are compared by; all arrays have one item per row."""

    questions: numpy.ndarray  # two halves of a hash, see `row_hashes`; shape (rows, 2)
    contents: numpy.ndarray  # likewise
    ranks: numpy.ndarray  # by which one of several duplicates is kept, the lowest; of equal ones the first

    def __len__(self) -> int:
        return len(self.ranks)


@dataclass(frozen=True)
class Split:
    """The two sides, and the number of rows that were left out."""

    train: numpy.ndarray  # indices of training rows, in increasing order
    validation: numpy.ndarray  # indices of held-out rows: among the training rows, unless some were given
    duplicates: int
    leaked: int


def row_hashes(row: Row, seed: int) -> tuple[bytes, bytes]:
    """Return the hashes of a row's question and of its content, in normal form. Their order is random, and set by the seed."""
    question, content = row.question, row.content
    hashed = _hash(question, seed)
    return hashed, hashed if content == question else _hash(content, seed)


def _hash(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {normal(text)}".encode("utf-8", "surrogatepass")).digest()[:HASH_BYTES]


def split(train: RowKeys, validation: RowKeys, share: float) -> Split:
    """Remove duplicates, and training rows with the question of a held-out row.

    The same rows give the same split, in any order of the rows.

    Args:
        train: training rows, in file order.
        validation: held-out rows; empty to hold out some of the training rows.
        share: share of the training rows to hold out in that case. All rows with the same question stay on one side.

    Raises:
        UserError: one side would be empty.
    """
    kept, held_out = _without_duplicates(train), _without_duplicates(validation)
    duplicates = len(train) + len(validation) - len(kept) - len(held_out)
    numbers = _in_order(numpy.concatenate([train.questions[kept], validation.questions[held_out]]))
    asked, asked_held_out = numbers[: len(kept)], numbers[len(kept) :]
    if len(validation):
        remaining = kept[~numpy.isin(asked, asked_held_out)]
    else:
        held = asked < _held_questions(asked, share)
        remaining, held_out = kept[~held], kept[held]
    if not len(remaining):
        raise UserError("data.train: no row is left: each is a duplicate, or has the question of a held-out row")
    leaked = len(kept) - len(remaining) if len(validation) else 0
    return Split(remaining, held_out, duplicates, leaked)


def _in_order(hashes: numpy.ndarray) -> numpy.ndarray:
    """Return the rank of each hash among the different ones, from 0; shape (rows)."""
    order = numpy.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = numpy.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    ranks = numpy.empty(len(order), numpy.int64)
    ranks[order] = numpy.cumsum(new) - 1
    return ranks


def _without_duplicates(rows: RowKeys) -> numpy.ndarray:
    """Return the indices of the rows that are kept, in increasing order."""
    content = _in_order(rows.contents)
    order = numpy.lexsort((rows.ranks, content))  # stable: of rows with equal ranks, the first one comes first
    first = numpy.ones(len(order), bool)
    first[1:] = content[order[1:]] != content[order[:-1]]
    return numpy.sort(order[first])


def _held_questions(asked: numpy.ndarray, share: float) -> int:
    """Return how many questions are held out: those with the lowest numbers, an order that the seed sets."""
    questions = int(asked.max()) + 1
    if questions < 2:
        raise UserError(
            "data.train: has only one question; at least two are needed, one to train on and one to hold out"
        )
    return min(questions - 1, max(1, round(questions * share)))
