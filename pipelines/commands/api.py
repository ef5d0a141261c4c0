"""`fineline api`: serve OpenAI's fine-tuning API, and manage the teams that may use it, and their keys."""

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_json

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from api.database.tables import ApiKey, Team
    from api.teams.api_keys import NewKey

HELP = "serve OpenAI's fine-tuning API, and manage its teams and their keys"
DESCRIPTION = (
    "Serve OpenAI's fine-tuning API until Ctrl-C or SIGTERM. Or manage the teams that may use it: their keys and limits. "
    "Changes take effect at once."
)
HOUR = 3600
LIMITS = {
    "dollars_a_month": "most US dollars for the jobs of a calendar month (UTC)",
    "jobs_at_once": "most jobs that may be queued or running at once",
    "models": "most models that the team may own",
    "requests_a_minute": "most requests that the team may make in a minute; each replica of the server counts its own",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and its actions with their arguments."""
    parser.add_argument("--host", default="", help="address to listen on (default: FINELINE_API_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port to listen on (default: FINELINE_API_PORT or 8350)")
    subjects = parser.add_subparsers(dest="subject", metavar="keys|teams")
    managing = "make, list, rotate, or revoke the keys of teams"
    keys = subjects.add_parser("keys", help=managing, description=managing.capitalize() + ".")
    _add_key_actions(keys.add_subparsers(dest="action", metavar="make|list|rotate|revoke", required=True))
    limiting = "list the teams, or set their limits"
    teams = subjects.add_parser("teams", help=limiting, description=limiting.capitalize() + ".")
    _add_team_actions(teams.add_subparsers(dest="action", metavar="list|set", required=True))


def _add_key_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    making = (
        "make a key for a team, and create the team if it is new; the key is printed once, and only its hash is stored"
    )
    make = actions.add_parser("make", help=making, description=making.capitalize() + ".")
    make.add_argument("team", help="name of the team; the names of its models begin with it")
    add_json(make)
    listing = "list the keys"
    add_json(actions.add_parser("list", help=listing, description=listing.capitalize() + "."))
    rotating = "make a key that replaces another; the old key still works for some hours"
    rotate = actions.add_parser("rotate", help=rotating, description=rotating.capitalize() + ".")
    rotate.add_argument("key", help="id of the key, from the list")
    rotate.add_argument(
        "--hours", type=_whole_number, default=24, help="hours for which the old key still works (default: 24)"
    )
    add_json(rotate)
    revoking = "revoke a key at once"
    revoke = actions.add_parser("revoke", help=revoking, description=revoking.capitalize() + ".")
    revoke.add_argument("key", help="id of the key, from the list")


def _add_team_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    listing = "list the teams and their limits"
    add_json(actions.add_parser("list", help=listing, description=listing.capitalize() + "."))
    setting = "set limits of a team; limits that you do not name stay as they are"
    limits = actions.add_parser("set", help=setting, description=setting.capitalize() + ".")
    limits.add_argument("team", help="name of the team")
    for limit, meaning in LIMITS.items():
        kind = _dollars if limit == "dollars_a_month" else _whole_number
        limits.add_argument(
            f"--{limit.replace('_', '-')}",
            type=_or_none(kind),
            default=argparse.SUPPRESS,
            metavar="NUMBER|none",
            help=f"{meaning}; none: no limit",
        )


def execute(parsed: argparse.Namespace) -> int:
    """Serve, or manage keys or teams.

    Raises:
        UserError: the API is not installed, a setting is wrong, or there is no such team or key.
    """
    _check_installed()
    if parsed.subject == "keys":
        return _keys(parsed)
    if parsed.subject == "teams":
        return _list_teams(as_json=parsed.json) if parsed.action == "list" else _set_limits(parsed)
    from api.server.serve import serve

    return serve(parsed.host, parsed.port)


def _check_installed() -> None:
    from importlib.util import find_spec

    from steps.common.runtime.errors import UserError

    missing = [name for name in ("alembic", "fastapi", "sqlalchemy", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f"the API needs {', '.join(missing)}; install it with: pip install 'fineline[api]'")


def _database() -> "sessionmaker[Session]":
    from api.api_settings import api_settings
    from api.database.engine import open_database

    return open_database(api_settings().database)


def _keys(parsed: argparse.Namespace) -> int:
    from api.teams import api_keys
    from api.teams.teams import make_team

    with _database().begin() as session:
        if parsed.action == "list":
            return _list_keys(api_keys.all_keys(session), as_json=parsed.json)
        if parsed.action == "revoke":
            key = api_keys.revoke_key(session, parsed.key)
            told = f"revoked {key.id} of team {key.team}"
        elif parsed.action == "rotate":
            made = api_keys.rotate_key(session, parsed.key, parsed.hours * HOUR)
            told = f"the old key {parsed.key} still works for {parsed.hours} h"
        else:
            new = make_team(session, parsed.team)
            made = api_keys.make_key(session, parsed.team)
            told = f"team {parsed.team} is new and has no limits; set them with: {_command('teams set ' + parsed.team)}"
            told = told if new else ""
    # After the commit, so that no key is shown that is not stored.
    if parsed.action == "revoke":
        print(told)
    else:
        _show(made, told, as_json=parsed.json)
    return 0


def _show(made: "NewKey", told: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"id": made.id, "team": made.team, "key": made.key}, indent=2))
        return
    print(f"{made.id} of team {made.team}; save this key now, since it is not shown again:")
    print(made.key)
    if told:
        print(told)


def _list_keys(keys: "list[ApiKey]", *, as_json: bool) -> int:
    from api.teams.api_keys import ended
    from pipelines.shown.table import print_table

    if as_json:
        listed = [
            {
                "id": key.id,
                "team": key.team,
                "start": key.start,
                "created_at": key.created_at,
                "ends_at": key.ends_at,
                "ended": ended(key),
            }
            for key in keys
        ]
        print(json.dumps(listed, indent=2))
    elif keys:
        rows = [
            (key.id, key.team, f"{key.start}...", _day(key.created_at), _day(key.ends_at) if key.ends_at else "")
            for key in keys
        ]
        print_table("API keys", ["id", "team", "key", "made", "expires"], rows)
    else:
        print(f"no API keys yet; make one with: {_command('keys make TEAM')}")
    return 0


def _list_teams(*, as_json: bool) -> int:
    from api.teams.teams import all_teams
    from pipelines.shown.table import print_table

    with _database()() as session:
        teams = all_teams(session)
    if as_json:
        listed = [{"name": team.name, "created_at": team.created_at, **_limits(team)} for team in teams]
        print(json.dumps(listed, indent=2))
    elif teams:
        columns = ["team", *(limit.replace("_", " ") for limit in LIMITS)]
        rows = [
            (team.name, *("" if value is None else f"{value:g}" for value in _limits(team).values())) for team in teams
        ]
        print_table("teams and their limits", columns, rows)
    else:
        print(f"no teams yet; make one and its first key with: {_command('keys make TEAM')}")
    return 0


def _set_limits(parsed: argparse.Namespace) -> int:
    from dataclasses import replace

    from api.teams.teams import limits_of, set_limits, team_named
    from steps.common.runtime.errors import UserError

    given = {limit: getattr(parsed, limit) for limit in LIMITS if hasattr(parsed, limit)}
    if not given:
        raise UserError(
            f"no limit is named; name one of: {', '.join('--' + name.replace('_', '-') for name in LIMITS)}"
        )
    with _database().begin() as session:
        team = team_named(session, parsed.team)
        set_limits(session, parsed.team, replace(limits_of(team), **given))
        limits = _limits(team)
    said = (f"{name.replace('_', ' ')} {'-' if value is None else f'{value:g}'}" for name, value in limits.items())
    print(f"limits of team {parsed.team}: {', '.join(said)}")
    return 0


def _limits(team: "Team") -> dict[str, float | None]:
    return {limit: getattr(team, limit) for limit in LIMITS}


def _command(words: str) -> str:
    from pipelines.shown.shell_command import shell_command

    return shell_command(f"fineline api {words}")


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _port(text: str) -> int:
    from api.api_settings import port_number

    try:
        return port_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _dollars(text: str) -> float:
    try:
        dollars = float(text)
    except ValueError:
        dollars = -1
    if not 0 <= dollars < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of 0 or more")
    return dollars


def _or_none(kind: Callable[[str], float]) -> Callable[[str], float | None]:
    return lambda text: None if text == "none" else kind(text)
