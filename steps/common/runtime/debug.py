"""Shows what is behind an error of one line."""

import os
import sys

DEBUG_SETTING = "FINELINE_DEBUG"


def print_cause(error: BaseException) -> None:
    """Print the error's traceback to standard error, with every error that led to it, where FINELINE_DEBUG is set to 1.

    Errors of one line are raised `from None`, which hides what they were made from; here it is shown all the same.
    """
    if os.environ.get(DEBUG_SETTING, "") in ("", "0"):
        return
    import traceback

    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__suppress_context__ = link.__cause__ is not None
        link = link.__cause__ or link.__context__
    traceback.print_exception(error, file=sys.stderr)
