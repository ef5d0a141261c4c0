"""One row of training data, whatever form it came in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row that can be learnt from.

    Either `messages` (role and content, the last one the assistant's) or `text` is there.
    """

    messages: tuple[tuple[str, str], ...] = ()
    text: str = ""

    @property
    def question(self) -> str:
        """What is given: everything that the assistant did not say; for plain text the text itself."""
        return "\n".join(content for role, content in self.messages if role != "assistant") or self.text

    @property
    def content(self) -> str:
        """All of it, roles included."""
        return "\n".join(f"{role}: {content}" for role, content in self.messages) or self.text


@dataclass(frozen=True)
class Place:
    """Where a row stands."""

    file: str
    line: int  # of a text file, from 1; of a Parquet file the row, from 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"
