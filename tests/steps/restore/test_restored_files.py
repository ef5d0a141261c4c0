"""What `restore` keeps of a version is told apart by its content: version numbers start over with a new registry."""

from pathlib import Path

import pytest

from steps.common.adapter.adapter_files import WEIGHTS_FILE, adapter_sha256
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve
from steps.restore.step import RestoreInput, restore

NAME = "tiny"


class Registries:
    """Registries of the same model, one after the other, on this machine."""

    def __init__(self, folder: Path, resolved: Resolved) -> None:
        self.folder, self.resolved = folder, resolved

    def begin(self, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin a registry anew."""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder / called}.db")

    def register(self, weights: bytes, registered_as: str = "") -> Path:
        """Register a version with an adapter of these weights, and return the folder of its artifacts."""
        from mlflow.artifacts import download_artifacts

        store = tracking.client(tracking.default_uri())
        artifacts = self.folder / f"artifacts-{len(list(self.folder.iterdir()))}"
        adapter = artifacts / versions.ADAPTER_FOLDER
        adapter.mkdir(parents=True)
        (adapter / WEIGHTS_FILE).write_bytes(weights)
        (artifacts / versions.EVALUATION_FILE).write_text(f'"{artifacts.name}"')
        (artifacts / versions.RESOLVED_FILE).write_text(self.resolved.model_dump_json())
        if not store.search_registered_models(f"name = '{NAME}'"):
            store.create_registered_model(NAME)
        made = {versions.RUN: self.resolved.run, versions.BASE_URI: self.resolved.model.uri}
        tags = {versions.ADAPTER_SHA256: registered_as or adapter_sha256(adapter), **made}
        tags[versions.BASE_DIGEST] = self.resolved.model.digest
        store.create_model_version(NAME, artifacts.as_uri(), tags=tags)
        assert download_artifacts(artifacts.as_uri())
        return artifacts


@pytest.fixture
def registries(tmp_path: Path, tiny_model: Path, chats: Path) -> Registries:
    folder = tmp_path / "registries"
    folder.mkdir()
    recipe = f"{{name: tiny, model: '{tiny_model.as_uri()}', data: {{train: {chats}, max_tokens: 64}}}}"
    return Registries(folder, resolve(PlanInput(recipe=recipe)))


def restored() -> tuple[bytes, str]:
    found = restore(RestoreInput(name=NAME, version="1"))
    return (Path(found.adapter_folder) / WEIGHTS_FILE).read_bytes(), Path(found.report).read_text()


def test_version_1_of_a_registry_that_begins_anew_is_not_taken_from_the_old_ones_cache(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries.begin("first", monkeypatch)
    artifacts = registries.register(b"first")
    assert restored() == (b"first", f'"{artifacts.name}"')
    registries.begin("second", monkeypatch)
    artifacts = registries.register(b"second")
    assert restored() == (b"second", f'"{artifacts.name}"')
    # The same adapter, evaluated anew.
    registries.begin("third", monkeypatch)
    artifacts = registries.register(b"second")
    assert restored() == (b"second", f'"{artifacts.name}"')


def test_a_version_is_downloaded_once_and_again_if_it_has_been_damaged_since(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries.begin("first", monkeypatch)
    artifacts = registries.register(b"first")
    assert restored()[0] == b"first"
    (artifacts / versions.EVALUATION_FILE).write_text('"changed"')
    assert restored()[1] != '"changed"'
    (kept,) = (volumes.runs() / "restored" / NAME).glob(f"*/{versions.ADAPTER_FOLDER}/{WEIGHTS_FILE}")
    kept.write_bytes(b"damaged")
    assert restored()[0] == b"first"


def test_an_adapter_that_is_not_the_registered_one_is_refused_and_nothing_is_kept(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries.begin("first", monkeypatch)
    registries.register(b"changed", registered_as="a" * 64)
    with pytest.raises(
        UserError, match=r"tiny version 1: the registry's adapter has the SHA-256 \w{12}, and a{12} was"
    ):
        restored()
    # A lock stays: another process may wait for it.
    assert {one.suffix for one in (volumes.runs() / "restored" / NAME).iterdir()} == {".lock"}
