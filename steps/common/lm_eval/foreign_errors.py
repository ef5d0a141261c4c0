"""Errors of code that is not ours, in one line."""


def as_one_line(error: Exception) -> str:
    """Return an error's type and text as one line."""
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text}"
