"""After every fault either all hashes are right and nothing is half published, or the error is one line and bytes are kept."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import steps.pull.reading.http_reader
import steps.pull.transfer.transfer
from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.weights import store
from steps.plan.model import resolve_model
from steps.pull.publish import publish_model
from steps.pull.transfer.partial_file import NOTED_AT_ONCE
from tests.support.hub import point_at
from tests.support.source import Asked, Behaviour, Source, make_model

MB = 1_000_000
SHARD, SHARDS = 40 * MB, 3
# What a killed process may have received but not recorded: a connection's block, and what is in the socket's buffers.
UNNOTED = NOTED_AT_ONCE + (1 << 20)
PULL = (
    "from steps.plan.model import resolve_model\n"
    "from steps.pull.publish import publish_model\n"
    "folder, fetched = publish_model(resolve_model('hf://org/tiny'))\n"
    "print(folder, fetched)\n"
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    make_model(folder, SHARDS, SHARD)
    return folder


@pytest.fixture
def source(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    source = Source(model_folder)
    point_at(monkeypatch, source.url)
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(tmp_path / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
    monkeypatch.setattr(steps.pull.transfer.transfer, "FIRST_WAIT_SECONDS", 0.01)
    yield source
    source.close()


@pytest.fixture
def model(source: Source) -> ResolvedModel:
    model = resolve_model("hf://org/tiny")
    source.asked.clear()
    return model


def begin(source: Source, output: int | None = None, program: str = PULL) -> subprocess.Popen[str]:
    """Start a pull in a process of its own."""
    settings = {"HF_ENDPOINT": source.url, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **settings},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def whole(model: ResolvedModel, source: Source) -> Path:
    """Return the published folder, after checking that it has the source's files and no temporary ones."""
    folder = volumes.published_model(model.digest)
    assert store.intact(folder)
    for file in source.folder.iterdir():
        assert sha256_of(folder / file.name) == sha256_of(file)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(file.name for file in source.folder.iterdir()), store.MANIFEST]
    )
    beside = {path.name for path in folder.parent.iterdir()} - {f"{folder.name}{end}" for end in ("", ".lock", ".used")}
    assert not beside
    return folder


def nothing_published(model: ResolvedModel) -> bool:
    return not volumes.published_model(model.digest).exists()


def of_shards(how: Callable[[Asked], Behaviour]) -> Callable[[Asked], Behaviour]:
    """Apply a behaviour to requests for the large files only."""
    return lambda asked: how(asked) if asked.name.endswith(".safetensors") else Behaviour()


def test_without_a_fault_every_byte_is_fetched_once(source: Source, model: ResolvedModel) -> None:
    folder, fetched = publish_model(model)
    assert (fetched, source.sent) == (model.bytes, source.size)
    assert whole(model, source) == folder
    assert publish_model(model) == (folder, 0)
    assert source.sent == source.size


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_at_the_byte(source: Source, model: ResolvedModel) -> None:
    # A connection notes what has come at each megabyte: with few of them, a kill costs far less than a life receives.
    four = "from steps.pull.transfer.pace import Pace\nPace.__init__.__defaults__ = (4, 4)\n"
    source.behave = of_shards(lambda _: Behaviour(bytes_a_second=4 * MB))
    rng, kills = random.Random(6), 6
    for _ in range(kills):
        process = begin(source, program=four + PULL)
        assert process.stderr
        until = source.sent + rng.randrange(12 * MB, 20 * MB)
        while source.sent < until and process.poll() is None:
            time.sleep(0.005)
        assert process.returncode is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        assert nothing_published(model)
    received = source.sent
    source.behave = lambda _: Behaviour()
    publish_model(model)
    whole(model, source)
    # Had each life begun anew, all that the killed ones received would have come twice.
    assert source.sent - source.size < received / 2


def test_lost_connections_lose_no_bytes(source: Source, model: ResolvedModel) -> None:
    rng = random.Random(1)
    source.behave = of_shards(lambda _: Behaviour(cut_after=rng.randrange(1, 3 * MB) if rng.random() < 0.7 else None))
    publish_model(model)
    whole(model, source)
    assert source.sent == source.size


def test_ranges_that_are_shorter_than_requested_are_completed(source: Source, model: ResolvedModel) -> None:
    source.behave = of_shards(lambda asked: Behaviour(shorter=asked.number % 2 == 0))
    publish_model(model)
    whole(model, source)
    assert source.sent == source.size


def test_only_a_file_with_a_wrong_byte_is_fetched_again(source: Source, model: ResolvedModel) -> None:
    first = "model-00001-of-00003.safetensors"
    source.behave = lambda asked: Behaviour(flipped=asked.name == first and asked.number == 2)
    publish_model(model)
    whole(model, source)
    assert source.sent == source.size + SHARD


def test_a_file_that_stays_wrong_is_named_and_the_others_are_kept(source: Source, model: ResolvedModel) -> None:
    source.behave = lambda asked: Behaviour(flipped=asked.name == "model-00002-of-00003.safetensors")
    with pytest.raises(
        UserError, match=r"model-00002-of-00003\.safetensors: the hash of what was fetched was wrong twice"
    ) as told:
        publish_model(model)
    assert "\n" not in str(told.value)
    assert nothing_published(model)
    source.behave = lambda _: Behaviour()
    before = source.sent
    publish_model(model)
    whole(model, source)
    assert source.sent - before <= SHARD


@pytest.mark.parametrize("always", [False, True])
def test_a_source_that_reports_another_size_is_not_trusted(source: Source, model: ResolvedModel, always: bool) -> None:
    source.behave = of_shards(lambda asked: Behaviour(says_size=SHARD + 1 if always or asked.number < 3 else None))
    if always:
        with pytest.raises(
            UnreachableError, match=f"the source reports {SHARD + 1} bytes, but lists {SHARD}; what was fetched is kept"
        ):
            publish_model(model)
        assert nothing_published(model)
    else:
        publish_model(model)
        whole(model, source)


@pytest.mark.parametrize("status", [429, 503])
def test_a_source_that_throttles_is_asked_later(source: Source, model: ResolvedModel, status: int) -> None:
    since: list[float] = []

    def behave(asked: Asked) -> Behaviour:
        if asked.number == 4 and not since:
            since.append(asked.at)
            return Behaviour(status=status, headers={"Retry-After": "1"})
        return Behaviour(bytes_a_second=8 * MB)

    source.behave = of_shards(behave)
    publish_model(model)
    whole(model, source)
    during = [one for one in source.asked if since[0] + 0.2 < one.at < since[0] + 0.95]
    assert not during


@pytest.mark.parametrize("bytes_a_second", [20, 0.5], ids=["it-trickles", "it-is-silent"])
def test_a_source_that_sends_next_to_nothing_is_abandoned(
    source: Source, model: ResolvedModel, bytes_a_second: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.pull.reading.http_reader, "STALL_SECONDS", 0.4)
    source.behave = of_shards(lambda asked: Behaviour(bytes_a_second=bytes_a_second if asked.number < 4 else 0))
    publish_model(model)
    whole(model, source)


def test_a_source_without_ranges_sends_the_whole_file(source: Source, model: ResolvedModel) -> None:
    source.behave = of_shards(lambda _: Behaviour(no_ranges=True))
    publish_model(model)
    whole(model, source)


def test_a_redirect_to_another_host_gets_no_credentials_and_is_renewed_when_it_expires(
    source: Source, model: ResolvedModel, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store_of_it = Source(model_folder, host="localhost")
    # An expired signature is answered with 403, by Google's store with 400.
    store_of_it.behave = lambda asked: Behaviour(status={3: 403, 7: 400}.get(asked.number, 0))
    source.behave = of_shards(
        lambda asked: Behaviour(status=302, headers={"Location": f"{store_of_it.url}/moved/{asked.name}?signed"})
    )
    try:
        publish_model(model)
        whole(model, source)
        asked = [one for one in source.asked if one.name.endswith(".safetensors")]
        assert {one.headers["authorization"] for one in asked} == {"Bearer hf_secret"}
        assert store_of_it.asked
        assert not any("authorization" in one.headers for one in store_of_it.asked)
        # Redirects are followed once per file, and again when they have expired; not for each range.
        assert len(asked) < len(store_of_it.asked) / 2
    finally:
        store_of_it.close()


def test_two_and_eight_pullers_fetch_it_once(source: Source, model: ResolvedModel) -> None:
    for number in (2, 8):
        folder = volumes.published_model(model.digest)
        subprocess.run(["rm", "-rf", volumes.weights()], check=True)
        source.sent = 0
        source.behave = of_shards(lambda _: Behaviour(bytes_a_second=1 * MB))
        pullers = [begin(source, subprocess.PIPE) for _ in range(number)]
        told = [puller.communicate(timeout=120) for puller in pullers]
        assert all(puller.returncode == 0 for puller in pullers), told
        assert sorted(out.split()[1] for out, _ in told) == ["0"] * (number - 1) + [str(model.bytes)]
        assert source.sent == source.size
        assert whole(model, source) == folder
        # The waiting processes have shown the progress of the fetching one.
        assert any("waiting for the process that fetches tiny (" in err and "MB fetched" in err for _, err in told)


def test_a_waiting_process_takes_over_when_the_fetching_one_is_killed(source: Source, model: ResolvedModel) -> None:
    source.behave = of_shards(lambda _: Behaviour(bytes_a_second=0.3 * MB))
    first = begin(source)
    while source.sent < 4 * MB:
        time.sleep(0.01)
    second = begin(source, subprocess.PIPE)
    assert second.stderr
    while "waiting for the process" not in (line := second.stderr.readline()):
        assert line, "the second one ended without waiting"
    source.behave = lambda _: Behaviour()
    first.kill()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert int(out.split()[1]) < model.bytes - 2 * MB
    whole(model, source)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def settled(source: Source) -> int:
    """Return what the source has sent, once the answers that a puller has left have ended."""
    before = -1
    while before != source.sent:
        before = source.sent
        time.sleep(0.5)
    return before


def test_a_full_disk_is_one_line_and_what_was_fetched_is_kept(
    source: Source, model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    options = f"size={source.size + 20 * MB}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", small], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(small))
        other = small / "somebody-elses"

        def behave(asked: Asked) -> Behaviour:
            if source.sent > 20 * MB and not other.exists():
                with contextlib.suppress(OSError), other.open("wb") as file:
                    for _ in range(60):
                        file.write(bytes(MB))
            return Behaviour()

        source.behave = of_shards(behave)
        with pytest.raises(UserError, match="no space left; free some and run again: what was fetched is kept"):
            publish_model(model)
        assert nothing_published(model)
        # While the disk is full, no weights are requested.
        before = settled(source)
        with pytest.raises(UserError, match=r"tiny needs \d+ MB, and \d+ MB are free"):
            publish_model(model)
        assert source.sent == before
        other.unlink()
        source.behave = lambda _: Behaviour()
        publish_model(model)
        whole(model, source)
        assert source.sent - source.size <= 16 * UNNOTED
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.parametrize(
    "name", ["../escaped.safetensors", "/tmp/x.json", ".hidden.json", "a\\b.json", "manifest.json"]
)
def test_no_listed_name_leads_out_of_the_folder(source: Source, name: str) -> None:
    source.listed = [*source.listed, {"rfilename": name, "size": 1, "blobId": "0" * 40}]
    if "/" in name:
        assert resolve_model("hf://org/tiny").digest  # files in subfolders are ignored
        return
    with pytest.raises(UserError, match="is not a valid file name in a model's folder"):
        resolve_model("hf://org/tiny")
