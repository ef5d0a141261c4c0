"""When a node is requested: not before the weights are nearly fetched, and never if the download has stopped."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from presets.architecture import Architecture
from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.weights import fetch_progress, store
from steps.common.weights.fetch_progress import FetchProgress
from steps.provision import wait_for_weights

DIGEST = "d" * 64
ANY: dict[str, Any] = {}
GIVEN: dict[str, Any] = {
    "name": "m",
    "digest": DIGEST,
    "bytes": 1000,
    "architecture": Architecture.model_construct(**ANY),
}
MODEL = ResolvedModel.model_construct(**GIVEN)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a download, with every time limit shortened."""
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(tmp_path))
    for name, seconds in (
        ("POLL_SECONDS", 0.02),
        ("SPEED_SECONDS", 0.1),
        ("STANDSTILL_SECONDS", 0.5),
        ("BEGIN_SECONDS", 1.5),
        ("PROVISION_MINUTES", 0.3 / 60),
    ):
        monkeypatch.setattr(wait_for_weights, name, seconds)
    published = volumes.published_model(DIGEST)
    published.parent.mkdir(parents=True)
    return published


def in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def download(folder: Path, seconds: float, size: int, after: float = 0.0) -> Callable[[], None]:
    def work() -> None:
        time.sleep(after)
        for number in range(1, 51):
            fetch_progress.save(folder, FetchProgress(done=size * number // 50, total=MODEL.bytes, owner="pull"))
            time.sleep(seconds / 50)

    return work


def waited() -> float:
    began = time.monotonic()
    wait_for_weights.wait_until_nearly_fetched(MODEL)
    return time.monotonic() - began


def test_weights_that_are_there_are_not_waited_for(folder: Path) -> None:
    folder.mkdir()
    (folder / store.MANIFEST).write_text('{"files": []}')
    assert waited() < wait_for_weights.STANDSTILL_SECONDS


def test_a_node_is_asked_for_when_what_is_left_takes_as_long_as_a_node(folder: Path) -> None:
    in_background(download(folder, 1.5, MODEL.bytes))
    wait_for_weights.wait_until_nearly_fetched(MODEL)
    told = fetch_progress.read(folder)
    assert told
    assert 500 < told.done < MODEL.bytes


def test_a_download_may_begin_late_and_not_stand_still(folder: Path) -> None:
    """Its pod may wait for a node and an image for longer than a download may stand still."""
    in_background(download(folder, 1.0, MODEL.bytes, after=0.9))
    assert waited() > 0.9


@pytest.mark.parametrize(("size", "at_least"), [(500, 0.5), (0, 1.5)])
def test_weights_that_do_not_come_buy_nothing(folder: Path, size: int, at_least: float) -> None:
    fetch_progress.save(folder, FetchProgress(done=size, total=MODEL.bytes, owner="pull"))
    began = time.monotonic()
    with pytest.raises(
        UserError, match=r"has made no progress for .* so no node is requested; see the log of the step pull"
    ):
        wait_for_weights.wait_until_nearly_fetched(MODEL)
    assert time.monotonic() - began >= at_least


def test_whoever_has_fetched_and_is_gone_is_waited_for_longer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the pod that continues it waits for a node."""
    monkeypatch.setattr(wait_for_weights, "SILENT_SECONDS", 0.2)
    fetch_progress.save(folder, FetchProgress(done=500, total=MODEL.bytes, owner="lost"))
    began = time.monotonic()
    with pytest.raises(UserError, match="has made no progress"):
        wait_for_weights.wait_until_nearly_fetched(MODEL)
    assert time.monotonic() - began >= 1.5


def test_a_damaged_model_buys_nothing_yet(folder: Path) -> None:
    folder.mkdir()
    (folder / store.MANIFEST).write_text('{"files": [{"name": "gone", "bytes": 1}]}')
    with pytest.raises(UserError, match="has made no progress"):
        wait_for_weights.wait_until_nearly_fetched(MODEL)
