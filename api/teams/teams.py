"""The teams and their limits."""

import re
import time
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.database.tables import Team
from api.teams.caller import Limits
from steps.common.runtime.errors import UserError

# The names of a team's models begin with it, so it must leave room for the rest.
NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
LARGEST = 2**63 - 1  # that the tables store


def make_team(session: Session, name: str) -> bool:
    """Create a team without limits if it does not exist, and return whether it is new.

    Raises:
        UserError: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a valid team name; use at most 20 lower-case letters, digits, and hyphens, with a letter "
            "first and no hyphen last"
        )
    if session.get(Team, name):
        return False
    try:
        with session.begin_nested():
            session.add(Team(name=name, created_at=int(time.time())))
    except IntegrityError:  # another process has just created it
        return False
    return True


def team_named(session: Session, name: str) -> Team:
    """Return a team.

    Raises:
        UserError: there is no such team.
    """
    if found := session.get(Team, name):
        return found
    known = ", ".join(team.name for team in all_teams(session))
    others = f"the teams are: {known}" if known else "there are no teams yet"
    raise UserError(f"there is no team {name!r}; {others}; make it with: fineline api keys make {name}")


def all_teams(session: Session) -> list[Team]:
    """Return every team, by name."""
    return list(session.scalars(select(Team).order_by(Team.name)))


def limits_of(team: Team) -> Limits:
    """Return what a team may use."""
    return Limits(
        dollars_a_month=team.dollars_a_month,
        jobs_at_once=team.jobs_at_once,
        models=team.models,
        requests_a_minute=team.requests_a_minute,
    )


def set_limits(session: Session, name: str, limits: Limits) -> None:
    """Replace the limits of a team.

    Raises:
        UserError: there is no such team, or a limit is out of range.
    """
    team = team_named(session, name)
    for limit, value in asdict(limits).items():
        if value is not None and not 0 <= value <= LARGEST:  # not true of NaN either
            raise UserError(f"limit {limit}: {value} is out of range; write 0 or more")
        setattr(team, limit, value)
