"""Models from sources other than a hub: object stores, web servers, folders."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import steps.common.storage.object_store
import steps.common.storage.retry
import steps.pull.transfer.transfer
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.weights import store
from steps.common.weights.sources.listing import SourceFile
from steps.plan.model import resolve_model
from steps.pull import fetch as fetching
from steps.pull.publish import publish_model
from steps.pull.reading import http_reader
from tests.support.commands import wait_for
from tests.support.source import Asked, Behaviour, Source, make_model

MB = 1_000_000
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def _volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(tmp_path / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    make_model(folder, 2, 9 * MB)
    return folder


@pytest.fixture
def website(model_folder: Path) -> Iterator[Source]:
    source = Source(model_folder)
    yield source
    source.close()


def sums(folder: Path) -> str:
    return "".join(f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir()))


def as_single_file(folder: Path) -> None:
    (folder / SHARD).rename(folder / "model.safetensors")
    (folder / "model.safetensors.index.json").unlink()


def whole(folder: Path, source: Path) -> bool:
    wanted = [file for file in source.iterdir() if file.name not in ("SHA256SUMS", "pytorch_model.bin")]
    return store.intact(folder) and all(sha256_of(folder / file.name) == sha256_of(file) for file in wanted)


def upload(client: Any, folder: Path) -> None:
    for file in folder.iterdir():
        client.upload_file(str(file), "chats", f"models/tiny/{file.name}")


def test_a_model_is_fetched_from_an_object_store(bucket: Any, model_folder: Path) -> None:
    (model_folder / "pytorch_model.bin").write_bytes(b"a pickle")
    upload(bucket, model_folder)
    model = resolve_model("s3://chats/models/tiny")
    folder, fetched = publish_model(model)
    assert whole(folder, model_folder)
    assert fetched == model.bytes
    assert not (folder / "pytorch_model.bin").exists()
    assert publish_model(resolve_model("s3://chats/models/tiny/")) == (folder, 0)


def test_the_sha256sums_of_a_model_in_an_object_store_are_checked(bucket: Any, model_folder: Path) -> None:
    (model_folder / "SHA256SUMS").write_text(sums(model_folder))
    upload(bucket, model_folder)
    folder, _ = publish_model(resolve_model("s3://chats/models/tiny"))
    assert whole(folder, model_folder)
    damaged = (model_folder / SHARD).read_bytes()[:-1] + b"?"
    bucket.put_object(Bucket="chats", Key=f"models/tiny/{SHARD}", Body=damaged)
    (volumes.weights() / "models").rename(volumes.weights() / "away")
    for blob in (volumes.weights() / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(UserError, match=f"{SHARD}: the hash of what was fetched was wrong twice"):
        publish_model(resolve_model("s3://chats/models/tiny"))


def test_a_model_that_was_changed_in_its_store_since_the_plan_is_refused(bucket: Any, model_folder: Path) -> None:
    upload(bucket, model_folder)
    model = resolve_model("s3://chats/models/tiny")
    bucket.put_object(Bucket="chats", Key=f"models/tiny/{SHARD}", Body=bytes(5 * MB))
    with pytest.raises(UserError, match="its files have changed since the run was planned"):
        publish_model(model)


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("s3://chats/nothing", "does not exist"),
        ("s3://nobodys/tiny", "does not exist"),
        ("s3:///tiny", "write it as s3://BUCKET/KEY"),
        ("az://chats/tiny", "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"),
    ],
)
def test_a_missing_model_in_a_store_is_one_line(bucket: Any, uri: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        resolve_model(uri)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_a_model_is_fetched_from_a_web_server_by_its_sha256sums(website: Source, model_folder: Path) -> None:
    (model_folder / "SHA256SUMS").write_text(sums(model_folder))
    model = resolve_model(f"{website.url}/folder")
    folder, _ = publish_model(model)
    assert whole(folder, model_folder)
    listed = store.read_manifest(folder)["source_files"]
    assert {file["sha256"] for file in listed} == {sha256_of(model_folder / file["name"]) for file in listed} != set()


def test_a_model_is_fetched_from_a_web_server_by_the_usual_names(
    website: Source, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    folder, _ = publish_model(resolve_model(f"{website.url}/folder/"))
    assert whole(folder, model_folder)
    # The request is bound to the listed state, and carries no token.
    shards = [one for one in website.asked if one.name == SHARD and "if-match" in one.headers]
    etag = f'"{hashlib.sha256(SHARD.encode()).hexdigest()}"'
    assert shards
    assert {one.headers["if-match"] for one in shards} == {etag}
    assert not any("authorization" in one.headers for one in website.asked)


def test_a_file_that_changes_on_a_web_server_meanwhile_is_reported(website: Source, model_folder: Path) -> None:
    as_single_file(model_folder)
    model = resolve_model(f"{website.url}/folder/")
    website.behave = lambda asked: Behaviour(status=412 if "range" in asked.headers else 0)
    with pytest.raises(
        UserError, match=r"model\.safetensors: has changed since the run was planned; plan the run again"
    ):
        publish_model(model)


def test_a_folder_on_a_web_server_that_is_not_a_models_is_one_line(
    website: Source, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model_folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"not a model's folder: it needs config\.json and \*\.safetensors"):
        resolve_model(f"{website.url}/folder/")
    (model_folder / "SHA256SUMS").write_text("config.json\n")
    with pytest.raises(UserError, match="SHA256SUMS:1: is not in the format of sha256sum"):
        resolve_model(f"{website.url}/folder/")
    (model_folder / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    with pytest.raises(UserError, match=r"SHA256SUMS names 'config\.json', which does not exist"):
        resolve_model(f"{website.url}/folder/")
    website.close()
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(UnreachableError, match="could not be read in 5 attempts"):
        resolve_model(f"{website.url}/folder/")


def test_a_file_that_is_replaced_in_its_store_during_the_fetch_is_not_published(
    bucket: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(bucket, model_folder)
    model = resolve_model("s3://chats/models/tiny")
    real = fetching.fetch

    def meanwhile(*arguments: Any) -> Any:
        time.sleep(1.1)  # the store's modification times have a resolution of a second
        bucket.put_object(Bucket="chats", Key=f"models/tiny/{SHARD}", Body=bytes(9 * MB))
        return real(*arguments)

    monkeypatch.setattr(fetching, "fetch", meanwhile)
    with pytest.raises(UserError, match="its files have changed since the run was planned"):
        publish_model(model)
    assert not volumes.published_model(model.digest).exists()
    assert not [path for path in (volumes.weights() / "models").rglob("*") if path.suffix in (".safetensors", ".part")]


def unlisted(source: Source, name: str, **known: Any) -> SourceFile:
    """Return a file of which the source lists neither size nor hash."""
    return SourceFile(**{"name": name, "bytes": 0, "url": f"{source.url}/folder/{name}", **known})


@pytest.mark.parametrize(
    "behave",
    [
        lambda _: Behaviour(),
        lambda asked: Behaviour(cut_after=3 * MB if asked.number < 2 else None),
        lambda asked: Behaviour(flipped=asked.number == 0),
        lambda asked: Behaviour(no_ranges=True, flipped=asked.number == 0),
        lambda asked: Behaviour(no_ranges=True, cut_after=3 * MB if asked.number == 0 else None),
    ],
    ids=["plain", "cut", "wrong", "wrong-no-ranges", "cut-no-ranges"],
)
def test_a_file_of_unknown_size_is_fetched_too(
    website: Source, model_folder: Path, tmp_path: Path, behave: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.pull.transfer.transfer, "FIRST_WAIT_SECONDS", 0.01)
    website.behave = behave
    (tmp_path / "to").mkdir()
    file = unlisted(website, SHARD, sha256=sha256_of(model_folder / SHARD))
    done = fetching.fetch([file], tmp_path / "to", lambda _: None)
    assert sha256_of(tmp_path / "to" / SHARD) == done.sha256[SHARD] == file.sha256


def test_a_file_that_has_become_shorter_is_truncated(website: Source, tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / "config.json.part").write_bytes(bytes(5000))
    done = fetching.fetch([unlisted(website, "config.json")], to, lambda _: None)
    assert (to / "config.json").read_bytes() == (website.folder / "config.json").read_bytes()
    assert done.sha256["config.json"] == sha256_of(website.folder / "config.json")


def test_finished_files_without_a_hash_are_not_fetched_again_after_a_kill(
    website: Source, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.pull.transfer.transfer, "FIRST_WAIT_SECONDS", 0.001)
    to = tmp_path / "to"
    to.mkdir()
    second = SHARD.replace("00001-", "00002-")
    files = [unlisted(website, name, bytes=9 * MB, tag=f"tag of {name}") for name in (SHARD, second)]

    def behave(asked: Asked) -> Behaviour:
        if asked.name != second:
            return Behaviour()
        wait_for((to / SHARD).exists)
        return Behaviour(status=500)

    website.behave = behave
    with pytest.raises(UnreachableError, match="failed in 6 attempts: the source answers 500"):
        fetching.fetch(files, to, lambda _: None)
    website.behave = lambda _: Behaviour()
    before = website.sent
    done = fetching.fetch(files, to, lambda _: None)
    assert website.sent - before == 9 * MB
    assert {name: sha256_of(to / name) for name in (SHARD, second)} == done.sha256


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("http://proxy:3128", {}),
        ("proxy:3128", {}),
        ("http://me:a%40b@proxy:3128", {"proxy-authorization": "Basic bWU6YUBi"}),
    ],
)
def test_a_proxy_is_used_with_its_user_name_and_password(address: str, headers: dict[str, str]) -> None:
    proxy = http_reader._proxy(address, {})
    assert (proxy.proxy.host, proxy.proxy.port, proxy.proxy_headers) == ("proxy", 3128, headers)


def test_an_unsupported_proxy_is_one_line() -> None:
    with pytest.raises(UserError, match="the proxy socks5://proxy is not supported; use an HTTP or HTTPS proxy"):
        http_reader._proxy("socks5://me:secret@proxy:1080", {})


@pytest.mark.parametrize("settings", [{"AWS_ENDPOINT_URL": "ftp://h"}, {}])
def test_an_invalid_address_is_one_line(bucket: Any, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as told:
        resolve_model("s3://chats//tiny")
    assert "\n" not in str(told.value)


def test_a_google_store_that_cannot_be_reached_is_one_line_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.common.storage.object_store, "GOOGLE_RETRY_SECONDS", 1.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(UnreachableError, match="model gs://models/tiny: could not be read in 5 attempts: ") as told:
        resolve_model("gs://models/tiny")
    assert "\n" not in str(told.value)
