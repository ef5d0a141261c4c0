"""Labels rows of any kind. Of a pair, which is the same prompt with each of two answers, only the answers are scored.

Everything before the last turn is equal on both sides, so its log-probability carries no preference.
"""

from collections.abc import Sequence
from dataclasses import replace

from steps.common.rows.row import Row
from steps.prepare.labels import Example, Labeller
from steps.prepare.learnt_turns import LabelError


def labelled_examples(row: Row, labeller: Labeller) -> list[Example]:
    """Tokenise and label a row of any kind.

    Args:
        row: a chat, a plain text or a pair.
        labeller: of the model. Its `max_tokens` is the limit of each example; for a pair, of each side.

    Returns:
        One example; more if the chat template writes some turns otherwise once they are answered, since each turn is learnt
        under the prompt that the server builds for it.

    Raises:
        LabelError: the row cannot be labelled; the text says why. TooLongError: it is too long.
    """
    found = labelled_examples_batch([row], labeller)[0]
    if isinstance(found, LabelError):
        raise found
    return found


def labelled_examples_batch(rows: Sequence[Row], labeller: Labeller) -> list[list[Example] | LabelError]:
    """Do the same for many rows with one call of the tokenizer: several times as fast. Errors are returned."""
    plain = iter(labeller.examples_of([row for row in rows if not row.rejected]))
    sides = iter(labeller.examples_of([side for row in rows if row.rejected for side in row.readings], last_alone=True))
    return [_pair(next(sides), next(sides)) if row.rejected else next(plain) for row in rows]


def _pair(chosen: list[Example] | LabelError, rejected: list[Example] | LabelError) -> list[Example] | LabelError:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(side, LabelError):
            return side.within(f"with its {name} answer, ")
    assert not isinstance(chosen, LabelError) and not isinstance(rejected, LabelError)
    (one,), (other,) = chosen, rejected
    if one.input_ids == other.input_ids:
        return LabelError(
            "the chat template removes the difference between its answers, so the model reads the same text twice"
        )
    return [replace(one, rejected=other)]
