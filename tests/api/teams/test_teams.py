"""Teams and their limits."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from api.database.engine import open_database
from api.teams.caller import Limits
from api.teams.teams import all_teams, limits_of, make_team, set_limits, team_named
from steps.common.runtime.errors import UserError
from tests.support.postgres import new_database, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def sessions(request: pytest.FixtureRequest, tmp_path: Path) -> sessionmaker[Session]:
    if request.param == "sqlite":
        return open_database(f"sqlite:///{tmp_path}/api.db")
    return open_database(new_database(request.getfixturevalue("server"), f"test_{uuid.uuid4().hex}"))


def test_a_team_is_made_once_and_has_no_limits_at_first(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        assert make_team(session, "pets")
    with sessions.begin() as session:
        assert not make_team(session, "pets")
        assert make_team(session, "a")
    with sessions() as session:
        assert [team.name for team in all_teams(session)] == ["a", "pets"]
        assert limits_of(team_named(session, "pets")) == Limits()


def test_processes_that_make_the_same_team_at_once_make_one(sessions: sessionmaker[Session]) -> None:
    def make(_: int) -> bool:
        with sessions.begin() as session:
            return make_team(session, "pets")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(16))) == 1


@pytest.mark.parametrize("name", ["", "Pets", "1st", "pets-", "pets_vets", "p" * 21, "pets\n", "../pets"])
def test_a_name_that_cannot_begin_a_models_name_is_refused(sessions: sessionmaker[Session], name: str) -> None:
    with sessions.begin() as session, pytest.raises(UserError, match="is not a valid team name"):
        make_team(session, name)


def test_limits_are_set_and_lifted(sessions: sessionmaker[Session]) -> None:
    limits = Limits(dollars_a_month=12.5, jobs_at_once=2, models=0, requests_a_minute=60)
    with sessions.begin() as session:
        make_team(session, "pets")
        set_limits(session, "pets", limits)
    with sessions.begin() as session:
        assert limits_of(team_named(session, "pets")) == limits
        set_limits(session, "pets", Limits())
    with sessions() as session:
        assert limits_of(team_named(session, "pets")) == Limits()


@pytest.mark.parametrize(
    "limits",
    [Limits(models=-1), Limits(jobs_at_once=2**63), Limits(dollars_a_month=float("nan")), Limits(dollars_a_month=-0.5)],
)
def test_a_limit_out_of_range_is_refused(sessions: sessionmaker[Session], limits: Limits) -> None:
    with sessions.begin() as session:
        make_team(session, "pets")
        with pytest.raises(UserError, match="is out of range; write 0 or more"):
            set_limits(session, "pets", limits)


def test_limits_of_what_is_no_team_are_refused(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session, pytest.raises(UserError, match="there is no team 'pets'; there are no teams yet"):
        set_limits(session, "pets", Limits())
