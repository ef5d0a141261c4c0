"""A row of training data, independent of the form of its file."""

from dataclasses import dataclass, field

from steps.common.rows.conversation import Conversation, Message


@dataclass(frozen=True)
class Row:
    """A row to train on.

    It has either a `conversation` that ends with an assistant's message that is learnt, or `text`. In a pair, that last
    message is the chosen answer and `rejected` is the other one.
    """

    conversation: Conversation | None = None
    text: str = ""
    rejected: Message | None = None
    ignored: tuple[str, ...] = field(default=(), compare=False)  # what the row has besides, by name: it has no effect

    @property
    def question(self) -> str:
        """What is asked; for plain text, the text itself."""
        return self.conversation.question if self.conversation else self.text

    @property
    def content(self) -> str:
        """The whole row as text, with roles."""
        text = self.conversation.content if self.conversation else self.text
        return f"{text}\nrejected: {self.rejected.text}" if self.rejected else text

    @property
    def readings(self) -> tuple["Row", ...]:
        """The rows that the model reads: the row itself; for a pair, the chosen and the rejected conversation."""
        if not self.rejected or not self.conversation:
            return (self,)
        return Row(self.conversation), Row(self.conversation.answered(self.rejected))


@dataclass(frozen=True)
class RowPlace:
    """The place of a row in a file."""

    file: str
    line: int  # counted from 1; in a Parquet file, the row

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    place: RowPlace
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
