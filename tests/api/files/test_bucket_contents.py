"""Files whose contents lie in an object store, in a real one of this process."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from api.files import team_files
from api.files.bucket_contents import BucketContents
from steps.common.runtime.errors import UserError
from steps.common.storage import retry, volumes
from steps.plan.data.s3_file import find_remote
from tests.support.commands import wait_for
from tests.support.running_api import RunningApi, running_api

ROW = {"messages": [{"role": "user", "content": "are you open"}, {"role": "assistant", "content": "yes"}]}
LINES = json.dumps(ROW).encode() + b"\n" + json.dumps(ROW).encode()


@pytest.fixture
def api(tmp_path: Path, bucket: Any) -> Iterator[RunningApi]:
    with running_api(tmp_path, contents=BucketContents("s3://chats/sent/")) as running:
        yield running


def keys(bucket: Any) -> list[str]:
    found = [one["Key"] for one in bucket.list_objects_v2(Bucket="chats").get("Contents", [])]
    return [key for key in found if not key.endswith("/")]  # Arrow keeps the folder of what it deletes


def test_a_file_is_uploaded_read_and_deleted_with_its_last_name(api: RunningApi, bucket: Any) -> None:
    first = api.client().files.create(file=("a.jsonl", LINES), purpose="fine-tune")
    second = api.client("rivals").files.create(file=("b.jsonl", LINES), purpose="fine-tune")
    with api.services.sessions() as session:
        file = team_files.find(session, "pets", first.id)
        address, digest = api.services.contents.address(file), file.sha256
    assert address == f"s3://chats/sent/{digest[:16]}/uploaded.jsonl"
    assert keys(bucket) == [address.removeprefix("s3://chats/")]
    assert [one.size for one in find_remote(address)] == [len(LINES)]  # a run finds it there
    assert api.client().files.content(first.id).content == LINES
    bucket.put_object(Bucket="chats", Key=f"sent/{digest[:16]}/a.jsonl", Body=LINES)  # as `submit` does
    api.client().files.delete(first.id)
    assert len(keys(bucket)) == 2
    api.client("rivals").files.delete(second.id)
    assert keys(bucket) == [f"sent/{digest[:16]}/a.jsonl"]
    assert not list((volumes.runs() / "data").glob("*/*"))


def test_an_upload_reaches_the_bucket_before_it_waits_for_the_others(api: RunningApi, bucket: Any) -> None:
    client = api.client()
    with ThreadPoolExecutor(1) as threads:
        with api.services.contents.lock():
            sent = threads.submit(client.files.create, file=("a.jsonl", LINES), purpose="fine-tune")
            wait_for(lambda: keys(bucket), 60)
            bucket.delete_object(Bucket="chats", Key=keys(bucket)[0])  # as a deletion does that has the lock
        made = sent.result()
    assert client.files.content(made.id).content == LINES


def test_a_content_that_is_gone_is_told_as_that(api: RunningApi, bucket: Any) -> None:
    made = api.client().files.create(file=("a.jsonl", LINES), purpose="fine-tune")
    bucket.delete_object(Bucket="chats", Key=keys(bucket)[0])
    with pytest.raises(openai.NotFoundError, match="is gone"):
        api.client().files.content(made.id)
    assert api.client().files.delete(made.id).deleted


def test_a_store_that_refuses_is_not_the_clients_mistake(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)
    with running_api(tmp_path, contents=BucketContents("s3://nobodys-bucket/sent")) as api:
        with pytest.raises(openai.InternalServerError) as caught:
            api.client().files.create(file=("a.jsonl", LINES), purpose="fine-tune")
        assert caught.value.status_code == 503
        assert "nobodys-bucket" not in str(caught.value.body)
        assert api.client().files.list().data == []


def test_another_place_than_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match="FINELINE_DATA_URL"):
        BucketContents("/tmp/somewhere")
