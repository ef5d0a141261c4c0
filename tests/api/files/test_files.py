"""Files by the real client: upload, list, retrieve, content, delete; and what is refused."""

import contextlib
import gzip
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import psutil
import pytest
from filelock import FileLock
from sqlalchemy import select

from api.database.tables import TeamFile
from api.files import row_check_process, team_files
from api.files.file_contents import FileContents, IncomingContent
from api.files.upload_form import UploadForm
from api.jobs.job_place import JobState, Status
from api.jobs.job_record import JobRecord
from api.machine.machine_jobs import MachineJobs
from api.openai_errors import ApiError
from api.server.slow_work import SlowWork
from api.server.unneeded_contents import delete_unneeded
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from tests.support.commands import wait_for
from tests.support.running_api import RunningApi, running_api

ROW = {"messages": [{"role": "user", "content": "are you open"}, {"role": "assistant", "content": "yes"}]}
PAIR = {"prompt": "are you open", "chosen": "yes we are", "rejected": "no"}
LINES = b"".join(json.dumps(ROW | {"id": number}).encode() + b"\n" for number in range(3))
MOST = 1 << 20


class JobsThatSay(MachineJobs):
    """This machine's jobs, and others of which only the record and the status are known."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, tuple[JobRecord, Status]] = {}

    def jobs(self, team: str) -> list[JobRecord]:
        return [job for job, _ in self.told.values() if job.team == team]

    def state(self, job: JobRecord) -> JobState:
        return JobState(self.told[job.id][1])

    def tell(self, team: str, training_file: str, status: Status, validation_file: str | None = None) -> None:
        job_id = f"ftjob-{team}"
        method: dict[str, Any] = {"type": "supervised"}
        job = JobRecord(
            id=job_id,
            run=team,
            team=team,
            created_at=1,
            model="base",
            name=f"{team}-tuned",
            training_file=training_file,
            validation_file=validation_file,
            method=method,
            seed=1,
        )
        self.told[job_id] = job, status


@pytest.fixture
def jobs() -> JobsThatSay:
    return JobsThatSay()


@pytest.fixture
def api(tmp_path: Path, jobs: JobsThatSay, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
    with running_api(tmp_path, max_upload_bytes=MOST, jobs=jobs) as running:
        yield running


def upload(api: RunningApi, name: str = "rows.jsonl", content: bytes = LINES, team: str = "pets") -> Any:
    return api.client(team).files.create(file=(name, content), purpose="fine-tune")


def refused(api: RunningApi, name: str, content: bytes) -> str:
    """Return why a file is refused, of which nothing may be kept."""
    before = everything()
    with pytest.raises(openai.BadRequestError) as caught:
        upload(api, name, content)
    assert everything() == before
    error: Any = caught.value.body
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "file"
    return str(error["message"])


def everything() -> set[str]:
    folder, found = volumes.runs() / "data", set[str]()
    for place, _, names in os.walk(folder):  # which passes over a folder that is deleted meanwhile
        found |= {str((Path(place) / name).relative_to(folder)) for name in names if Path(name).suffix != ".lock"}
    return found


def content_folder(content: bytes = LINES) -> Path:
    return volumes.sent_data(hashlib.sha256(content).hexdigest())


def test_a_file_is_uploaded_listed_read_and_deleted(api: RunningApi) -> None:
    client = api.client()
    made = upload(api, "chats.jsonl")
    assert (made.bytes, made.filename, made.object, made.purpose) == (len(LINES), "chats.jsonl", "file", "fine-tune")
    assert made.status == "processed"
    assert abs(made.created_at - time.time()) < 60
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id) == made
    assert client.files.list().data == [made]
    read = client.files.content(made.id)
    assert read.content == LINES
    assert read.response.headers["content-disposition"] == "attachment; filename*=UTF-8''chats.jsonl"
    gone = client.files.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "file")
    assert client.files.list().data == []
    assert everything() == set()
    for call in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError, match="no such file"):
            call(made.id)


def test_the_content_lies_where_a_run_finds_it_under_its_digest(api: RunningApi) -> None:
    made = upload(api, "my [chats] *.jsonl.gz", gzip.compress(LINES))
    with api.services.sessions() as session:
        found = team_files.find(session, "pets", made.id)
        address = Path(api.services.contents.address(found))
    assert address == volumes.sent_data(found.sha256) / "uploaded.jsonl.gz"
    assert gzip.decompress(address.read_bytes()) == LINES
    assert address.stat().st_mode & 0o777 == 0o644


def test_lists_have_pages_an_order_and_one_purpose(api: RunningApi) -> None:
    made = [upload(api, f"{number}.jsonl", LINES + b"\n" * number).id for number in range(5)]
    client = api.client()
    first = client.files.list(limit=2)
    assert (len(first.data), first.has_more) == (2, True)
    assert {one.id for one in client.files.list(limit=2)} == set(made)  # the client asks for page after page
    newest = [one.id for one in client.files.list()]
    oldest = [one.id for one in client.files.list(order="asc")]
    assert set(newest) == set(oldest) == set(made)
    assert client.files.list(purpose="fine-tune-results").data == []
    with pytest.raises(openai.BadRequestError, match="after"):
        client.files.list(after="file-of-nobody")


def test_another_team_sees_nothing_of_a_file(api: RunningApi) -> None:
    made = upload(api)
    other = api.client("rivals")
    assert other.files.list().data == []
    absent = "file-" + "0" * 32
    for call in (other.files.retrieve, other.files.content, other.files.delete):
        errors = []
        for file_id in (made.id, absent):
            with pytest.raises(openai.NotFoundError) as caught:
                call(file_id)
            errors.append(str(caught.value.body).replace(file_id, "ID"))
        assert errors[0] == errors[1]
    assert api.client().files.content(made.id).content == LINES


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.jsonl", LINES + b'{"messages": 5}\n', "rows.jsonl:4: 'messages' is a number, not a list"),
        ("rows.jsonl", LINES + b"\n\n{never\n", "rows.jsonl:6: not JSON at column 2"),
        ("rows.jsonl", LINES + b'{"messages": []}\n', "rows.jsonl:4: 'messages' is empty"),
        ("rows.json", b"[" + json.dumps(ROW).encode() + b', {"text": 7}]', "rows.json:2: 'text' is a number, not text"),
        ("rows.csv", b"prompt,completion\nis it,yes\nis it,\n", "rows.csv:3: "),
        ("rows.jsonl", json.dumps(ROW).encode(), "rows.jsonl: has one row; it needs at least two rows"),
        ("rows.jsonl", b"\n\n", "rows.jsonl: has no rows; it needs at least two rows"),
        ("rows.jsonl", b"", "rows.jsonl: is empty; it needs at least two rows"),
        ("rows.jsonl", gzip.compress(LINES), "rows.jsonl: is compressed with gzip, and its name says otherwise"),
        ("rows.jsonl.gz", gzip.compress(LINES)[:-9], "rows.jsonl.gz: cannot be read at all: "),
        ("rows.parquet", LINES, "rows.parquet: not a Parquet file: "),
        ("rows.pdf", LINES, "rows.pdf: is not a file of rows; its name must end in .jsonl"),
        ("rows", LINES, "rows: is not a file of rows"),
        (
            "rows.jsonl",
            LINES + json.dumps(PAIR).encode(),
            "rows.jsonl:4: is a pair of a chosen and a rejected answer, but the rows before it are not",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_a_file_that_cannot_be_tuned_on_is_refused_with_the_place(
    api: RunningApi, name: str, content: bytes, reason: str
) -> None:
    message = refused(api, name, content)
    assert message.startswith(reason)
    assert "\n" not in message
    assert str(volumes.runs()) not in message


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.jsonl.gz", "rows.csv", "rows.json"])
def test_every_kind_of_rows_is_taken_by_its_name(api: RunningApi, name: str) -> None:
    content = {
        "rows.csv": b"prompt,completion\nis it,yes\nare you,no\n",
        "rows.json": b"[" + LINES.strip().replace(b"\n", b",") + b"]",
        "rows.jsonl.gz": gzip.compress(LINES),
    }.get(name, LINES)
    assert upload(api, name, content).bytes == len(content)


def test_pairs_are_taken_too(api: RunningApi) -> None:
    assert upload(api, "pairs.jsonl", json.dumps(PAIR).encode() + b"\n" + json.dumps(PAIR).encode()).id


@pytest.mark.parametrize("purpose", ["assistants", "batch", "vision", "user_data", "evals", "fine-tune-results"])
def test_other_purposes_are_refused_by_name(api: RunningApi, purpose: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=purpose) as caught:
        api.client().files.create(file=("rows.jsonl", LINES), purpose=purpose)
    assert caught.value.param == "purpose"
    assert everything() == set()


def test_an_expiry_is_refused_by_name(api: RunningApi) -> None:
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        api.client().files.create(
            file=("rows.jsonl", LINES),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )


@pytest.mark.parametrize("size", [MOST + 1, MOST + 200_000, 40 * MOST])
def test_a_file_that_is_too_large_is_refused_and_nothing_of_it_is_kept(api: RunningApi, size: int) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        upload(api, content=b"x" * size)
    assert caught.value.status_code == 413
    assert str(MOST) in caught.value.message
    assert everything() == set()


def test_a_file_that_is_too_large_when_it_is_decompressed_is_refused(api: RunningApi) -> None:
    with pytest.raises(openai.APIStatusError, match="larger after decompression") as caught:
        upload(api, "rows.jsonl.gz", gzip.compress(b" " * (50 * MOST) + LINES))
    assert caught.value.status_code == 413
    assert everything() == set()


def test_a_file_that_takes_too_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_check_process, "MOST_MEMORY", 200 << 20)
    with running_api(tmp_path) as api:
        whole = (
            b'{"rows": [' + b",".join([json.dumps(ROW).encode()] * 300_000) + b"]}"
        )  # a list in an object is read whole
        message = refused(api, "rows.json", whole)
        assert message == "rows.json: reading its rows takes more than 200 MiB of memory; save it as JSONL"
        assert upload(api).id


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        ("SEGV", 400, "rows.jsonl: reading its rows takes more than "),
        ("ABRT", 400, "rows.jsonl: reading its rows takes more than "),
        ("TERM", 503, "rows.jsonl: the server has stopped reading its rows; upload it again"),
    ],
)
def test_a_check_that_is_killed_is_no_fault_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, status: int, message: str
) -> None:
    killed = tmp_path / "python"
    killed.write_text(f"#!/bin/sh\nkill -{number} $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(ApiError) as caught:
        row_check_process.checked(tmp_path / "rows.jsonl", "rows.jsonl", MOST)
    assert caught.value.status == status
    assert str(caught.value).startswith(message)


class NoRoom(SlowWork):
    """Checks of which a team has too many."""

    def refusal(self, team: str) -> ApiError | None:
        return ApiError(503, "4 checks are waiting", code="overloaded", wait_seconds=30) if team == "pets" else None


def test_an_upload_is_sent_away_while_too_many_of_its_team_wait_for_their_check(tmp_path: Path) -> None:
    with running_api(tmp_path, row_checks=NoRoom("checks")) as api:
        with pytest.raises(openai.InternalServerError) as caught:
            upload(api)
        assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
        assert caught.value.response.headers["retry-after"] == "30"
        assert everything() == set()
        assert upload(api, team="rivals").id


def test_an_upload_that_is_given_up_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, threads = list[int](), list[str]()
    monkeypatch.setattr(os, "fsync", synced.append)

    class Told(FileContents):
        @contextlib.contextmanager
        def incoming(self, filename: str) -> Iterator[IncomingContent]:
            with super().incoming(filename) as content:
                yield content
            threads.append(threading.current_thread().name)

    async def given_up() -> None:
        async with UploadForm("multipart/form-data; boundary=edge", Told()) as given:
            given.feed(form(PURPOSE, FILE)["content"][:-30])
            assert len(everything()) == 1

    anyio.run(given_up)
    assert everything() == set()
    assert not synced
    assert "AnyIO" in threads[0]


def form(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """Return the body of a form whose parts have these headers and contents, and its type."""
    body = b"".join(b"--edge\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n" for head, value in parts)
    return {"content": body + b"--edge--\r\n", "headers": {"content-type": "multipart/form-data; boundary=edge"}}


PURPOSE = ('Content-Disposition: form-data; name="purpose"', b"fine-tune")
FILE = ('Content-Disposition: form-data; name="file"; filename="rows.jsonl"', LINES)


def post(api: RunningApi, body: dict[str, Any]) -> httpx2.Response:
    headers = {"authorization": f"Bearer {api.key('pets')}", **body.get("headers", {})}
    return httpx2.post(f"{api.url}/files", **{**body, "headers": headers}, timeout=60)


def test_the_fields_of_the_form_may_come_in_any_order(api: RunningApi) -> None:
    assert post(api, form(FILE, PURPOSE)).status_code == 200
    assert post(api, form(PURPOSE, FILE)).status_code == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (form(PURPOSE), "the form has no field file"),
        (form(FILE), "the form has no field purpose"),
        (form(), "the form"),
        (form(PURPOSE, FILE, FILE), "the form has several files"),
        (form(('Content-Disposition: form-data; name="file"', LINES)), "the file has no name"),
        (
            form(('Content-Disposition: form-data; name="colour"', b"red"), FILE),
            "the form has an unknown field 'colour'",
        ),
        (form(("Content-Disposition: form-data", b"red"), FILE), "the form has an unknown field ''"),
        (form(('Content-Disposition: form-data; name="purpose"', b"x" * 5000), FILE), "the field 'purpose' is longer"),
        (form((f'{FILE[0][:-7]}{"r" * 300}.jsonl"', LINES), PURPOSE), "the file's name must have at most 255"),
        (form((FILE[0].replace("rows", "ro\tws"), LINES), PURPOSE), "the file's name must have at most 255"),
        ({**form(PURPOSE, FILE), "content": form(PURPOSE, FILE)["content"][:-30]}, "the form is incomplete"),
        ({"content": b"hello", "headers": form()["headers"]}, "the form cannot be read"),
        ({"json": {"purpose": "fine-tune"}}, "the body must be a form"),
        ({}, "the body must be a form"),
    ],
)
def test_a_form_that_is_wrong_is_refused_in_words(api: RunningApi, body: dict[str, Any], reason: str) -> None:
    answer = post(api, body)
    assert (answer.status_code, answer.json()["error"]["message"].startswith(reason)) == (400, True), answer.text
    assert everything() == set()


def test_a_large_upload_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
    rows = tmp_path / "rows.jsonl"
    line = json.dumps(ROW | {"padding": "x" * 100_000}).encode() + b"\n"
    with rows.open("wb") as out:
        for _ in range(2000):  # 200 MB
            out.write(line)
    with running_api(tmp_path) as api:
        upload(api)  # everything is imported now
        client, before = api.client(), psutil.Process().memory_info().rss
        highest = before
        with ThreadPoolExecutor(1) as pool, rows.open("rb") as source:
            sent = pool.submit(lambda: client.files.create(file=source, purpose="fine-tune"))
            while not sent.done():
                highest = max(highest, psutil.Process().memory_info().rss)
                time.sleep(0.01)
        assert sent.result().bytes == rows.stat().st_size
    # The client, which is in this process too, reads the file as it sends it.
    assert highest - before < 60 << 20


def test_a_connection_that_ends_before_the_file_leaves_nothing(api: RunningApi) -> None:
    import socket

    host, port = api.url.removeprefix("http://").removesuffix("/v1").split(":")
    body = form(PURPOSE, FILE)["content"]
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key('pets')}\r\n"
            f"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:-40])
        wait_for(everything, 60)
    wait_for(lambda: not everything(), 60)


def test_equal_contents_are_stored_once_and_go_with_the_last_name(api: RunningApi) -> None:
    ours, theirs = upload(api, "one.jsonl"), upload(api, "two.jsonl", team="rivals")
    assert everything() == {f"{content_folder().name}/uploaded.jsonl"}
    api.client().files.delete(ours.id)
    assert api.client("rivals").files.content(theirs.id).content == LINES
    api.client("rivals").files.delete(theirs.id)
    assert everything() == set()
    assert not content_folder().exists()


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
@pytest.mark.parametrize("held_out", [False, True])
def test_a_content_that_an_unfinished_job_needs_outlives_its_name(
    api: RunningApi, jobs: JobsThatSay, status: Status, held_out: bool
) -> None:
    other = upload(api, "other.jsonl", LINES * 2)
    made = upload(api)
    given = (other.id, made.id) if held_out else (made.id, None)
    jobs.tell("pets", given[0], status, given[1])
    api.client().files.delete(made.id)
    assert (content_folder() / "uploaded.jsonl").read_bytes() == LINES
    jobs.tell("pets", given[0], "cancelled", given[1])
    api.client().files.delete(other.id)
    assert everything() == set()


def test_a_deletion_holds_up_uploads_and_new_jobs_only_while_it_deletes(
    api: RunningApi, jobs: JobsThatSay, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, contents, read = upload(api), api.services.contents, list[str]()
    state, lock = jobs.state, contents.lock

    def state_without_lock(job: JobRecord) -> JobState:
        with FileLock(str(volumes.runs() / "data" / "uploads.lock"), timeout=0):
            read.append(job.team)
        return state(job)

    def lock_after_a_new_job() -> contextlib.AbstractContextManager[None]:
        jobs.tell("rivals", made.id, "queued")
        return lock()

    monkeypatch.setattr(jobs, "state", state_without_lock)
    monkeypatch.setattr(contents, "lock", lock_after_a_new_job)
    api.key("rivals")
    jobs.tell("pets", made.id, "succeeded")
    api.client().files.delete(made.id)
    assert read == ["pets"]
    assert (content_folder() / "uploaded.jsonl").read_bytes() == LINES


@pytest.mark.parametrize("error", [UserError("the store: access denied"), UnreachableError("the store: no answer")])
def test_a_file_is_deleted_although_its_content_cannot_be_yet(
    api: RunningApi, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def published() -> set[str]:
        raise error

    made, other = upload(api), upload(api, content=LINES * 2)
    with monkeypatch.context() as patch:
        patch.setattr(api.services.contents, "published", published)
        assert api.client().files.delete(made.id).deleted
    assert f"the content of {made.id} cannot be deleted yet: {error}" in caplog.text
    api.client().files.delete(other.id)
    assert everything() == set()


def test_the_contents_of_ended_jobs_and_of_killed_uploads_are_deleted(api: RunningApi, jobs: JobsThatSay) -> None:
    made = upload(api)
    for status in ("succeeded", "failed"):
        jobs.tell(status, made.id, status)
    for name, age in ((".incoming-old", 2), (".incoming-new", 0)):
        folder = volumes.runs() / "data" / name
        folder.mkdir()
        (folder / "uploaded.jsonl").write_bytes(b"half")
        then = time.time() - age * 24 * 3600
        os.utime(folder, (then, then))
    api.client().files.delete(made.id)
    assert everything() == {".incoming-new/uploaded.jsonl"}


def test_a_content_whose_name_was_not_stored_before_a_kill_goes_with_the_next_deletion(api: RunningApi) -> None:
    contents = api.services.contents
    with contents.incoming("lost.csv") as incoming:
        incoming.write(b"prompt,completion\n")
        with contents.lock():
            contents.publish(incoming)  # and the process is killed before the commit
    made = upload(api)
    api.client().files.delete(made.id)
    assert everything() == set()


def test_what_submit_has_sent_stays(api: RunningApi) -> None:
    made = upload(api)
    sent = content_folder() / "rows.jsonl"
    sent.write_bytes(LINES)
    api.client().files.delete(made.id)
    assert sent.read_bytes() == LINES
    assert everything() == {f"{content_folder().name}/rows.jsonl"}


def test_uploads_and_deletions_of_one_content_at_the_same_time_lose_none(api: RunningApi) -> None:
    clients = [api.client(team) for team in ("pets", "rivals", "third")]

    def work(client: openai.OpenAI) -> list[str]:
        kept = []
        for turn in range(6):
            made = client.files.create(file=("rows.jsonl", LINES), purpose="fine-tune")
            assert client.files.content(made.id).content == LINES
            if turn % 3:
                client.files.delete(made.id)
            else:
                kept.append(made.id)
        return kept

    with ThreadPoolExecutor(len(clients)) as pool:
        kept = list(pool.map(work, clients))
    for client, ids in zip(clients, kept, strict=True):
        assert {one.id for one in client.files.list()} == set(ids)
        for file_id in ids:
            assert client.files.content(file_id).content == LINES
            client.files.delete(file_id)
    assert everything() == set()


def test_a_file_that_the_api_makes_itself_is_the_same_file_by_its_id(api: RunningApi) -> None:
    contents, csv = api.services.contents, b"step,train_loss\n1,0.5\n"
    made = []
    for team in ("pets", "rivals"):
        api.key(team)
    for _ in range(2):
        with api.services.sessions() as session:
            file = team_files.add(session, contents, "pets", "file-results-1", "r.csv", team_files.RESULTS, csv)
            made.append((file.id, file.sha256, file.created_at))
    assert made[0] == made[1]
    with api.services.sessions() as session:
        assert len(session.scalars(select(TeamFile)).all()) == 1
        with pytest.raises(Exception, match="no such file"):
            team_files.add(session, contents, "rivals", "file-results-1", "r.csv", team_files.RESULTS, csv)
        delete_unneeded(session, api.services)
    assert api.client().files.content("file-results-1").content == csv
    assert [one.id for one in api.client().files.list(purpose="fine-tune-results")] == ["file-results-1"]


def test_a_content_that_is_gone_from_the_disk_is_told_as_that(api: RunningApi) -> None:
    made = upload(api)
    (content_folder() / "uploaded.jsonl").unlink()
    with pytest.raises(openai.NotFoundError, match="is gone; upload it again"):
        api.client().files.content(made.id)
