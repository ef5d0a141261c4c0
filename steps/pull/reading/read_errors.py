"""Errors of a reader, besides an interrupted read."""


class ThrottledError(Exception):
    """The source asks for fewer or later requests."""

    def __init__(self, reason: str, seconds: float) -> None:
        """Store the reason, and the seconds to wait; 0 if the source does not say."""
        super().__init__(reason)
        self.seconds = seconds


class NoRangesError(Exception):
    """The source does not support ranges."""
