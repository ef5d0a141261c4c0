"""The attempts to get a node, saved in the run's folder, so that a step that was killed continues where it stopped."""

from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from steps.common.handover.resolved import Rung
from steps.common.runtime.progress import duration
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.common.storage.record import Record, Upgrade
from steps.provision.attempt.causes import FINAL, Cause

FILE = "attempts.json"


class Stage(StrEnum):
    """How far an attempt got: Karpenter's stages of a node."""

    REQUESTED = "requested"
    LAUNCHED = "launched"
    REGISTERED = "registered"
    READY = "ready"

    @classmethod
    def _missing_(cls, value: object) -> "Stage | None":
        return cls.REQUESTED if value == "asked" else None  # as earlier releases wrote it


class Attempt(BaseModel):
    """One rung of the ladder, tried once."""

    instance_type: str
    capacity: str
    zone: str = ""
    price: float | None = None  # US dollars an hour
    stage: Stage = Stage.REQUESTED
    seconds: float = 0.0
    cause: Cause | None = None  # None: it is in progress, or it succeeded
    reason: str = ""  # as the cloud or Karpenter reports it

    def is_of(self, rung: Rung) -> bool:
        """Return whether it is an attempt at that rung."""
        return (self.instance_type, self.capacity) == (rung.instance_type, rung.capacity)

    def in_words(self) -> str:
        """Return it as one line."""
        zone = f" in {self.zone}" if self.zone else ""
        price = f" at ${self.price:g}/h" if self.price is not None else ""
        why = f": {self.cause}: {self.reason}" if self.cause else ""
        return f"{self.instance_type} {self.capacity}{zone}{price}: {self.stage} after {duration(self.seconds)}{why}"


def _from_0_1_0(content: Any) -> dict[str, Any]:
    return {"attempts": content}  # the file was a list


class Attempts(Record):
    """The content of the file."""

    upgrades: ClassVar[dict[int, Upgrade]] = {0: _from_0_1_0}

    attempts: list[Attempt]


def begin(rung: Rung) -> Attempt:
    """Return a new attempt at a rung."""
    return Attempt(instance_type=rung.instance_type, capacity=rung.capacity, price=rung.price)


def load(run: str, ladder: list[Rung]) -> list[Attempt]:
    """Return the attempts of an earlier process of this step that was killed.

    If that process had given up, having tried the whole ladder or met a cause that no other rung avoids, the step starts over:
    what was sold out may be available now.
    """
    try:
        made = Attempts.read(_file(run).read_text(), _file(run)).attempts
    except FileNotFoundError:
        return []
    failed = [one for one in made if one.cause]
    given_up = any(one.cause in FINAL for one in failed) or all(
        any(one.is_of(rung) for one in failed) for rung in ladder
    )
    return [] if given_up else made


def save(run: str, attempts: list[Attempt]) -> None:
    """Save the attempts."""
    write_text(_file(run), Attempts(attempts=attempts).model_dump_json(indent=2) + "\n")


def _file(run: str) -> Path:
    return volumes.run_folder(run or "unnamed") / FILE
