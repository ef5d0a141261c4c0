"""The errors that end a step, and their exit codes."""

USER_ERROR = 2
GATE_REFUSED = 3
INTERRUPTED = 75  # EX_TEMPFAIL: ended by a signal, with its work saved; running the step again resumes it


class UserError(Exception):
    """A problem that the user can fix. Its text is one line: what happened, to what, and what to do next."""


class RefusedError(Exception):
    """A new version failed a check, and the current one stays in place. Its text is one line with the reason."""


class InterruptedStepError(Exception):
    """The step was asked to stop and did, with its work saved. Its text is one line."""


class InterruptedReadError(Exception):
    """A source stopped sending, or never began to; its text gives the reason. The read may be retried."""
