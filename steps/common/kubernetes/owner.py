"""Whose an object is: an owner is a set of labels, and everything that it made carries them."""

from collections.abc import Mapping
from typing import Any

from steps.common.runtime.errors import UserError

PART_OF = {"app.kubernetes.io/part-of": "fineline"}


class ForeignObjectError(UserError):
    """An object of the needed name exists and belongs to somebody else."""


def refuse_foreign(item: Mapping[str, Any], owner: Mapping[str, str]) -> None:
    """Check that an object belongs to an owner.

    Args:
        item: the object, as the API has it.
        owner: labels that all objects of the owner have.

    Raises:
        ForeignObjectError: it lacks one of the labels.
    """
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    for key, value in owner.items():
        if labels.get(key) != value:
            there = (
                f"its label {key} is {labels[key]}, not {value}" if key in labels else f"it has no label {key}={value}"
            )
            place = f" in namespace {metadata['namespace']}" if metadata.get("namespace") else ""
            raise ForeignObjectError(
                f"{item.get('kind', 'object')} {metadata['name']}{place} belongs to somebody else: {there}; it has been left "
                "as it is: rename or delete it, or choose another name for yours"
            )
