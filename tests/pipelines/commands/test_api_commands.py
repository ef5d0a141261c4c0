"""`fineline api keys` and `fineline api teams`."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.api_settings import api_settings
from api.database.engine import open_database
from api.teams.api_keys import verified
from pipelines.command import main
from tests.support.commands import fineline


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["api", *words]) == 0
    return capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(printed(capsys, *words, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    try:
        code = main(["api", *words])
    except SystemExit as ended:
        code = int(ended.code or 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    return line


def works(key: str) -> bool:
    with open_database(api_settings().database)() as session:
        return verified(session, key) is not None


def test_a_key_is_printed_once_and_works(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "keys", "make", "pets").splitlines()
    assert works(lines[1])
    assert lines[2] == "team pets is new and has no limits; set them with: fineline api teams set pets"
    again = printed(capsys, "keys", "make", "pets").splitlines()
    assert len(again) == 2
    listed = printed(capsys, "keys", "list")
    assert lines[1] not in listed
    assert lines[1][:9] in listed
    assert lines[1] not in json.dumps(found(capsys, "keys", "list"))


def test_in_json_a_key_is_printed_once_too(capsys: pytest.CaptureFixture[str]) -> None:
    made = found(capsys, "keys", "make", "pets")
    assert set(made) == {"id", "team", "key"}
    assert works(made["key"])
    (listed,) = found(capsys, "keys", "list")
    assert listed == {
        "id": made["id"],
        "team": "pets",
        "start": made["key"][:9],
        "created_at": listed["created_at"],
        "ends_at": None,
        "ended": False,
    }


def test_a_key_is_rotated_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    old = found(capsys, "keys", "make", "pets")
    new = found(capsys, "keys", "rotate", old["id"], "--hours", "2")
    assert works(old["key"])
    assert works(new["key"])
    ends = {key["id"]: key["ends_at"] for key in found(capsys, "keys", "list")}
    made = {key["id"]: key["created_at"] for key in found(capsys, "keys", "list")}
    assert ends[new["id"]] is None
    assert 7195 <= ends[old["id"]] - made[new["id"]] <= 7205
    assert printed(capsys, "keys", "revoke", old["id"]) == f"revoked {old['id']} of team pets\n"
    assert not works(old["key"])
    assert works(new["key"])
    assert "has expired" in refused(capsys, "keys", "rotate", old["id"])
    newest = printed(capsys, "keys", "rotate", new["id"], "--hours", "0")
    assert f"{new['id']} still works for 0 h" in newest
    assert not works(new["key"])


def test_limits_are_set_one_by_one_and_lifted(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "keys", "make", "pets")
    printed(capsys, "teams", "set", "pets", "--dollars-a-month", "12.5", "--jobs-at-once", "2")
    said = printed(
        capsys, "teams", "set", "pets", "--models", "3", "--requests-a-minute", "60", "--jobs-at-once", "none"
    )
    assert said == "limits of team pets: dollars a month 12.5, jobs at once -, models 3, requests a minute 60\n"
    (team,) = found(capsys, "teams", "list")
    assert team == {
        "name": "pets",
        "created_at": team["created_at"],
        "dollars_a_month": 12.5,
        "jobs_at_once": None,
        "models": 3,
        "requests_a_minute": 60,
    }
    assert "12.5" in printed(capsys, "teams", "list")


def test_where_nothing_is_the_first_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "keys", "list") == "no API keys yet; make one with: fineline api keys make TEAM\n"
    assert "make one and its first key with: fineline api keys make TEAM" in printed(capsys, "teams", "list")
    assert found(capsys, "keys", "list") == found(capsys, "teams", "list") == []


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "keys", "make", "pets")
    assert "'Pets' is not a valid team name" in refused(capsys, "keys", "make", "Pets")
    assert "there is no API key 'x'" in refused(capsys, "keys", "revoke", "x")
    assert "there is no team 'vets'; the teams are: pets" in refused(capsys, "teams", "set", "vets", "--models", "1")
    assert "no limit is named; name one of: --dollars-a-month," in refused(capsys, "teams", "set", "pets")
    for words in (["--models", "-1"], ["--jobs-at-once", "1.5"], ["--dollars-a-month", "inf"], ["--models", "1" * 20]):
        assert "is not a" in refused(capsys, "teams", "set", "pets", *words)
    assert "required: make|list|rotate|revoke" in refused(capsys, "keys")
    assert "argument --port: '70000' is not a port number" in refused(capsys, "--port", "70000")


def test_without_the_libraries_of_the_api_it_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['fastapi'] = None; from pipelines.command import main; "
        "sys.exit(main(['api', 'keys', 'list']))"
    )
    import subprocess
    import sys

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "fineline: the API needs fastapi; install it with: pip install 'fineline[api]'\n"


def test_another_process_sees_the_keys_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "keys", "make", "pets")
    done = fineline("api", "keys", "list", "--json")
    assert [key["team"] for key in json.loads(done.stdout)] == ["pets"]
