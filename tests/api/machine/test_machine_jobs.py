"""The folders of jobs: created whole, listed by team, steered without a queue that works."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.machine.job_folders import JobFolder
from api.machine.job_process import renew_hours
from api.machine.job_queue import JobQueue
from api.machine.machine_jobs import MachineJobs
from pipelines.machine.run_record import OUTPUTS, load_run, new_run
from pipelines.shown.task_state import Phase, TaskState
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.handover.resolved import Hardware
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from tests.support.commands import fineline
from tests.support.machine_jobs import created, job_record, tiny_job, wait_until

CREATE = """
import sys
from api.machine.machine_jobs import MachineJobs
from recipes.reader import load
from tests.support.machine_jobs import job_record
jobs, recipe = MachineJobs(), load(sys.argv[1], {})
jobs.create(job_record(), recipe)
print("begins", flush=True)
while True:
    jobs.create(job_record(), recipe)
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, chats: Path) -> Recipe:
    return tiny_job(tmp_path, tiny_model, chats)


def test_a_job_has_its_quote_before_it_begins(recipe: Recipe) -> None:
    jobs = MachineJobs()
    quote = jobs.quote(recipe)
    assert quote
    assert quote.steps > 0
    job = job_record()
    jobs.create(job, recipe)
    state = jobs.state(job)
    assert (state.status, state.quote, state.started, state.finished) == ("queued", quote, 0.0, 0.0)
    assert not state.tasks
    assert not state.measurements


def test_what_a_run_would_refuse_is_refused_in_one_line_and_leaves_no_run(recipe: Recipe, chats: Path) -> None:
    chats.write_text('{"messages": 1}\n')
    with pytest.raises(UserError, match=r"chats\.jsonl:1: 'messages' is a number") as told:
        MachineJobs().quote(recipe)
    assert "\n" not in str(told.value)
    assert not list(volumes.runs().glob("runs/*"))


def test_a_team_sees_its_own_jobs_the_newest_first(recipe: Recipe) -> None:
    jobs = MachineJobs()
    found = [job_record(created_at=number) for number in (5, 7, 6)]
    for job in found:
        jobs.create(job, recipe)
    jobs.create(job_record(team="dogs"), recipe)
    new_run("by-hand", "finetune", {})
    assert [job.created_at for job in jobs.jobs("cats")] == [7, 6, 5]
    assert jobs.job("cats", found[0].id) == found[0]
    assert jobs.job("dogs", found[0].id) is None
    for wrong in ("ftjob-", "ftjob-../x", "ftjob-a\0b", "x" * 5000, "ftjob-" + "x" * 5000, "ftjob-none", found[0].run):
        assert jobs.job("cats", wrong) is None


def test_a_job_that_is_there_already_stays_as_it_is(recipe: Recipe) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    jobs.create(job.model_copy(update={"seed": 1}), recipe)
    assert jobs.jobs("cats") == [job]
    run = new_run("by-hand", "finetune", {})
    with pytest.raises(FileExistsError):
        jobs.create(job_record(run=run.name), recipe)


def test_a_damaged_job_does_not_hide_the_others(recipe: Recipe) -> None:
    jobs = MachineJobs()
    good, damaged, later = job_record(), job_record(), job_record()
    for job in (good, damaged, later):
        jobs.create(job, recipe)
    (volumes.run_folder(damaged.run) / "job.json").write_text("{")
    text = later.model_copy(update={"schema_version": 99}).model_dump_json()
    (volumes.run_folder(later.run) / "job.json").write_text(text)
    assert jobs.jobs("cats") == [good]
    assert jobs.job("cats", damaged.id) is None


def test_hundreds_of_jobs_are_listed_each_with_its_state(recipe: Recipe) -> None:
    jobs = MachineJobs()
    for _ in range(400):
        jobs.create(job_record(), recipe)
    found = jobs.jobs("cats")
    assert len({job.id for job in found}) == 400
    assert {jobs.state(job).status for job in found} == {"queued"}


def test_a_kill_while_jobs_are_created_leaves_whole_jobs_alone(recipe: Recipe, tmp_path: Path) -> None:
    for milliseconds in (0, 3, 7, 20, 45):
        process = subprocess.Popen(
            [sys.executable, "-c", CREATE, str(tmp_path / "recipe.yaml")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "begins\n"
        time.sleep(milliseconds / 1000)
        process.kill()
        process.wait()
    found = list((volumes.runs() / "runs").iterdir())
    assert len(found) >= 5
    jobs = MachineJobs().jobs("cats")
    assert {job.run for job in jobs} == {folder.name for folder in found}
    for folder in found:
        run = load_run(folder.name)
        assert run
        assert run.phase is Phase.PENDING
        assert run.parameters["recipe"]


def test_what_waits_is_listed_as_pending_and_cancelled_for_good(recipe: Recipe) -> None:
    jobs = MachineJobs()
    job = created(jobs, recipe)
    assert "Pending" in fineline("runs").stdout
    jobs.pause(job)
    assert jobs.state(job).status == "paused"
    jobs.resume(job)
    assert jobs.state(job).status == "queued"
    jobs.cancel(job)
    jobs.resume(job)
    state = jobs.state(job)
    assert (state.status, state.started) == ("cancelled", 0.0)
    assert state.finished > 0
    assert [wanted for _, wanted in jobs.jobs("cats")[0].wishes] == ["pause", "run", "cancel"]
    (listed,) = json.loads(fineline("runs", "--json").stdout)
    assert (listed["phase"], listed["message"]) == ("Failed", "cancelled")


@pytest.mark.parametrize(("hours", "tuned"), [(1.0, False), (0.0, False), (1.0, True)])
def test_the_hours_of_a_pause_do_not_count(recipe: Recipe, hours: float, tuned: bool) -> None:
    jobs = MachineJobs()
    own = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"max_hours": hours, "max_cost": 1.0})})
    job, quote = job_record(), jobs.quote(own)
    assert quote
    jobs.create(job, own)
    run = load_run(job.run)
    assert run
    long_ago = time.time() - 7200
    got = Hardware(rung=quote.first, node="here", since=long_ago, until=hours and long_ago + hours * 3600)
    outputs = run.task_folder("provision") / OUTPUTS / "parameters" / "hardware"
    outputs.parent.mkdir(parents=True)
    outputs.write_text(got.model_dump_json())
    run.save_task_state("provision", TaskState(phase=Phase.SUCCEEDED))
    run.save_task_state("tune", TaskState(phase=Phase.SUCCEEDED if tuned else Phase.INTERRUPTED))
    renew_hours(job.run)
    state = run.task_state("provision")
    assert state
    assert (state.phase is Phase.INTERRUPTED) == (hours > 0 and not tuned)


def test_what_is_cancelled_or_paused_in_the_queue_never_starts(recipe: Recipe) -> None:
    jobs = MachineJobs()
    cancelled, paused = job_record(), job_record()
    for job in (cancelled, paused):
        jobs.create(job, recipe)
    jobs.cancel(cancelled)
    jobs.pause(paused)
    with JobQueue():
        time.sleep(3)
    assert not list((volumes.runs() / "runs").glob("*/tasks"))
    assert not list((volumes.runs() / "runs").glob("*/job.log"))
    assert (jobs.state(cancelled).status, jobs.state(paused).status) == ("cancelled", "paused")


def test_a_run_that_ended_is_not_steered_any_more(recipe: Recipe) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    run = load_run(job.run)
    assert run
    run.phase, run.finished = Phase.SUCCEEDED, 1.0
    run.save()
    jobs.cancel(job)
    assert jobs.state(job).status == "succeeded"
    assert jobs.jobs("cats")[0].wanted == "run"


def test_what_failed_outside_is_tried_again_after_a_while(recipe: Recipe) -> None:
    jobs, job = MachineJobs(), job_record()
    jobs.create(job, recipe)
    run = load_run(job.run)
    assert run
    run.phase, run.exit_code, run.message = Phase.FAILED, 75, "plan: MLflow does not answer"
    run.save()
    assert jobs.state(job).status == "queued"
    folder = JobFolder(job.run)
    with JobQueue():
        wait_until(jobs, job, lambda _: folder.executions().lost == 1)
        assert 5 < folder.executions().not_before - time.time() < 11
        assert jobs.state(job).status == "queued"
    assert not folder.has_begun()


def test_what_was_lost_keeps_its_turn() -> None:
    jobs = MachineJobs()
    lost, later = job_record(created_at=1), job_record(created_at=2)
    for job in (lost, later):
        jobs.create(job, load("pet-store", {}))
    run = load_run(lost.run)
    assert run
    run.phase = Phase.RUNNING  # by a process that is gone
    run.save()
    queue = JobQueue()
    assert queue._next() is None
    found = queue._next()
    assert found
    assert found.job == lost
    assert jobs.state(lost).status == "queued"


@pytest.mark.slow
def test_a_registry_that_does_not_answer_is_asked_again_and_again_but_not_for_ever(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr("api.machine.job_queue.MOST_LOST", 1)
    jobs = MachineJobs()
    job = created(jobs, recipe)
    folder = JobFolder(job.run)
    with JobQueue() as queue:
        wait_until(jobs, job, lambda _: folder.executions().lost == 1)
        assert wait_until(jobs, job, lambda state: state.status != "running").status == "queued"
        assert folder.executions().not_before > time.time()
        with folder.lock():
            folder.save_executions(folder.executions().model_copy(update={"not_before": 0.0}))
        queue.wake()
        state = wait_until(jobs, job, lambda state: state.status not in ("queued", "running"))
    assert (state.status, state.refused) == ("failed", False)
    assert "given up after 2 attempts" in state.message
    assert "\n" not in state.message


def test_the_parent_of_a_jobs_process_died_before_it_began(recipe: Recipe) -> None:
    job = job_record()
    MachineJobs().create(job, recipe)
    command = [sys.executable, "-m", "api.machine.job_process", "execute", job.run, "1"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 75
    run = load_run(job.run)
    assert run
    assert run.phase is Phase.PENDING


def test_a_process_that_is_killed_again_and_again_does_not_loop(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.machine.job_queue.MOST_LOST", 2)
    monkeypatch.setattr("api.machine.job_queue.FIRST_WAIT_SECONDS", 0.1)
    # Python does not start with it.
    monkeypatch.setattr("api.machine.job_process.sys.executable", "/bin/false")
    jobs = MachineJobs()
    job = job_record()
    jobs.create(job, recipe)
    with JobQueue():
        state = wait_until(jobs, job, lambda state: state.status == "failed")
    assert state.message == "its process died; given up after 3 attempts in a row without progress"
