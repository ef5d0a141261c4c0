"""What may happen to a read over the network besides that it is interrupted."""


class ThrottledError(Exception):
    """The source wants to be asked less, or later."""

    def __init__(self, reason: str, seconds: float) -> None:
        """Say why, and for how long; 0 where the source does not."""
        super().__init__(reason)
        self.seconds = seconds


class NoRangesError(Exception):
    """The source gives the whole file or nothing."""
