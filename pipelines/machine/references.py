"""Fills in `{{...}}`, Argo's references to the workflow's parameters and to the outputs of earlier tasks."""

import re
from collections.abc import Mapping

REFERENCE = re.compile(r"\{\{([^{}]+)\}\}")


class UnknownReferenceError(Exception):
    """A reference to a value that does not exist."""


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with every reference replaced. A value that contains a reference is not filled in again.

    Raises:
        UnknownReferenceError: `values` lacks a reference.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name not in values:
            raise UnknownReferenceError(f"'{{{{{name}}}}}' refers to nothing")
        return values[name]

    return REFERENCE.sub(value, text)
