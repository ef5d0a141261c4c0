"""Jobs whose runs are executed: in their turn, paused, cancelled, killed. Two-layer model, real processes."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from api.jobs.job_record import JobRecord
from api.machine.job_folders import JobFolder
from api.machine.job_queue import JobQueue
from api.machine.machine_jobs import MachineJobs
from pipelines.machine.run_record import load_run
from pipelines.shown.task_state import Phase
from recipes.recipe import Recipe
from steps.common.registry import tracking
from steps.common.storage import volumes
from steps.prune.step import PruneInput, prune
from tests.support.commands import wait_for
from tests.support.golden import golden
from tests.support.machine_jobs import (
    PATIENCE,
    created,
    executing,
    job_record,
    queue_process,
    tiny_job,
    wait_until,
    with_steps,
)

LONG = {"epochs": 40, "checkpoint_every": 5}  # about a minute of steps


def newest_checkpoint() -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    found = (volumes.runs() / "tunings").glob("*.partial/checkpoints/checkpoint-*/trainer_state.json")
    return max((int(file.parent.name.rpartition("-")[2]) for file in found), default=0)


def versions() -> int:
    store = tracking.client(tracking.default_uri())
    return len(store.search_model_versions("name = 'tiny'"))


def log_of(job: JobRecord, task: str) -> str:
    return (volumes.run_folder(job.run) / "tasks" / task / "log.txt").read_text()


@contextmanager
def never_two_at_once() -> Iterator[None]:
    """Look at the processes that execute runs several times a second, and fail if two ever have steps running."""
    most, ending = [0], threading.Event()

    def look() -> None:
        while not ending.wait(0.25):
            most[0] = max(most[0], len(with_steps(executing())))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
    assert most[0] == 1


def test_jobs_run_one_after_another_and_say_how_far_they_are(tmp_path: Path, tiny_model: Path, chats: Path) -> None:
    recipe = tiny_job(tmp_path, tiny_model, chats, evaluations=2)
    refusing = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"better_than_base": 0.99})})
    jobs = MachineJobs()
    first, second = created(jobs, recipe, created_at=1), created(jobs, refusing, created_at=2)
    with never_two_at_once(), JobQueue():
        state = wait_until(jobs, first, lambda state: len(state.measurements) > 1)
        assert (state.status, jobs.state(second).status) == ("running", "queued")
        assert state.tasks["prepare"][0].phase is Phase.SUCCEEDED
        assert "loss" in wait_until(jobs, first, lambda state: bool(state.tasks["tune"][1])).tasks["tune"][1]
        done = wait_until(jobs, first, lambda state: state.status not in ("queued", "running"))
        refused = wait_until(jobs, second, lambda state: state.status not in ("queued", "running"))
    assert (done.status, done.message, done.version) == ("succeeded", "", 1)
    assert first.created_at < done.started < done.finished <= refused.started < refused.finished
    assert done.report
    assert done.report.passed
    assert done.verdict.startswith("passed")
    assert done.quote
    assert done.trained_tokens
    assert done.trained_tokens == pytest.approx(done.quote.tokens, rel=0.5)
    steps = [one.step for one in done.measurements]
    assert steps == sorted(steps)
    assert len([one for one in done.measurements if one.train_loss is not None]) == done.report.tuning.steps  # type: ignore[union-attr]
    assert len([one for one in done.measurements if one.held_out_loss is not None]) == 3
    start, end = done.times["tune"]
    assert all(start <= one.time <= end for one in done.measurements)
    assert next(iter(done.tasks)) == "plan"
    assert done.tasks["rollout"][0].phase is Phase.SKIPPED

    assert (refused.status, refused.refused, refused.version) == ("failed", True, None)
    assert refused.report
    assert refused.report.reasons
    assert "better_than_base" in refused.message or "refused" in refused.message
    assert versions() == 1
    assert all(one.time >= refused.times["tune"][0] for one in refused.measurements)


def test_a_paused_job_goes_on_from_its_checkpoint_and_a_cancelled_one_does_not(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    jobs = MachineJobs()
    job = created(jobs, tiny_job(tmp_path, tiny_model, chats, **LONG))
    with never_two_at_once(), JobQueue() as queue:
        wait_for(newest_checkpoint)
        jobs.pause(job)
        assert jobs.state(job).status == "paused"
        wait_for(lambda: not executing())
        run = wait_for(lambda: (run := load_run(job.run)) and run.message == "paused" and run)
        assert run.phase is Phase.INTERRUPTED
        assert "a checkpoint is saved" in log_of(job, "tune")
        measured = jobs.state(job).measurements
        assert measured
        # A month later it is still there to be gone on with.
        month = time.time() - 30 * 24 * 3600
        for path in (*(volumes.runs() / "tunings").iterdir(), JobFolder(job.run).path / "run.json"):
            os.utime(path, (month, month))
        prune(PruneInput(keep="1"))
        reached = newest_checkpoint()
        assert reached

        jobs.resume(job)
        queue.wake()
        state = wait_until(jobs, job, lambda state: len(state.measurements) > len(measured) + 2)
        assert state.status == "running"
        assert f"resuming from the checkpoint of step {reached}" in log_of(job, "tune")
        steps = [one.step for one in state.measurements if one.train_loss is not None]
        assert steps == list(range(1, len(steps) + 1))
        jobs.cancel(job)
        cancelled = jobs.state(job)
        assert cancelled.status == "cancelled"
        wait_for(lambda: not executing())
        wait_for(lambda: JobFolder(job.run).executions().closed)
    jobs.resume(job)
    assert jobs.state(job).status == "cancelled"
    assert jobs.state(job).finished == cancelled.finished
    ended = load_run(job.run)
    assert ended
    assert (ended.phase, ended.message) == (Phase.FAILED, "cancelled")
    store = tracking.client(tracking.default_uri())
    (record,) = store.search_runs([store.get_experiment_by_name("tiny").experiment_id])
    assert record.info.status == "FAILED"


def test_when_the_api_ends_in_order_its_run_waits_at_a_checkpoint(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    jobs = MachineJobs()
    job = created(jobs, tiny_job(tmp_path, tiny_model, chats, **LONG))
    with JobQueue():
        wait_for(newest_checkpoint)
    assert not executing()
    assert jobs.state(job).status == "queued"
    assert JobFolder(job.run).executions().lost == 0
    assert "a checkpoint is saved" in log_of(job, "tune")


def killed_when(jobs: MachineJobs, job: JobRecord, is_so: Callable[[], object], *, children: bool) -> None:
    """Work on the queue in a process, and kill it at some moment, alone or with all that it has started."""
    process = queue_process()
    wait_for(lambda: is_so() or process.poll() is not None, PATIENCE)
    assert process.poll() is None
    started = psutil.Process(process.pid).children(recursive=True) if children else []
    os.kill(process.pid, signal.SIGKILL)
    for one in started:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    assert jobs.state(job).status in ("queued", "running")


@pytest.mark.slow
def test_kills_at_any_moment_lose_no_job_and_double_none(tmp_path: Path, tiny_model: Path, chats: Path) -> None:
    """Kills of the process alone, and of it with all that it has started, by turns."""
    jobs = MachineJobs()
    job = created(jobs, tiny_job(tmp_path, tiny_model, chats, **LONG))
    folder = JobFolder(job.run)

    def begun(task: str) -> Callable[[], object]:
        return lambda: (folder.path / "tasks" / task).exists()

    reached = [0]
    with never_two_at_once():
        killed_when(jobs, job, executing, children=False)
        killed_when(jobs, job, begun("plan"), children=True)
        killed_when(jobs, job, begun("prepare"), children=False)
        killed_when(jobs, job, newest_checkpoint, children=True)
        reached[0] = newest_checkpoint()
        killed_when(jobs, job, lambda: newest_checkpoint() > reached[0], children=False)
        killed_when(jobs, job, begun("evaluate"), children=True)
        process = queue_process()
        state = wait_until(jobs, job, lambda state: state.status not in ("queued", "running"))
        process.kill()
        process.wait()
    assert (state.status, state.version) == ("succeeded", 1)
    assert versions() == 1
    assert "resuming from the checkpoint of step" in log_of(job, "tune")


def test_two_processes_share_a_queue_and_one_takes_over_from_the_other(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    jobs = MachineJobs()
    recipe = tiny_job(tmp_path, tiny_model, chats)
    first = created(jobs, recipe, created_at=1)
    with never_two_at_once():
        one, other = queue_process(), queue_process()
        wait_for(executing)
        holder = one if psutil.Process(one.pid).children() else other
        second = job_record(created_at=2)
        jobs.create(second, recipe)
        holder.kill()
        holder.wait()
        for job in (first, second):
            state = wait_until(jobs, job, lambda state: state.status not in ("queued", "running"))
            assert (state.status, state.version) == ("succeeded", 1)
        rest = other if holder is one else one
        assert rest.stdin
        rest.stdin.close()
        assert rest.wait(30) == 0
    assert "already tuned" in log_of(second, "tune")


@pytest.mark.parametrize("name", ["job.json", "run.json"])
def test_a_job_that_the_disk_does_not_give_for_a_while_keeps_its_place(recipe: Recipe, name: str) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    file = JobFolder(job.run).path / name
    kept, changed = file.with_suffix(".kept"), file.parent.stat()
    file.rename(kept)
    file.mkdir()  # reading it is an error, and not that it is missing
    os.utime(file.parent, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    queue = JobQueue()
    assert list(queue._open_jobs()) == []
    file.rmdir()
    kept.rename(file)
    os.utime(file.parent, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    assert [one.job.id for one in queue._open_jobs()] == [job.id]


def test_a_run_and_a_job_of_an_earlier_schema_are_read_and_executed(recipe: Recipe) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    folder = JobFolder(job.run)
    for name, later in (("run.json", ("finished",)), ("job.json", ("wishes", "request", "files"))):
        content = json.loads((folder.path / name).read_text())
        kept = {key: value for key, value in content.items() if key not in ("schema_version", *later)}
        (folder.path / name).write_text(json.dumps(kept))
    assert [one.id for one in jobs.jobs("cats")] == [job.id]
    with JobQueue():
        wait_until(jobs, job, lambda state: "plan" in state.tasks)
        jobs.cancel(job)
    assert jobs.state(job).status == "cancelled"

    old = job_record()
    jobs.create(old, recipe)
    content = {**json.loads(golden("records/run.json").read_text()), "name": old.run}
    (volumes.run_folder(old.run) / "run.json").write_text(json.dumps(content))
    state = jobs.state(old)
    assert (state.status, state.quote) == ("succeeded", None)
    assert state.finished


def test_a_person_may_execute_the_run_of_a_job_meanwhile(recipe: Recipe) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    run = load_run(job.run)
    assert run
    run.phase = Phase.RUNNING
    run.save()
    with run.lock(), JobQueue():
        time.sleep(3)
        assert not executing()
    assert not (JobFolder(job.run).path / "job.log").exists()


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, chats: Path) -> Recipe:
    return tiny_job(tmp_path, tiny_model, chats)
