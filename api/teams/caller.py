"""Who makes a request, found by its API key."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a team may use; None: no limit."""

    dollars_a_month: float | None = None  # for the jobs of a calendar month, in UTC
    jobs_at_once: int | None = None  # queued or running
    models: int | None = None  # that it owns
    requests_a_minute: int | None = None


@dataclass(frozen=True)
class Caller:
    """The team behind a request."""

    team: str
    key: str  # id of the key
    limits: Limits
