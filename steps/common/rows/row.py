"""A row of training data, independent of the form of its file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row to train on.

    It has either `messages` (role and content, the last one from the assistant) or `text`. In a pair, the last message is
    the chosen answer and `rejected` is the other one.
    """

    messages: tuple[tuple[str, str], ...] = ()
    text: str = ""
    rejected: str = ""

    @property
    def question(self) -> str:
        """All that the assistant did not say; for plain text, the text itself."""
        return "\n".join(content for role, content in self.messages if role != "assistant") or self.text

    @property
    def content(self) -> str:
        """The whole row as text, with roles."""
        text = "\n".join(f"{role}: {content}" for role, content in self.messages) or self.text
        return f"{text}\nrejected: {self.rejected}" if self.rejected else text

    @property
    def readings(self) -> tuple["Row", ...]:
        """The rows that the model reads: the row itself; for a pair, the chosen and the rejected conversation."""
        if not self.rejected:
            return (self,)
        answered = (*self.messages[:-1], ("assistant", self.rejected))
        return Row(messages=self.messages, text=self.text), Row(messages=answered)


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
