"""Draws the training rows of a mixture from those that are left after duplicates and leaked questions."""

import numpy

from steps.common.handover.resolved import DataSource
from steps.common.runtime.errors import UserError


def draw(sources: list[DataSource], source_of: numpy.ndarray, order: numpy.ndarray) -> numpy.ndarray:
    """Return how often each row is seen per epoch; shape (rows).

    A weight of 2 repeats each row of a source, and one of 0.5 takes half of them. Shares take as many rows of each source as
    the largest mixture has in which no row repeats. Of each source that has rows, at least one is taken.

    Args:
        sources: of the training rows. Either all have a share, or none has.
        source_of: index of each row's source; shape (rows).
        order: a random number of each row, of which the lowest are drawn first; shape (rows).

    Raises:
        UserError: a source with a share has no row left, so there is no such mixture.
    """
    counts = numpy.bincount(source_of, minlength=len(sources))
    times = numpy.zeros(len(source_of), numpy.int64)
    for number, wanted in enumerate(_wanted(sources, counts)):
        rows = numpy.flatnonzero(source_of == number)
        whole, more = divmod(wanted, max(1, len(rows)))
        times[rows] = whole
        times[rows[numpy.argsort(order[rows], kind="stable")[:more]]] += 1
    return times


def _wanted(sources: list[DataSource], counts: numpy.ndarray) -> list[int]:
    """Return how many rows to draw from each source."""
    if all(source.share is None for source in sources):
        return [
            max(1, round(source.weight * count)) if count else 0
            for source, count in zip(sources, counts.tolist(), strict=True)
        ]
    shares = [source.share or 0.0 for source in sources]
    for source, count in zip(sources, counts, strict=True):
        if not count:
            raise UserError(
                f"data.train: {source.source} has a share, and no row of it is left: each is a duplicate, held out, or has the "
                "question of a held-out row"
            )
    total = min(count / share for share, count in zip(shares, counts.tolist(), strict=True) if share)
    return [min(int(count), max(1, round(share * total))) for share, count in zip(shares, counts, strict=True)]
