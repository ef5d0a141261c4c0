"""Turns a step's errors into an exit code and one line when the step runs as a process.

In a cluster that line is also the container's termination message. Argo copies it to the node's message, so that the UI
shows it without opening a log.
"""

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from steps.common.runtime import certificates, proxies
from steps.common.runtime.debug import print_cause
from steps.common.runtime.errors import (
    GATE_REFUSED,
    INTERRUPTED,
    USER_ERROR,
    InterruptedStepError,
    RefusedError,
    UnreachableError,
    UserError,
)
from steps.common.runtime.redaction import redact, redact_output, redact_streams
from steps.common.runtime.secret import strip_secrets

TERMINATION_LOG = Path("/dev/termination-log")  # mounted into every container by Kubernetes
LONGEST_MESSAGE = 1000  # characters

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Mark `function` as a step.

    A direct call raises errors unchanged. Under Hera's runner, in a container or a local process, a `UserError` becomes one
    `error: ...` line on standard error and exit code 2, a `RefusedError` exit code 3, an `InterruptedStepError` or
    an `UnreachableError` exit code 75; any other error keeps its traceback. Secrets are stripped before `function` reads
    them, and taken out of its output and of everything that it prints.
    """

    @functools.wraps(function)
    def process(*args: P.args, **kwargs: P.kwargs) -> R:
        # Only Hera's runner sets this variable, to its output folder.
        if "hera__outputs_directory" not in os.environ:
            return function(*args, **kwargs)
        # By default SIGTERM ends a process at once; with a handler that exits, every `finally` still runs.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
        redact_streams()
        certificates.trust_bundle()
        proxies.bypass_proxies()
        try:
            strip_secrets()
            output = redact_output(function(*args, **kwargs))
        except Exception as error:
            code, line = _ending(error)
            write_termination_message(line or f"{type(error).__name__}: {error}")
            if not code:
                raise
            print_cause(error)
            print(f"error: {line}", file=sys.stderr, flush=True)
            sys.exit(code)
        if getattr(output, "exit_code", None):
            write_termination_message(str(getattr(output, "verdict", "")))
        return output

    return process


def write_termination_message(text: str) -> None:
    """Write the container's termination message; do nothing outside a container."""
    if TERMINATION_LOG.is_file() and os.access(TERMINATION_LOG, os.W_OK):
        TERMINATION_LOG.write_text(" ".join(redact(text).split())[:LONGEST_MESSAGE])


def in_one_line(error: Exception) -> str:
    """Return what an error of a step says to a person, in one line."""
    return _ending(error)[1] or f"{type(error).__name__}: {' '.join(str(error).split())}"


def _ending(error: Exception) -> tuple[int, str]:
    if isinstance(error, UserError):
        return USER_ERROR, str(error)
    if isinstance(error, RefusedError):
        return GATE_REFUSED, str(error)
    if isinstance(error, InterruptedStepError | UnreachableError):
        return INTERRUPTED, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return USER_ERROR, f"no space left on the disk{where}; free some space and run it again: completed work is kept"
    return 0, ""
