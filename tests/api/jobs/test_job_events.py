"""Events of a job: what they say, in which order, and that they stay the same."""

import itertools
from dataclasses import replace

from openai.types.fine_tuning import FineTuningJobEvent as Theirs

from api.jobs.job_events import FineTuningJobEvent, events_of, quote_in_words
from api.jobs.job_place import JobState, Measurement
from api.jobs.job_record import JobRecord
from pipelines.shown.task_state import REUSED, Phase, TaskState
from tests.support.stated_jobs import NOW, a_job, a_quote, a_report


def messages(job: JobRecord, state: JobState) -> list[str]:
    """Return what the events say, the oldest first."""
    return [event.message for event in reversed(events_of(job, state))]


def task(phase: Phase, message: str = "", exit_code: int = 0) -> tuple[TaskState, str]:
    return TaskState(
        phase=phase, seconds=60.0 if phase is not Phase.SKIPPED else 0, message=message, exit_code=exit_code
    ), ""


def whole_run() -> list[JobState]:
    """Return the states of a job from its creation to its success, each later than the one before."""
    done, runs = Phase.SUCCEEDED, Phase.RUNNING
    queued = JobState("queued", quote=a_quote(cost=4.2))
    planning = replace(
        queued, status="running", started=NOW + 10.2, tasks={"plan": task(runs)}, times={"plan": (NOW + 10.5, 0.0)}
    )
    tuning = replace(
        planning,
        tasks={"plan": task(done), "provision": task(done), "tune": task(runs)},
        times={"plan": (NOW + 10.5, NOW + 20.0), "provision": (NOW + 20.1, NOW + 80.0), "tune": (NOW + 80.5, 0.0)},
        node="node-7 (g6.xlarge)",
        measurements=(Measurement(0, NOW + 90.0, None, 5.77), Measurement(1, NOW + 91.0, 5.72)),
    )
    tuned = replace(
        tuning,
        tasks={**tuning.tasks, "tune": task(done), "evaluate": task(runs)},
        times={**tuning.times, "tune": (NOW + 80.5, NOW + 200.0), "evaluate": (NOW + 200.1, 0.0)},
        measurements=(*tuning.measurements, Measurement(10, NOW + 199.0, 5.43, 5.41)),
    )
    ended = replace(
        tuned,
        status="succeeded",
        tasks={**tuned.tasks, "evaluate": task(done), "register": task(done), "rollout": task(done)},
        times={
            **tuned.times,
            "evaluate": (NOW + 200.1, NOW + 300.0),
            "register": (NOW + 300.1, NOW + 301.0),
            "rollout": (NOW + 301.1, NOW + 400.0),
        },
        report=a_report(),
        version=2,
        url="http://127.0.0.1:8360",
        finished=NOW + 401.0,
    )
    return [queued, planning, tuning, tuned, ended]


def test_they_tell_the_whole_story() -> None:
    told = messages(a_job(quote=quote_in_words(a_quote(cost=4.2))), whole_run()[-1])
    assert told[0] == "Created fine-tuning job: ftjob-pets-shop-0123456789ab"
    assert told[1].startswith("Quote: about 1 minute and $4.20; 5356 tokens in 42 steps on g6.xlarge")
    assert told[2:8] == [
        "Fine-tuning job queued",
        "Fine-tuning job started",
        "Step plan: started",
        "Step plan: done after 1m00s",
        "Step provision: started",
        "Node: node-7 (g6.xlarge)",
    ]
    assert told[8:15] == [
        "Step provision: done after 1m00s",
        "Step tune: started",
        "Step 0: validation loss=5.7700",
        "Step 1: training loss=5.7200",
        "Step 10: training loss=5.4300, validation loss=5.4100",
        "Step tune: done after 1m00s",
        "Step evaluate: started",
    ]
    gate = [message for message in told if message.startswith("Gate: ")]
    assert gate == ["Gate: passed", *(f"Gate: {reason}" for reason in a_report().reasons)]
    assert told[-3:] == [
        "Step rollout: done after 1m00s",
        "Rolled out: pets-shop, version 2, is served",
        "The job has successfully completed: pets-shop",
    ]
    assert "Registered: pets-shop, version 2" in told


def test_they_are_openais_the_newest_first() -> None:
    events = events_of(a_job(), whole_run()[-1])
    assert [event.created_at for event in events] == sorted((event.created_at for event in events), reverse=True)
    assert len({event.id for event in events}) == len(events)
    assert set(Theirs.model_fields) == set(FineTuningJobEvent.model_fields)
    for event in events:
        Theirs.model_validate(event.model_dump())
        assert event.id.startswith("ftevent-")
        assert (event.type == "metrics") is (event.data is not None)
    measured = [event.data for event in reversed(events) if event.data]
    assert measured == [
        {"step": 0, "valid_loss": 5.77},
        {"step": 1, "train_loss": 5.72},
        {"step": 10, "train_loss": 5.43, "valid_loss": 5.41},
    ]


def test_a_later_state_adds_events_and_changes_none() -> None:
    job = a_job(quote="about a minute")
    for earlier, later in itertools.pairwise(whole_run()):
        before, after = events_of(job, earlier), events_of(job, later)
        assert before == events_of(job, earlier)
        assert [event for event in after if event in before] == before
        assert len(after) > len(before)
        # What is new is newer: a client that pages from the newest misses nothing.
        assert after[-len(before) :] == before


def test_a_quote_of_the_run_itself_is_told_when_its_plan_has_ended() -> None:
    (event,) = [one for one in events_of(a_job(), whole_run()[-1]) if one.message.startswith("Quote")]
    assert event.created_at == NOW + 20
    assert "no dollars, since nothing is bought" in quote_in_words(a_quote())


def test_a_refusal_is_told_with_each_reason() -> None:
    report = a_report().model_copy(update={"passed": False, "reasons": ["worse than version 3", "task: 1.0%"]})
    tasks = {"evaluate": task(Phase.FAILED, "ended with exit code 3", 3)}
    times = {"evaluate": (NOW + 1.0, NOW + 2.0)}
    state = JobState("failed", refused=True, report=report, tasks=tasks, times=times, finished=NOW + 3.0)
    told = messages(a_job(), state)
    assert told[-5:] == [
        "Step evaluate: refused after 1m00s: ended with exit code 3",
        "Gate: refused",
        "Gate: worse than version 3",
        "Gate: task: 1.0%",
        "The job failed: the gate refused the candidate: worse than version 3; task: 1.0%",
    ]
    assert {event.level for event in events_of(a_job(), state)[:5]} == {"error"}


def test_a_failure_names_no_path_of_the_server() -> None:
    training = f"file-{'a' * 16}{'1' * 16}"
    why = "/runs/data/aaaaaaaaaaaaaaaa/uploaded.jsonl:17: message 2 (assistant) has no content"
    tasks = {"prepare": task(Phase.FAILED, why, 2)}
    state = JobState(
        "failed", message=f"prepare: {why}", tasks=tasks, times={"prepare": (NOW + 1.0, NOW + 2.0)}, finished=NOW + 3.0
    )
    told = messages(a_job(files=[training]), state)
    assert told[-2:] == [
        f"Step prepare: failed after 1m00s: {training}:17: message 2 (assistant) has no content",
        f"The job failed: prepare: {training}:17: message 2 (assistant) has no content",
    ]


def test_what_was_asked_for_stays_after_it_was_taken_back() -> None:
    job = a_job()
    for at, wanted in ((NOW + 5, "pause"), (NOW + 9, "run"), (NOW + 12, "cancel")):
        job = job.wanting(wanted, at)  # type: ignore[arg-type]
    told = messages(job, JobState("cancelled", finished=NOW + 13.0))
    assert told[2:] == ["Pause asked for", "Resumption asked for", "Cancellation asked for", "The job was cancelled"]
    paused = a_job().wanting("pause", NOW + 5)
    assert messages(paused, JobState("paused"))[-1] == "Paused: the checkpoint is kept"
    assert paused.wanting("pause", NOW + 8) == paused


def test_steps_that_did_not_run_are_not_told_of() -> None:
    tasks = {
        "approve": task(Phase.SKIPPED),
        "tune": task(Phase.OMITTED),
        "pull": task(Phase.SUCCEEDED, REUSED),
        "plan": task(Phase.INTERRUPTED),
    }
    times = dict.fromkeys(tasks, (NOW + 1.0, NOW + 2.0))
    told = [one for one in messages(a_job(), JobState("running", tasks=tasks, times=times)) if one.startswith("Step")]
    assert told == ["Step plan: started", "Step plan: stopped after 1m00s"]


def test_a_step_that_is_run_again_has_events_of_its_own() -> None:
    def ids(start: float) -> set[str]:
        state = JobState("running", tasks={"tune": task(Phase.RUNNING)}, times={"tune": (start, 0.0)})
        return {event.id for event in events_of(a_job(), state) if event.message == "Step tune: started"}

    assert ids(NOW + 1.0) != ids(NOW + 50.0)


def test_a_loss_that_is_not_a_number_is_none_in_the_data() -> None:
    state = JobState("running", measurements=(Measurement(3, NOW + 1.0, float("nan"), float("inf")),))
    event = events_of(a_job(), state)[0]
    assert (event.data, event.message) == ({"step": 3}, "Step 3: no loss that is a number")
