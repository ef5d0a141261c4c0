"""Tokens and labels of a preference: the same prompt twice, once with each answer, of which the answer alone is scored.

What stands before the last turn is the same on both sides, so that its log-probability says nothing of the preference.
"""

from typing import Any

from steps.common.rows.row import Row
from steps.prepare.labels import Example, LabelError, example


class PairExample(Example):
    """A pair as the model reads it: the chosen side, and beside it the rejected one."""

    rejected: Example

    @property
    def tokens(self) -> int:
        """How many tokens are read, on both sides."""
        return super().tokens + self.rejected.tokens

    @property
    def labelled(self) -> int:
        """How many of them are scored."""
        return super().labelled + self.rejected.labelled


def labelled(row: Row, tokenizer: Any, max_tokens: int) -> Example:
    """Tokenise and label a row of any kind, a pair on both sides.

    Args:
        row: a chat, a plain text or a pair.
        tokenizer: a fast tokenizer of transformers, which knows the offsets.
        max_tokens: longest row in tokens; of a pair, of each side.

    Raises:
        LabelError: it cannot be; the text says why.
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
        raise LabelError("its answers are the same to the model: the chat template takes away what they differ in")
    return PairExample(input_ids=chosen.input_ids, labels=chosen.labels, rejected=rejected)
