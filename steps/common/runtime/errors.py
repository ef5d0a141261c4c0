"""The errors that end a step, and their exit codes."""

USER_ERROR = 2
GATE_REFUSED = 3
# EX_TEMPFAIL: ended by a signal, or something outside did not answer. Work is saved; running the step again resumes it.
INTERRUPTED = 75


class UserError(Exception):
    """A problem that the user can fix. Its text is one line: what happened, to what, and what to do next."""


class RefusedError(Exception):
    """A new version failed a check, and the current one stays in place. Its text is one line with the reason."""


class InterruptedStepError(Exception):
    """The step was asked to stop and did, with its work saved. Its text is one line."""


class UnreachableError(Exception):
    """Something outside, such as a registry or a hub, did not answer, even when asked again. Its text is one line.

    It is nobody's mistake: a workflow runs the step again, as it does when a pod is lost.
    """


class InterruptedReadError(Exception):
    """A source stopped sending, or never began to; its text gives the reason. The read may be retried."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        """Store the reason, and after how many seconds the source wants to be asked again; 0: it does not say."""
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class UnknownHostError(InterruptedReadError):
    """No DNS server knows the source's host: a mistyped address, unless it is known when asked again."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for an error that is one line; its class if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
