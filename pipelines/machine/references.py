"""Fills in `{{...}}`: Argo's references to the workflow and to what earlier tasks gave."""

import re
from collections.abc import Mapping

REFERENCE = re.compile(r"\{\{([^{}]+)\}\}")


class UnknownReferenceError(Exception):
    """A reference to what is not there."""


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with every reference replaced, once: a value that looks like a reference stays as it is.

    Raises:
        UnknownReferenceError: a reference that `values` has not.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in values:
            raise UnknownReferenceError(f"'{{{{{name}}}}}' refers to nothing")
        return values[name]

    return REFERENCE.sub(value, text)
