"""Models from elsewhere than a hub: object stores, web servers, folders."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steps.common import store, volumes
from steps.common.errors import UserError
from steps.common.files import sha256_of
from steps.plan.model import resolve_model
from steps.pull.publish import publish_model
from tests.pull.source import Behaviour, Source, make_model

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


def whole(folder: Path, source: Path) -> bool:
    wanted = [file for file in source.iterdir() if file.name not in ("SHA256SUMS", "pytorch_model.bin")]
    return store.intact(folder) and all(sha256_of(folder / file.name) == sha256_of(file) for file in wanted)


def upload(client: Any, folder: Path) -> None:
    for file in folder.iterdir():
        client.upload_file(str(file), "chats", f"models/tiny/{file.name}")


def test_a_model_comes_from_an_object_store(bucket: Any, model_folder: Path) -> None:
    (model_folder / "pytorch_model.bin").write_bytes(b"a pickle")
    upload(bucket, model_folder)
    model = resolve_model("s3://chats/models/tiny")
    folder, fetched = publish_model(model)
    assert whole(folder, model_folder)
    assert fetched == model.bytes
    assert not (folder / "pytorch_model.bin").exists()
    assert publish_model(resolve_model("s3://chats/models/tiny/")) == (folder, 0)


def test_hashes_beside_a_model_in_an_object_store_are_held_to(bucket: Any, model_folder: Path) -> None:
    (model_folder / "SHA256SUMS").write_text(sums(model_folder))
    upload(bucket, model_folder)
    folder, _ = publish_model(resolve_model("s3://chats/models/tiny"))
    assert whole(folder, model_folder)
    bucket.put_object(Bucket="chats", Key=f"models/tiny/{SHARD}", Body=bytes(9 * MB))
    (store.volumes.weights() / "models").rename(store.volumes.weights() / "away")
    for blob in (store.volumes.weights() / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(UserError, match=f"{SHARD}: what came has another hash than the source lists, twice"):
        publish_model(resolve_model("s3://chats/models/tiny"))


def test_a_model_that_was_changed_in_its_store_since_the_plan_is_refused(bucket: Any, model_folder: Path) -> None:
    upload(bucket, model_folder)
    model = resolve_model("s3://chats/models/tiny")
    bucket.put_object(Bucket="chats", Key=f"models/tiny/{SHARD}", Body=bytes(5 * MB))
    with pytest.raises(UserError, match="its files changed since the run was planned"):
        publish_model(model)


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("s3://chats/nothing", "nothing is there"),
        ("s3://nobodys/tiny", "nothing is there"),
        ("s3:///tiny", "write it as s3://BUCKET/KEY"),
        ("az://chats/tiny", "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"),
    ],
)
def test_what_is_not_in_a_store_is_one_line(bucket: Any, uri: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        resolve_model(uri)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_a_model_comes_from_a_web_server_by_its_hashes(website: Source, model_folder: Path) -> None:
    (model_folder / "SHA256SUMS").write_text(sums(model_folder))
    model = resolve_model(f"{website.url}/folder")
    folder, _ = publish_model(model)
    assert whole(folder, model_folder)
    listed = store.read_manifest(folder)["source_files"]
    assert all(file["sha256"] for file in listed)


def test_a_model_comes_from_a_web_server_by_the_usual_names(
    website: Source, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    index = {"weight_map": {"a": SHARD, "b": SHARD.replace("00001-", "00002-")}}
    import json

    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    folder, _ = publish_model(resolve_model(f"{website.url}/folder/"))
    assert whole(folder, model_folder)
    # It is held to what it was when it was listed, and gets nobody's token.
    shards = [one for one in website.asked if one.name == SHARD and "range" in one.headers]
    etag = f'"{hashlib.sha256(SHARD.encode()).hexdigest()}"'
    assert shards
    assert {one.headers["if-match"] for one in shards} == {etag}
    assert not any("authorization" in one.headers for one in website.asked)


def test_a_file_that_changes_on_a_web_server_meanwhile_is_told(website: Source, model_folder: Path) -> None:
    (model_folder / SHARD).rename(model_folder / "model.safetensors")
    model = resolve_model(f"{website.url}/folder/")
    website.behave = lambda asked: Behaviour(status=412 if "range" in asked.headers else 0)
    with pytest.raises(UserError, match=r"model\.safetensors: has changed since the run was planned; plan it again"):
        publish_model(model)


def test_a_folder_on_a_web_server_that_is_no_models_is_one_line(website: Source, model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"not a model's folder: it needs config\.json and \*\.safetensors"):
        resolve_model(f"{website.url}/folder/")
    (model_folder / "SHA256SUMS").write_text("config.json\n")
    with pytest.raises(UserError, match="SHA256SUMS:1: write it as sha256sum does"):
        resolve_model(f"{website.url}/folder/")
    (model_folder / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    with pytest.raises(UserError, match=r"SHA256SUMS names 'config\.json', which is not there"):
        resolve_model(f"{website.url}/folder/")
    website.close()
    with pytest.raises(UserError, match="cannot be reached"):
        resolve_model(f"{website.url}/folder/")
