"""Keys: made, shown once, stored hashed, rotated and revoked."""

import hashlib
import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from api.database.engine import open_database
from api.teams.api_keys import NewKey, all_keys, make_key, revoke_key, rotate_key, verified
from api.teams.teams import make_team
from steps.common.runtime.errors import UserError


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "api.db"


@pytest.fixture
def sessions(database: Path) -> sessionmaker[Session]:
    return open_database(f"sqlite:///{database}")


@pytest.fixture
def made(sessions: sessionmaker[Session]) -> NewKey:
    with sessions.begin() as session:
        make_team(session, "pets")
        return make_key(session, "pets")


def works(sessions: sessionmaker[Session], key: str) -> bool:
    with sessions() as session:
        return verified(session, key) is not None


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    at = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: at)


def test_a_key_leads_to_its_team(sessions: sessionmaker[Session], made: NewKey) -> None:
    with sessions() as session:
        found = verified(session, made.key)
        assert found is not None
        assert (found[0].id, found[1].name) == (made.id, "pets")


def test_the_key_is_not_stored(sessions: sessionmaker[Session], made: NewKey, database: Path) -> None:
    stored = database.read_bytes()
    assert made.key[3:].encode() not in stored
    assert hashlib.sha256(made.key.encode()).hexdigest().encode() in stored
    with sessions() as session:
        (key,) = all_keys(session)
    assert made.key.startswith(key.start)
    assert len(key.start) < 12


def test_keys_are_all_different_and_of_256_random_bits(sessions: sessionmaker[Session], made: NewKey) -> None:
    with sessions.begin() as session:
        keys = {make_key(session, "pets").key for _ in range(50)} | {made.key}
    assert len(keys) == 51
    assert {len(key) for key in keys} == {len("fl-") + 43}  # 43 characters of 6 bits


@pytest.mark.parametrize(
    "change", [str.upper, lambda key: key[:-1], lambda key: key + "A", lambda _: "", lambda k: k[3:]]
)
def test_nothing_else_is_a_key(sessions: sessionmaker[Session], made: NewKey, change: object) -> None:
    assert callable(change)
    assert not works(sessions, change(made.key))
    assert not works(sessions, "\udcff\0' OR 1=1")
    with sessions() as session:
        assert not works(sessions, all_keys(session)[0].sha256)


def test_a_revoked_key_ends_at_once_and_only_that_one(sessions: sessionmaker[Session], made: NewKey) -> None:
    with sessions.begin() as session:
        other = make_key(session, "pets")
        revoke_key(session, made.id)
    assert not works(sessions, made.key)
    assert works(sessions, other.key)
    with sessions.begin() as session, pytest.raises(UserError, match="has expired or was revoked; make a new one with"):
        revoke_key(session, made.id)


def test_a_rotated_key_works_for_the_time_that_was_said(
    sessions: sessionmaker[Session], made: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.begin() as session:
        new = rotate_key(session, made.id, 3600)
    assert new.team == "pets"
    assert works(sessions, made.key)
    later(monkeypatch, 3590)
    assert works(sessions, made.key)
    later(monkeypatch, 20)
    assert not works(sessions, made.key)
    assert works(sessions, new.key)


def test_another_rotation_does_not_prolong_a_key(
    sessions: sessionmaker[Session], made: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.begin() as session:
        rotate_key(session, made.id, 60)
        rotate_key(session, made.id, 3600)
    later(monkeypatch, 61)
    assert not works(sessions, made.key)
    with sessions.begin() as session, pytest.raises(UserError, match="has expired"):
        rotate_key(session, made.id, 3600)


def test_a_key_of_what_is_no_team_or_no_key_is_refused(sessions: sessionmaker[Session], made: NewKey) -> None:
    with sessions.begin() as session:
        with pytest.raises(UserError, match="there is no team 'vets'; the teams are: pets"):
            make_key(session, "vets")
        with pytest.raises(UserError, match="there is no API key 'key-x'"):
            rotate_key(session, "key-x", 1)
        with pytest.raises(UserError, match="there is no API key"):
            revoke_key(session, made.key)
