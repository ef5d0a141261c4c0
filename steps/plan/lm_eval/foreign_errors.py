"""What others' code says when it fails."""


def one_line(error: Exception) -> str:
    """Return an error with its kind, as one line."""
    text = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {text}"
