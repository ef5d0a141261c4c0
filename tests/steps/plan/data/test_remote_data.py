"""Remote data over real HTTP: a web server with faults, datasets on a hub, and an S3 store."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import steps.common.storage.retry
from recipes.data import Data
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from steps.plan.data.data_file import inspect_data
from steps.plan.data.local_copy import fetch
from steps.plan.data.s3_file import put
from tests.support.hub import point_at
from tests.support.web import COMMIT, Web, put_data_set

ROWS = b"".join(json.dumps({"prompt": f"when {n}", "completion": f"on day {n}"}).encode() + b"\n" for n in range(40))
DIGEST = hashlib.sha256(ROWS).hexdigest()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.01)
    web = Web()
    web.content["/rows.jsonl"] = ROWS
    yield web
    web.close()


def left_over() -> list[Path]:
    return [path for path in (volumes.runs() / "data").rglob("*") if path.name.startswith(".")]


def test_rows_from_the_web_are_read_from_a_copy_under_their_digest(web: Web) -> None:
    found = inspect_data(Data(train=f"{web.url}/rows.jsonl", validation_share=0.25), "sft")
    assert found
    assert found.files.train_sha256 == DIGEST
    [file] = found.files.train[0].files
    assert file.source == "http://127.0.0.1/rows.jsonl"
    assert Path(file.path) == volumes.runs() / "data" / DIGEST[:16] / "rows.jsonl"
    assert Path(file.path).read_bytes() == ROWS
    assert found.train.rows == 30
    assert left_over() == []


def test_what_has_not_changed_is_not_fetched_again_and_what_has_is(web: Web) -> None:
    first = fetch(f"{web.url}/rows.jsonl")
    requests = len(web.seen)
    assert fetch(f"{web.url}/rows.jsonl") == first
    assert len(web.seen) == requests + 1  # it was asked, and its content was not read
    web.content["/rows.jsonl"] = ROWS + ROWS.replace(b"when", b"why")
    second = fetch(f"{web.url}/rows.jsonl")
    assert second.sha256 != first.sha256
    assert Path(first.path).read_bytes() == ROWS


def test_a_source_that_tells_nothing_of_its_content_is_read_each_time(web: Web) -> None:
    web.etags = False
    fetch(f"{web.url}/rows.jsonl")
    web.content["/rows.jsonl"] = ROWS.replace(b"when", b"whom")
    assert Path(fetch(f"{web.url}/rows.jsonl").path).read_bytes() == ROWS.replace(b"when", b"whom")


def test_a_cut_and_a_busy_source_are_gone_over(web: Web) -> None:
    web.faults["/rows.jsonl"] = [(503, {}), (429, {"Retry-After": "0"})]
    web.cuts["/rows.jsonl"] = 3
    assert fetch(f"{web.url}/rows.jsonl").sha256 == DIGEST
    assert left_over() == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/gone.jsonl", "no such file (status 404)"),
        ("/secret.jsonl", "access denied (status 403)"),
        ("/rows.xlsx", "unknown kind of data file '.xlsx'"),
        ("/busy.jsonl", "could not be read in 5 attempts: the host answers with status 503"),
        ("/cut.jsonl", "could not be read in 5 attempts"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(web: Web, path: str, told: str) -> None:
    web.faults = {"/secret.jsonl": [(403, {})], "/busy.jsonl": [(503, {})] * 9}
    web.content["/cut.jsonl"], web.cuts["/cut.jsonl"] = ROWS, 99
    with pytest.raises(UnreachableError if "attempts" in told else UserError) as caught:
        fetch(f"{web.url}{path}?key=very-secret")
    assert told in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_over() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s4://bucket/rows.jsonl", "unknown scheme 's4'; known are https://, http://, s3://, hf://"),
        ("ftp://host/rows.jsonl", "unknown scheme 'ftp'"),
        ("hf://org/name/rows.jsonl", "write it as hf://datasets/ORG/NAME/PATH"),
        ("s3://rows.jsonl", "write it as s3://BUCKET/KEY"),
        ("http://nowhere.invalid/rows.jsonl", "check the address"),
    ],
)
def test_an_address_that_is_none_is_one_line(web: Web, url: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        fetch(url)


@pytest.fixture
def hub(web: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    point_at(monkeypatch, web.url)
    monkeypatch.setenv("HF_TOKEN", "hub-token")
    for revision in ("main", "v1"):
        put_data_set(web, {"data/rows.jsonl": ROWS}, revision)
    return web


@pytest.mark.parametrize("name", ["org/chats", "org/chats@v1"])
def test_a_hubs_data_set_is_pinned_to_its_commit(hub: Web, name: str) -> None:
    url = f"hf://datasets/{name}/data/rows.jsonl"
    fetched = fetch(url)
    assert fetched.pinned == f"hf://datasets/org/chats@{COMMIT}/data/rows.jsonl"
    assert fetched.sha256 == DIGEST
    assert fetch(url) == fetched


def test_the_hubs_token_is_not_sent_to_another_host(hub: Web) -> None:
    other = Web()
    other.content["/store/rows.jsonl"] = ROWS
    path = f"/datasets/org/chats/resolve/{COMMIT}/data/rows.jsonl"
    elsewhere = other.url.replace("127.0.0.1", "localhost")
    hub.faults[path] = [(302, {"Location": f"{elsewhere}/store/rows.jsonl"})] * 9
    assert fetch("hf://datasets/org/chats/data/rows.jsonl").sha256 == DIGEST
    assert {given for asked, given in hub.seen if asked == path} == {"Bearer hub-token"}
    assert {given for _, given in other.seen} == {""}
    other.close()


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("org/none", "RepoNotFound", "no such dataset"),
        ("org/chats@v9", "RevisionNotFound", "has no revision 'v9'"),
        ("org/closed", "GatedRepo", "is gated; accept its terms at"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_one_line(hub: Web, name: str, fault: str, told: str) -> None:
    repository, _, revision = name.partition("@")
    status = 403 if fault == "GatedRepo" else 404
    path = f"/api/datasets/{repository}/revision/{revision or 'main'}"
    hub.faults[path] = [(status, {"X-Error-Code": fault})] * 9
    with pytest.raises(UserError, match=re.escape(told)):
        fetch(f"hf://datasets/{name}/rows.jsonl")


def test_a_file_that_a_data_set_has_not_is_one_line(hub: Web) -> None:
    with pytest.raises(UserError, match=re.escape("has no file 'other.jsonl'")):
        fetch("hf://datasets/org/chats/other.jsonl")


@pytest.fixture
def store(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.01)
    bucket.put_object(Bucket="chats", Key="day/rows.jsonl", Body=ROWS)
    return bucket


def test_an_object_of_a_store_is_fetched_once_until_it_changes(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = fetch("s3://chats/day/rows.jsonl")
    assert Path(first.path).read_bytes() == ROWS
    capsys.readouterr()
    assert fetch("s3://chats/day/rows.jsonl") == first
    assert "unchanged since the last download" in capsys.readouterr().err
    store.put_object(Bucket="chats", Key="day/rows.jsonl", Body=ROWS + ROWS)
    assert fetch("s3://chats/day/rows.jsonl").sha256 == hashlib.sha256(ROWS + ROWS).hexdigest()


def test_a_file_is_put_there_once(store: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(ROWS)
    assert put(tmp_path / "mine.jsonl", "s3://chats/put/mine.jsonl") == "s3://chats/put/mine.jsonl"
    written = store.head_object(Bucket="chats", Key="put/mine.jsonl")
    assert Path(fetch("s3://chats/put/mine.jsonl").path).read_bytes() == ROWS
    put(tmp_path / "mine.jsonl", "s3://chats/put/mine.jsonl")
    assert store.head_object(Bucket="chats", Key="put/mine.jsonl")["LastModified"] == written["LastModified"]
    with pytest.raises(UserError, match="does not exist"):
        put(tmp_path / "mine.jsonl", "s3://nobody/put/mine.jsonl")


@pytest.mark.parametrize("url", ["s3://chats/day/none.jsonl", "s3://nobody/rows.jsonl"])
def test_an_object_that_is_not_there_is_one_line(store: Any, url: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        fetch(url)
