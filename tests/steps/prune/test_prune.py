"""What `prune` deletes and keeps, on real folders and a real registry. Killed at any moment, it leaves no half of a folder."""

import base64
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.machine.job_folders import Executions, JobFolder
from pipelines.machine.run_record import new_run
from pipelines.shown.task_state import Phase, TaskState
from steps.common.adapter.adapter_files import merged_key
from steps.common.machine import servers
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, exclusive_lock
from steps.common.storage.retention import lock_if_free
from steps.prune.live_runs import of_workflows
from steps.prune.step import PruneInput, prune
from steps.restore.step import RestoreInput, restore
from tests.support.commands import fineline
from tests.support.golden import golden, register_golden
from tests.support.machine_jobs import job_record

OLD = time.time() - 30 * 24 * 3600
SIZE = 50_000  # bytes of each file
DIGEST = "d" * 64


def built(folder: Path, *, used: float = OLD, partial: bool = False) -> Path:
    """Build a folder as the steps do, last used at some time."""
    with exclusive_lock(folder, on_wait=lambda: None), build_folder(folder) as made:
        for name in ("first", "second"):
            (made / name).write_bytes(os.urandom(SIZE))
    if partial:
        folder = folder.rename(folder.with_name(f"{folder.name}.partial"))
    set_used(folder, used)
    return folder


def set_used(folder: Path, used: float) -> None:
    for path in (folder, folder.with_name(f"{folder.name.removesuffix('.partial')}.lock")):
        os.utime(path, (used, used))


def deleted(output: str) -> set[str]:
    """Return the folders that the output names."""
    return set(re.findall(r"^(?:would free|freed) \d\.\d\d GB: (\S+), last used \d+ days ago$", output, re.MULTILINE))


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's database without content, which takes MLflow seconds to make."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    tracking.client(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture(autouse=True)
def _registry(empty_registry: Path, _volumes: None) -> None:
    volumes.runs().mkdir(parents=True)
    shutil.copyfile(empty_registry, volumes.runs() / "mlflow.db")


@pytest.fixture
def registered() -> list[int]:
    """Five versions of a model: the first is champion, the third is candidate."""
    numbers = [register_golden("tiny") for _ in range(5)]
    store = tracking.client(tracking.default_uri())
    for number in numbers:
        store.delete_model_version_tag("tiny", str(number), versions.CHAMPION_SINCE)
    versions.make_champion(store, "tiny", 1)
    store.set_registered_model_alias("tiny", versions.CANDIDATE, 3)
    return numbers


def test_what_nothing_names_goes_and_a_dry_run_says_the_same() -> None:
    unneeded = [
        built(volumes.merged_model("a" * 64)),
        built(volumes.tuning("b" * 64)),
        built(volumes.tuning("c" * 64), partial=True),
        built(volumes.prepared_rows("d" * 64)),
        built(volumes.runs() / "adapters" / "gone-v1-12345678"),
        built(volumes.restored_version("gone", 3, DIGEST)),
    ]
    recent = built(volumes.merged_model("e" * 64), used=time.time() - 6 * 24 * 3600)
    kept = {
        recent,
        *(built(volumes.runs() / place) for place in ("data/abc", "exports/tiny/1", "runs/r", "artifacts/t")),
    }
    wanted = {folder.relative_to(volumes.runs()).as_posix() for folder in unneeded}
    told = prune(PruneInput(dry_run="true")).freed
    assert deleted(told) == wanted
    assert all(folder.exists() for folder in unneeded)
    done = prune(PruneInput()).freed
    assert done == told.replace("would free", "freed")
    assert [folder for folder in (*unneeded, *kept) if folder.exists()] == [
        folder for folder in kept if folder.exists()
    ]
    assert all((folder / "second").stat().st_size == SIZE for folder in kept)
    assert prune(PruneInput()).freed == "freed 0.00 GB in all: folders: 0"


def test_what_this_machine_serves_and_what_a_process_uses_stays() -> None:
    served, held, other = (built(volumes.merged_model(letter * 64)) for letter in "abc")
    server = {"name": "tiny", "version": 1, "run": "r", "base": "b", "adapter_sha256": "c", "folder": str(served)}
    process = servers.Process(pid=os.getpid(), started=0, port=1)
    servers.remember(servers.Server.model_validate({**server, "process": process}))
    with lock_if_free(held):
        assert deleted(prune(PruneInput()).freed) == {other.relative_to(volumes.runs()).as_posix()}
    assert served.exists()
    assert deleted(prune(PruneInput()).freed) == {held.relative_to(volumes.runs()).as_posix()}


def test_a_folder_without_a_lock_does_not_count_as_used_because_it_was_looked_at() -> None:
    folder = built(volumes.restored_version("tiny", 7, DIGEST))
    folder.with_name(f"{folder.name}.lock").unlink()
    for dry_run in ("true", "false"):
        assert deleted(prune(PruneInput(dry_run=dry_run)).freed) == {f"restored/tiny/{folder.name}"}
    assert not folder.exists()


def test_what_the_kept_versions_are_made_of_stays(registered: list[int]) -> None:
    # Champion 1, candidate 3, and the two latest: 4 and 5. So 2 may go.
    restored = {number: built(volumes.restored_version("tiny", number, DIGEST)) for number in registered}
    prune(PruneInput(keep="2"))
    assert [number for number, folder in restored.items() if folder.exists()] == [1, 3, 4, 5]
    prune(PruneInput(keep="0"))
    assert [number for number, folder in restored.items() if folder.exists()] == [1, 3]


def test_after_it_a_rollback_to_any_version_works(registered: list[int]) -> None:
    adapter = golden("version/peft")
    register_golden("tiny")
    merged = built(volumes.merged_model(merged_key(adapter)))
    other = built(volumes.merged_model("a" * 64))
    rows = built(volumes.prepared_rows(json.loads(golden("version_tags.json").read_text())["fineline.rows_digest"]))
    prune(PruneInput(keep="1"))
    assert merged.exists()
    assert rows.exists()
    assert not other.exists()
    for number in (2, 6):
        assert restore(RestoreInput(name="tiny", version=str(number))).version == number
    (restored,) = (volumes.runs() / "restored" / "tiny").glob("2-*[!k]")
    set_used(restored, OLD)
    prune(PruneInput(keep="1"))
    assert not restored.exists()
    assert restore(RestoreInput(name="tiny", version="2")).version == 2


def test_what_a_run_of_this_machine_may_need_stays() -> None:
    used = built(volumes.tuning("a" * 64))
    run = new_run("tiny", "finetune", {})
    outputs = run.task_folder("tune") / "outputs" / "parameters"
    outputs.mkdir(parents=True)
    (outputs / "adapter_folder").write_text(f"{used}/adapter")
    run.save_task_state("tune", TaskState(phase=Phase.SUCCEEDED))
    failed = run.model_copy(update={"phase": Phase.FAILED})
    failed.save()
    prune(PruneInput())
    assert used.exists()
    os.utime(run.folder / "run.json", (OLD, OLD))  # nobody has resumed it for a month
    lock = run.lock()
    with lock:
        prune(PruneInput())
        assert used.exists()
    prune(PruneInput())
    assert not used.exists()


@pytest.mark.parametrize(("phase", "kept"), [(Phase.INTERRUPTED, True), (Phase.PENDING, True), (Phase.FAILED, False)])
def test_what_a_paused_or_queued_job_goes_on_with_stays_however_long(phase: Phase, kept: bool) -> None:
    partial = built(volumes.tuning("a" * 64), partial=True)
    run = new_run("tiny", "finetune", {}).model_copy(update={"phase": phase})
    run.save()
    folder = JobFolder(run.name)
    folder.save_executions(Executions(needs=str(partial)))
    folder.save_job(job_record(run.name))
    os.utime(run.folder / "run.json", (OLD, OLD))
    prune(PruneInput())
    assert partial.exists() is kept


def test_what_was_used_since_the_oldest_run_began_stays() -> None:
    used = built(volumes.prepared_rows("a" * 64), used=OLD + 60)
    before = built(volumes.prepared_rows("b" * 64), used=OLD - 60)
    run = new_run("tiny", "finetune", {}).model_copy(update={"started": OLD})
    run.save()
    with run.lock():
        prune(PruneInput())
    assert used.exists()
    assert not before.exists()


def test_workflows_that_run_or_can_be_retried_name_folders_in_a_packed_status_too() -> None:
    def workflow(phase: str, day: int, **status: str) -> dict[str, object]:
        created = f"2026-11-{day}T00:00:00+00:00"
        return {"metadata": {"name": f"run-{day}", "creationTimestamp": created}, "status": {"phase": phase, **status}}

    packed = base64.b64encode(gzip.compress(b'{"outputs": "/runs/merged/abcdef"}')).decode()
    runs = of_workflows(
        [
            workflow("Succeeded", 1),
            workflow("Failed", 2),
            workflow("Running", 10, compressedNodes=packed),
            workflow("", 11),
        ],
        {"Succeeded", "Failed", "Error"},
    )
    text = "\n".join(runs.texts)
    assert 'run-1"' not in text
    assert all(part in text for part in ("run-2", "run-10", "run-11", "/runs/merged/abcdef"))
    assert time.gmtime(runs.since)[:3] == (2026, 11, 10)


def test_what_an_earlier_one_left_half_deleted_is_deleted() -> None:
    left = built(volumes.merged_model("a" * 64))
    left = left.rename(left.with_name(f".{left.name}.leaving"))
    begun = [volumes.runs() / "data" / name for name in (".fetching-abc", ".incoming-abc")]
    for folder in begun:
        folder.mkdir(parents=True)
        os.utime(folder, (OLD, OLD))
    assert len(deleted(prune(PruneInput()).freed)) == 3
    assert not left.exists()
    assert not any(folder.exists() for folder in begun)


def test_files_that_an_export_shares_are_not_counted_as_freed(capsys: pytest.CaptureFixture[str]) -> None:
    merged = built(volumes.merged_model("a" * 64))
    export = volumes.exported("tiny", 1)
    export.mkdir(parents=True)
    for file in merged.iterdir():
        os.link(file, export / file.name)
    set_used(merged, OLD)
    assert "freed 0.00 GB: merged/" in prune(PruneInput()).freed
    assert (export / "first").stat().st_size == SIZE


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("FINELINE_PRUNE_KEEP", "all", "the setting FINELINE_PRUNE_KEEP: 'all' is not a whole number"),
        ("FINELINE_PRUNE_DAYS", "-1", "the setting FINELINE_PRUNE_DAYS: '-1' is not a whole number"),
    ],
)
def test_a_setting_that_is_no_number_is_one_line(
    setting: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(UserError) as raised:
        prune(PruneInput())
    assert str(raised.value) == line


def test_without_the_registry_nothing_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = built(volumes.merged_model("a" * 64))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        UnreachableError, match=r"^nothing was deleted: the registry http://127\.0\.0\.1:9 did not answer: "
    ):
        prune(PruneInput())
    assert folder.exists()


def test_killed_at_any_moment_it_leaves_nothing_half_deleted() -> None:
    """What still has its name is whole; the next one deletes the rest."""
    served = built(volumes.merged_model("f" * 64))
    (volumes.serving("tiny")).mkdir(parents=True)
    (volumes.serving("tiny") / "previous.json").write_text(json.dumps({"folder": str(served)}))
    random.seed(19)
    halves = 0
    for attempt in range(3):
        for number in range(30):
            folder = volumes.merged_model(f"{number:04d}{attempt:012d}")
            if not folder.exists():
                built(folder)
                for more in range(300):
                    (folder / f"more-{more}").write_bytes(b"x")
                set_used(folder, OLD)
        left = being_deleted()
        process = subprocess.Popen([sys.executable, "-m", "pipelines.command", "prune"], stdout=subprocess.DEVNULL)
        while process.poll() is None and being_deleted() <= left:
            time.sleep(0.0005)  # the deletion of a folder takes milliseconds
        time.sleep(random.uniform(0, 0.02) if attempt else 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        halves += len(being_deleted())
        for folder in (volumes.runs() / "merged").iterdir():
            if folder.is_dir() and not folder.name.startswith("."):
                assert len(list(folder.iterdir())) == (2 if folder == served else 302)
    assert halves  # or it was never killed at work
    assert fineline("prune").returncode == 0
    assert [path for path in (volumes.runs() / "merged").iterdir() if path.is_dir()] == [served]


def being_deleted() -> set[str]:
    return {folder.name for folder in (volumes.runs() / "merged").glob("*.leaving")}


def test_the_command_prints_each_folder_and_the_total() -> None:
    built(volumes.merged_model("a" * 64))
    told = fineline("prune", "--dry-run")
    assert told.returncode == 0
    assert re.search(r"would free 0\.00 GB: merged/a{16}, last used 30 days ago", told.stdout + told.stderr)
    assert "would free 0.00 GB in all: folders: 1" in told.stdout + told.stderr
    assert fineline("prune", "--days", "31").returncode == 0
    assert volumes.merged_model("a" * 64).exists()
    wrong = fineline("prune", "--keep", "few")
    assert (wrong.returncode, wrong.stderr) == (2, "fineline: --keep: 'few' is not a whole number\n")
