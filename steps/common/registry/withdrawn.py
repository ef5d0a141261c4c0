"""Versions that a person or a watch window has taken back. They are served again only by name, with --force."""

import time
from typing import Any

from pydantic import ConfigDict

from steps.common.registry import versions
from steps.common.runtime.errors import RefusedError
from steps.common.storage.record import NewerRecordError, Record

LONGEST_REASON = 500


class Withdrawal(Record):
    """By whom a version was taken back, when, and why."""

    model_config = ConfigDict(frozen=True)

    by: str
    at: float  # seconds since 1970
    why: str = ""

    def in_words(self) -> str:
        """Return it as it stands after 'version 2 was withdrawn'."""
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.at))
        return f"by {self.by or 'an unnamed person'} on {day}{f': {self.why}' if self.why else ''}"


def withdraw(store: Any, name: str, version: int, by: str, why: str) -> None:
    """Tag a version as taken back, unless it is already."""
    if withdrawal(store.get_model_version(name, str(version))) is None:
        made = Withdrawal(by=by, at=time.time(), why=" ".join(why.split())[:LONGEST_REASON])
        store.set_model_version_tag(name, str(version), versions.WITHDRAWN, made.model_dump_json())


def readmit(store: Any, name: str, version: int) -> None:
    """Remove the tag of a version that was taken back."""
    if withdrawal(store.get_model_version(name, str(version))) is not None:
        store.delete_model_version_tag(name, str(version), versions.WITHDRAWN)


def withdrawal(version: Any) -> Withdrawal | None:
    """Return how a registered version was taken back; None if it was not."""
    text = version.tags.get(versions.WITHDRAWN, "")
    if not text:
        return None
    try:
        return Withdrawal.read(text, f"{version.name} version {version.version}, tag {versions.WITHDRAWN}")
    except (ValueError, NewerRecordError):  # written by hand, or by a later release
        return Withdrawal(by="", at=version.last_updated_timestamp / 1000, why=text)


def check_not_withdrawn(version: Any) -> None:
    """Raise if a registered version was taken back.

    Raises:
        RefusedError: it was; the text says by whom, when and why, and how it is served all the same.
    """
    if line := in_words(version):
        raise RefusedError(line)


def in_words(version: Any) -> str:
    """Return that a registered version was taken back, and how to serve it again, as one line; empty if it was not."""
    found = withdrawal(version)
    if found is None:
        return ""
    again = f"fineline rollback {version.name} --version {version.version} --force"
    return f"{version.name} version {version.version} was withdrawn {found.in_words()}; `{again}` serves it again"


def withdrawn_with(store: Any, name: str, made_from: str) -> str:
    """Return the line of a version that was made from the same inputs and taken back; empty if there is none."""
    found = store.search_model_versions(f"name = '{name}'")
    lines = [in_words(one) for one in found if one.tags.get(versions.MADE_FROM) == made_from]
    return next(filter(None, lines), "")
