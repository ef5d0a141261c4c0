"""Tokenises and labels a pair: the same prompt with each of the two answers, of which only the answer is scored.

Everything before the last turn is equal on both sides, so its log-probability carries no preference.
"""

from typing import Any

from steps.common.rows.row import Row
from steps.prepare.labels import Example, LabelError, example


class PairExample(Example):
    """A pair as the model reads it: the chosen side, and the rejected one as an attribute."""

    rejected: Example

    @property
    def tokens(self) -> int:
        """Number of tokens on both sides."""
        return super().tokens + self.rejected.tokens

    @property
    def labelled(self) -> int:
        """Number of scored tokens on both sides."""
        return super().labelled + self.rejected.labelled


def labelled_example(row: Row, tokenizer: Any, max_tokens: int) -> Example:
    """Tokenise and label a row of any kind.

    Args:
        row: a chat, a plain text or a pair.
        tokenizer: a fast transformers tokenizer, which provides offsets.
        max_tokens: longest row, in tokens; for a pair, of each side.

    Raises:
        LabelError: the row cannot be labelled; the text says why.
    """
    if not row.rejected:
        return example(row, tokenizer, max_tokens)
    sides = []
    for name, side in zip(("chosen", "rejected"), row.readings, strict=True):
        try:
            sides.append(example(side, tokenizer, max_tokens, last_alone=True))
        except LabelError as error:
            raise LabelError(f"with its {name} answer, {error}") from None
    chosen, rejected = sides
    if chosen.input_ids == rejected.input_ids:
        raise LabelError(
            "the chat template removes the difference between its answers, so the model reads the same text twice"
        )
    return PairExample(input_ids=chosen.input_ids, labels=chosen.labels, rejected=rejected)
