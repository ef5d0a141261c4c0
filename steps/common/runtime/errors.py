"""The errors that a step ends with, and the exit codes that tell them apart."""

USER_ERROR = 2
GATE_REFUSED = 3
INTERRUPTED = 75  # EX_TEMPFAIL: ended by a signal with its work kept; start it again


class UserError(Exception):
    """Something that the user can mend; the text is one line: what happened, to what, and what to do next."""


class RefusedError(Exception):
    """A new version is not good enough to go on with, and what was there stays; the text is one line with the reason."""


class InterruptedStepError(Exception):
    """The step was told to stop and did, with its work kept; the text is one line."""


class InterruptedReadError(Exception):
    """The bytes of a source stopped coming, or never began to; the text says why. It may be tried again."""
