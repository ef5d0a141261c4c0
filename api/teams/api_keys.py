"""The keys of teams. A key is shown once, when it is made; its hash is stored.

A key has 256 random bits, so its SHA-256 is as hard to guess as the key. It needs neither a salt nor a slow hash.
"""

import hmac
import secrets
import time
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.database.tables import ApiKey, Team
from api.teams.teams import team_named
from steps.common.runtime.errors import UserError

PREFIX, RANDOM_BYTES = "fl-", 32
SHOWN = 9  # characters of a key that lists show


@dataclass(frozen=True)
class NewKey:
    """A key that was just made. Its text is known only now."""

    id: str
    team: str
    key: str


def hash_of(key: str) -> str:
    """Return the hash under which a key is stored."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def make_key(session: Session, team: str) -> NewKey:
    """Make a key for a team.

    Raises:
        UserError: there is no such team.
    """
    team_named(session, team)
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    made = ApiKey(
        id=f"key-{secrets.token_hex(6)}", team=team, sha256=hash_of(key), start=key[:SHOWN], created_at=int(time.time())
    )
    session.add(made)
    session.flush()
    return NewKey(id=made.id, team=team, key=key)


def verified(session: Session, key: str) -> tuple[ApiKey, Team] | None:
    """Return a key and its team; None if the key is unknown or has expired.

    The database looks up the hash, so the time that this takes reveals nothing about a key.
    """
    wanted = hash_of(key)
    found = session.execute(
        select(ApiKey, Team).join(Team, Team.name == ApiKey.team).where(ApiKey.sha256 == wanted)
    ).one_or_none()
    if found is None or not hmac.compare_digest(found[0].sha256, wanted):
        return None
    return None if ended(found[0]) else (found[0], found[1])


def ended(key: ApiKey) -> bool:
    """Return whether a key has expired or was revoked."""
    return key.ends_at is not None and key.ends_at <= time.time()


def all_keys(session: Session) -> list[ApiKey]:
    """Return all keys by team, the oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.team, ApiKey.created_at, ApiKey.id)))


def rotate_key(session: Session, key_id: str, valid_seconds: int) -> NewKey:
    """Make a key that replaces another, which still works for some time.

    Raises:
        UserError: there is no such key, or it has expired.
    """
    old = _living(session, key_id)
    end = int(time.time()) + valid_seconds
    old.ends_at = end if old.ends_at is None else min(old.ends_at, end)
    return make_key(session, old.team)


def revoke_key(session: Session, key_id: str) -> ApiKey:
    """Revoke a key at once.

    Raises:
        UserError: there is no such key, or it has expired.
    """
    key = _living(session, key_id)
    key.ends_at = int(time.time())
    return key


def _living(session: Session, key_id: str) -> ApiKey:
    key = session.get(ApiKey, key_id)
    if key is None:
        raise UserError(f"there is no API key {key_id!r}; list the ids with: fineline api keys list")
    if ended(key):
        raise UserError(
            f"API key {key_id} has expired or was revoked; make a new one with: fineline api keys make {key.team}"
        )
    return key
