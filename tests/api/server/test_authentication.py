"""Who is let in, over real HTTP and with OpenAI's own client."""

import socket
from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import Depends
from openai import AuthenticationError, InternalServerError, OpenAI, RateLimitError
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.server.authentication import caller
from api.server.services import Services
from api.teams.api_keys import all_keys, revoke_key
from api.teams.caller import Caller, Limits
from tests.support.api_server import client_of, listening, machine_app, team_key

Address = str


@pytest.fixture
def served() -> Iterator[tuple[Address, sessionmaker[Session]]]:
    app = machine_app()

    @app.get("/v1/who")
    def who(by: Annotated[Caller, Depends(caller)]) -> str:
        return by.team

    state: Services = app.state.services
    with listening(app) as address:
        yield address, state.sessions


def ask(client: OpenAI) -> str:
    return client.get("/who", cast_to=str).strip('"')


def test_a_key_leads_to_its_team(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, sessions = served
    keys = {team: team_key(sessions, team) for team in ("pets", "vets")}
    for team, key in keys.items():
        assert ask(client_of(address, key)) == team


@pytest.mark.parametrize("key", ["sk-wrong", "fl-" + "A" * 43])
def test_whoever_has_no_key_that_works_is_refused(served: tuple[Address, sessionmaker[Session]], key: str) -> None:
    address, _ = served
    with pytest.raises(AuthenticationError) as refused:
        client_of(address, key or "x").get("/who", cast_to=str, options={"headers": {"Authorization": f"Bearer {key}"}})
    assert refused.value.code == "invalid_api_key"
    assert refused.value.response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Basic cGV0czpwZXRz", "fl-key", "Bearer"])
def test_another_scheme_is_no_key(served: tuple[Address, sessionmaker[Session]], header: str) -> None:
    address, _ = served
    with pytest.raises(AuthenticationError) as refused:
        client_of(address, "x").get("/who", cast_to=str, options={"headers": {"Authorization": header}})
    assert refused.value.code == "no_api_key"
    assert refused.value.type == "authentication_error"


def test_what_is_revoked_while_the_server_runs_ends_at_once(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, sessions = served
    client = client_of(address, team_key(sessions, "pets"))
    assert ask(client) == "pets"
    with sessions.begin() as session:
        revoke_key(session, all_keys(session)[0].id)
    with pytest.raises(AuthenticationError):
        ask(client)


def test_a_team_that_asks_too_often_is_told_when_to_try_again(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, sessions = served
    limits = Limits(requests_a_minute=3)
    first, second = (client_of(address, team_key(sessions, "pets", limits)) for _ in range(2))
    other = client_of(address, team_key(sessions, "vets", limits))
    assert [ask(client) for client in (first, second, first)] == ["pets"] * 3
    with pytest.raises(RateLimitError, match="team pets may make 3 requests a minute; try again in") as refused:
        ask(second)
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 20
    assert ask(other) == "vets"


def test_a_client_that_waits_as_it_is_told_gets_its_answer(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, sessions = served
    client = client_of(address, team_key(sessions, "pets", Limits(requests_a_minute=60)))
    for _ in range(60):
        ask(client)
    assert ask(client.with_options(max_retries=3)) == "pets"


def test_a_database_that_is_down_is_told_as_that(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, sessions = served
    client = client_of(address, team_key(sessions, "pets"))
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE api_keys RENAME TO gone"))
    with pytest.raises(InternalServerError) as refused:
        ask(client)
    assert (refused.value.status_code, refused.value.type) == (503, "server_error")
    assert refused.value.response.headers["retry-after"] == "10"
    assert "gone" not in refused.value.response.text
    with sessions.begin() as session:
        session.execute(text("ALTER TABLE gone RENAME TO api_keys"))
    assert ask(client) == "pets"


def test_a_large_body_of_a_stranger_is_not_read(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, _ = served
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 400000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_stranger_is_not_told_which_addresses_there_are(served: tuple[Address, sessionmaker[Session]]) -> None:
    address, _ = served
    for path in ("/nothing", "/files", "/"):
        with pytest.raises(AuthenticationError):
            client_of(address, "x").get(path, cast_to=str)
