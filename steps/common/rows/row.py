"""One row of training data, whatever form it came in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row that can be learnt from.

    Either `messages` (role and content, the last one the assistant's) or `text` is there. In a pair the last message is
    the chosen answer, and `rejected` what might have been said instead.
    """

    messages: tuple[tuple[str, str], ...] = ()
    text: str = ""
    rejected: str = ""

    @property
    def question(self) -> str:
        """What is given: everything that the assistant did not say; for plain text the text itself."""
        return "\n".join(content for role, content in self.messages if role != "assistant") or self.text

    @property
    def content(self) -> str:
        """All of it, roles included."""
        told = "\n".join(f"{role}: {content}" for role, content in self.messages) or self.text
        return f"{told}\nrejected: {self.rejected}" if self.rejected else told

    @property
    def readings(self) -> tuple["Row", ...]:
        """What the model reads of it, each a row without a pair: the chat as it is, and the one with the rejected answer."""
        if not self.rejected:
            return (self,)
        answered = (*self.messages[:-1], ("assistant", self.rejected))
        return Row(messages=self.messages, text=self.text), Row(messages=answered)


@dataclass(frozen=True)
class RowPlace:
    """Where a row stands."""

    file: str
    line: int  # of a text file, from 1; of a Parquet file the row, from 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    place: RowPlace
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
