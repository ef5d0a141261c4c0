"""Jobs by the real client against a real server; their runs are what the tests say."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from api.database.team_lock import team_lock
from api.files.team_files import RESULTS
from api.jobs.job_record import JobRecord
from api.server.job_routes import REPEATED_SECONDS
from api.teams.caller import Limits
from api.teams.teams import set_limits
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote
from steps.common.storage import volumes
from tests.support.commands import wait_for
from tests.support.running_api import RunningApi, running_api
from tests.support.stated_jobs import StatedJobs, a_quote, a_report

ROW = {"messages": [{"role": "user", "content": "are you open"}, {"role": "assistant", "content": "yes"}]}
LINES = b"".join(json.dumps(ROW | {"id": number}).encode() + b"\n" for number in range(4))


@pytest.fixture
def place() -> StatedJobs:
    return StatedJobs(a_quote(cost=4.0))


@pytest.fixture
def api(tmp_path: Path, place: StatedJobs) -> Iterator[RunningApi]:
    with running_api(tmp_path, jobs=place) as running:
        yield running


def upload(client: openai.OpenAI, lines: bytes = LINES) -> str:
    return client.files.create(file=("chats.jsonl", lines), purpose="fine-tune").id


def create(client: openai.OpenAI, **given: Any) -> Any:
    given = {"model": "smollm2-135m-instruct", "suffix": "shop", **given}
    return client.fine_tuning.jobs.create(
        **{"training_file": given.pop("training_file", None) or upload(client), **given}
    )


def limit(api: RunningApi, **limits: Any) -> None:
    """Give the team these limits and no others."""
    api.key("pets")
    with api.services.sessions.begin() as session:
        set_limits(session, "pets", Limits(**limits))


def test_a_job_is_created_with_its_recipe(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    training, held_out = upload(client), upload(client, LINES + LINES.replace(b"yes", b"no"))
    job = create(
        client,
        training_file=training,
        validation_file=held_out,
        seed=5,
        metadata={"why": "test"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 2}}},
        extra_body={"recipe": {"tune": {"rank": 4}}},
    )
    assert job.id.startswith("ftjob-pets-shop-")
    assert (job.status, job.model, job.seed, job.metadata) == ("queued", "smollm2-135m-instruct", 5, {"why": "test"})
    assert (job.training_file, job.validation_file, job.fine_tuned_model) == (training, held_out, None)
    assert job.method.supervised.hyperparameters.n_epochs == 3
    (recipe,) = place.recipes.values()
    assert (recipe.name, recipe.tune.epochs, recipe.tune.rank, recipe.tune.seed) == ("pets-shop", 3, 4, 5)
    assert 8 <= recipe.tune.batch_tokens < 200  # two short rows
    for address in (recipe.data.train, recipe.data.validation):
        assert isinstance(address, str)
        assert Path(address).is_relative_to(volumes.runs())
        assert Path(address).is_file()
    (record,) = place.kept.values()
    assert (record.files, record.quoted_dollars) == ([training, held_out], 4.0)
    assert record.quote.startswith("about 1 minute and $4.00; 5356 tokens in 42 steps on g6.xlarge")
    assert client.fine_tuning.jobs.retrieve(job.id) == job


@pytest.mark.parametrize(
    ("given", "status", "param"),
    [
        ({"training_file": "file-nobodys"}, 404, "training_file"),
        ({"validation_file": "file-nobodys"}, 404, "validation_file"),
        ({"model": "gpt-4o-mini"}, 400, "model"),
        ({"model": "file:///etc"}, 400, "model"),
        ({"suffix": "!"}, 400, "suffix"),
        ({"method": {"type": "reinforcement"}}, 400, "method"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, 400, "integrations"),
        ({"extra_body": {"recipe": {"serve": {"port": 80}}}}, 400, "recipe.serve.port"),
        ({"extra_body": {"recipe": {"data": {"train": "/etc/passwd"}}}}, 400, "recipe.data.train"),
        ({"extra_body": {"priority": 1}}, 400, "priority"),
        ({"metadata": {"a": 1}}, 400, "metadata.a"),
    ],
)
def test_a_wrong_request_makes_no_job(
    api: RunningApi, place: StatedJobs, given: dict[str, Any], status: int, param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        create(api.client(), **given)
    assert (raised.value.status_code, raised.value.param) == (status, param)
    assert not place.kept
    with api.services.sessions() as session:
        from api.models.model_owners import owned

        assert not owned(session, "pets")


def test_a_mistake_that_the_plan_finds_names_the_field(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    training = upload(client)
    content = volumes.sent_data("0" * 16)
    with api.services.sessions() as session:
        from api.files.team_files import find

        content = Path(api.services.contents.address(find(session, "pets", training)))
    for mistake, message, param in (
        (f"{content}:3: message 2 has no content", f"{training}:3: message 2 has no content", "training_file"),
        ("compute.max_cost: it would cost $3", "compute.max_cost: it would cost $3", "recipe.compute.max_cost"),
        ("model hf://a/b: has no config.json", "model hf://a/b: has no config.json", "model"),
    ):
        place.mistake = mistake
        with pytest.raises(openai.BadRequestError) as raised:
            create(client, training_file=training)
        assert raised.value.body["message"] == message  # type: ignore[index]
        assert raised.value.param == param


def test_a_result_file_is_not_trained_on(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    job = create(client)
    place.say(job.id, "succeeded", report=a_report(), version=1)
    (result,) = client.fine_tuning.jobs.retrieve(job.id).result_files
    assert client.files.retrieve(result).purpose == RESULTS
    assert client.files.content(result).text.startswith("step,train_loss,train_accuracy,")
    with pytest.raises(openai.BadRequestError, match="purpose") as raised:
        create(client, training_file=result)
    assert raised.value.param == "training_file"


def test_the_list_is_paged_and_filtered(api: RunningApi) -> None:
    client = api.client()
    training = upload(client)
    jobs = [
        create(client, training_file=training, suffix=f"s{number}", metadata=metadata)
        for number, metadata in enumerate([{"team": "a", "x": ""}, {"team": "b"}, None, {"team": "a"}])
    ]
    ids = [job.id for job in reversed(jobs)]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=1)] == ids
    page = client.fine_tuning.jobs.list(limit=3)
    assert ([job.id for job in page.data], page.has_more) == (ids[:3], True)
    assert [job.id for job in client.fine_tuning.jobs.list(after=ids[2]).data] == ids[3:]
    found = [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "a"})]
    assert found == [ids[0], ids[3]]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "a", "x": ""})] == [ids[3]]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={})] == ids
    assert [job.id for job in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})] == [ids[1]]
    for query in ({"metadata": "x"}, {"metadata": "null", "metadata[a]": "b"}):
        with pytest.raises(openai.BadRequestError) as raised:
            client.fine_tuning.jobs.list(extra_query=query)
        assert raised.value.param == "metadata"


def test_events_and_checkpoints_are_paged(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    job = create(client)
    place.say(job.id, "succeeded", report=a_report(), version=1, finished=time.time() + 5)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert events[0].message == "The job has successfully completed: pets-shop"
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    assert len({event.id for event in events}) == len(events) > 4
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.fine_tuned_model_checkpoint == "pets-shop"


def test_a_job_is_steered_and_each_request_may_be_repeated(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    job = create(client)
    steer = client.fine_tuning.jobs
    assert steer.resume(job.id).status == "queued"  # nothing to resume
    for act, status in ((steer.pause, "paused"), (steer.resume, "queued"), (steer.cancel, "cancelled")):
        assert [act(job.id).status for _ in range(2)] == [status] * 2
    assert [wanted for _, wanted in place.kept[job.id].wishes] == ["pause", "run", "cancel"]
    for act in (steer.pause, steer.resume):
        with pytest.raises(openai.BadRequestError, match="has been cancelled"):
            act(job.id)
    other = create(client)
    place.say(other.id, "succeeded", version=1)
    for act in (steer.cancel, steer.pause, steer.resume):
        with pytest.raises(openai.BadRequestError, match="has succeeded"):
            act(other.id)


def test_another_teams_job_is_as_one_that_does_not_exist(api: RunningApi) -> None:
    ours, theirs = api.client("pets"), api.client("cars")
    training = upload(ours)
    job = create(ours, training_file=training)
    nobodys = f"{job.id[:-12]}{'0' * 12}"
    steer = theirs.fine_tuning.jobs
    for act in (
        steer.retrieve,
        steer.cancel,
        steer.pause,
        steer.resume,
        lambda one: steer.list_events(one),
        lambda one: steer.checkpoints.list(one),
    ):
        said = []
        for one in (job.id, nobodys):
            with pytest.raises(openai.NotFoundError) as raised:
                act(one)
            said.append(json.dumps(raised.value.body).replace(one, "ID"))
        assert said[0] == said[1]
    assert list(steer.list()) == []
    with pytest.raises(openai.NotFoundError) as raised:
        create(theirs, training_file=training)
    assert raised.value.param == "training_file"
    assert ours.fine_tuning.jobs.retrieve(job.id).status == "queued"


@pytest.mark.parametrize("job_id", ["ftjob-..", "ftjob-%2e%2e%2fpets", "x", "ftjob-" + "a" * 300, "ftjob-A"])
def test_an_id_that_is_none_is_not_found(api: RunningApi, job_id: str) -> None:
    answer = httpx2.get(f"{api.url}/fine_tuning/jobs/{job_id}", headers={"Authorization": f"Bearer {api.key('pets')}"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("job_not_found", "unknown_url")


def test_a_model_of_another_team_is_not_taken(api: RunningApi, place: StatedJobs) -> None:
    create(api.client("pets"), suffix="shop-a")
    with pytest.raises(openai.ConflictError) as raised:
        create(api.client("pets-shop"), suffix="a")
    assert raised.value.param == "suffix"
    assert len(place.kept) == 1


def test_limits_are_kept(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    training = upload(client)
    limit(api, dollars_a_month=10.0, jobs_at_once=2, models=5)
    first, _ = (create(client, training_file=training, suffix=f"s{number}") for number in range(2))
    assert [recipe.compute.max_cost for recipe in place.recipes.values()] == [10.0, 6.0]
    with pytest.raises(openai.RateLimitError, match=r"the team has 2 queued and running jobs"):
        create(client, training_file=training)
    client.fine_tuning.jobs.pause(first.id)
    with pytest.raises(openai.RateLimitError, match=r"quoted at \$4.00 on g6.xlarge.*\$2.00 left of its") as raised:
        create(client, training_file=training)
    assert raised.value.code == "insufficient_quota"
    place.given = a_quote(cost=2.0)
    create(client, training_file=training)
    with pytest.raises(openai.RateLimitError, match=r"the team has 2 queued and running jobs"):
        client.fine_tuning.jobs.resume(first.id)
    place.costs[first.id] = 7.0
    limit(api, dollars_a_month=10.0)
    with pytest.raises(openai.RateLimitError, match=r"is \$3.00 above its \$10.00"):
        client.fine_tuning.jobs.resume(first.id)
    assert not place.budgets
    limit(api, dollars_a_month=14.0)
    client.fine_tuning.jobs.resume(first.id)
    assert place.budgets == {first.id: 8.0}
    limit(api, models=3)
    place.given = a_quote()
    create(client, training_file=training)  # the next version of a model that it owns
    with pytest.raises(openai.RateLimitError, match=r"owns 3 models") as raised:
        create(client, training_file=training, suffix="fourth")
    assert raised.value.code == "model_limit_exceeded"


def test_a_job_that_failed_takes_no_place_among_the_models(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    training = upload(client)
    limit(api, models=1)
    job = create(client, training_file=training, suffix=None)
    with pytest.raises(openai.RateLimitError, match=r"owns 1 models"):
        create(client, training_file=training, suffix=None)
    place.say(job.id, "failed", refused=True)
    create(client, training_file=training, suffix=None)


class SlowJobs(StatedJobs):
    """Jobs whose plan takes a moment."""

    def quote(self, recipe: Recipe) -> Quote | None:
        time.sleep(0.3)
        return super().quote(recipe)


class HeldJobs(StatedJobs):
    """Jobs whose plans end when a test says so."""

    def __init__(self, quote: Quote | None = None) -> None:
        super().__init__(quote)
        self.end = threading.Event()

    def quote(self, recipe: Recipe) -> Quote | None:
        found = super().quote(recipe)
        self.end.wait()
        return found


def test_plans_wait_for_each_other_and_nothing_else_waits_for_them(tmp_path: Path) -> None:
    place = HeldJobs(a_quote())
    with running_api(tmp_path, jobs=place) as api, ThreadPoolExecutor(4) as threads:
        client = api.client()
        training = upload(client)
        sent = [threads.submit(create, client, training_file=training, suffix=f"s{number}") for number in range(4)]
        wait_for(lambda: api.services.plans.waiting == 2, 120)
        assert client.fine_tuning.jobs.list().data == []
        assert place.quoted == 2
        place.end.set()
        assert len({one.result().id for one in sent}) == 4 == len(place.kept)


def test_a_file_that_is_deleted_while_its_job_is_planned_is_missed(tmp_path: Path) -> None:
    class DeletedMeanwhile(StatedJobs):
        def quote(self, recipe: Recipe) -> Quote | None:
            client.files.delete(training)
            return super().quote(recipe)

    place = DeletedMeanwhile(a_quote())
    with running_api(tmp_path, jobs=place) as api:
        client = api.client()
        training = upload(client)
        with pytest.raises(openai.NotFoundError) as raised:
            create(client, training_file=training)
        assert raised.value.param == "training_file"
    assert not place.kept


def test_a_file_that_is_deleted_while_its_job_is_created_keeps_its_content(tmp_path: Path) -> None:
    class DeletedMeanwhile(StatedJobs):
        def create(self, job: JobRecord, recipe: Recipe) -> None:
            deleting.start()
            wait_for(lambda: not client.files.list().data, 120)
            deleting.join(1)  # as long as a deletion takes that does not wait for the job
            super().create(job, recipe)
            assert Path(str(recipe.data.train)).is_file()

    place = DeletedMeanwhile(a_quote())
    with running_api(tmp_path, jobs=place) as api:
        client = api.client()
        training = upload(client)
        deleting = threading.Thread(target=client.files.delete, args=(training,))
        create(client, training_file=training)
        deleting.join(30)
        (recipe,) = place.recipes.values()
        assert Path(str(recipe.data.train)).is_file()


def test_a_job_needs_each_file_of_a_task(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    files = [upload(client, LINES + b" " * number) for number in range(3)]
    tasks = [{"metric": "exact", "data": files[1:]}]
    create(client, training_file=files[0], extra_body={"recipe": {"evaluate": {"tasks": tasks}}})
    (record,) = place.kept.values()
    assert record.files == files


def test_requests_at_the_same_time_do_not_pass_the_limit_together(tmp_path: Path) -> None:
    place = SlowJobs(a_quote(cost=4.0))
    with running_api(tmp_path, jobs=place) as api:
        limit(api, dollars_a_month=9.0)
        client = api.client()
        training = upload(client)

        def attempt(number: int) -> int:
            try:
                create(client, training_file=training, suffix=f"s{number}")
            except openai.RateLimitError:
                return 429
            return 200

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(attempt, range(4))) == [200, 200, 429, 429]
    assert len(place.kept) == 2


def test_changes_that_wait_for_their_teams_lock_hold_up_no_other_team(api: RunningApi, place: StatedJobs) -> None:
    ours, theirs = api.client("pets"), api.client("cars")
    training = upload(ours)
    job, other = create(ours, training_file=training), create(theirs)
    with ThreadPoolExecutor(4) as threads:
        with team_lock(api.services.sessions, "pets"):
            sent = [threads.submit(ours.fine_tuning.jobs.resume, job.id) for _ in range(4)]
            wait_for(lambda: api.services.changes.refusal("pets") is not None, 120)
            for act in (
                lambda: ours.models.delete("pets-shop"),
                lambda: create(ours, training_file=training),
                lambda: ours.fine_tuning.jobs.resume(job.id),
            ):
                with pytest.raises(
                    openai.InternalServerError, match="4 changes to jobs and models of the team"
                ) as raised:
                    act()
                assert (raised.value.status_code, raised.value.code) == (503, "overloaded")
            assert theirs.fine_tuning.jobs.resume(other.id).status == "queued"
        assert [one.result().status for one in sent] == ["queued"] * 4
    assert len(place.kept) == 2


def test_a_key_of_its_own_makes_one_job_of_many_requests(tmp_path: Path) -> None:
    place = SlowJobs(a_quote())
    with running_api(tmp_path, jobs=place) as api:
        client = api.client()
        training = upload(client)
        headers = {"Idempotency-Key": "nightly"}

        def again(_: int) -> str:
            return str(create(client, training_file=training, suffix=None, extra_headers=headers).id)

        with ThreadPoolExecutor(4) as threads:
            ids = set(threads.map(again, range(4)))
        assert len(ids) == 1 == len(place.kept)
        assert place.quoted <= 4
        with pytest.raises(openai.ConflictError) as raised:
            create(client, training_file=training, suffix="other", extra_headers=headers)
        assert raised.value.code == "idempotency_key_reused"
        assert create(client, training_file=training, extra_headers={"Idempotency-Key": "other"}).id not in ids
        other = api.client("cars")
        assert create(other, extra_headers=headers).id not in ids


class DroppedAnswers:
    """An ASGI application that does the work of the first `times` creations, and then drops the connection."""

    def __init__(self, app: Any, times: int) -> None:
        self.app, self.left, self.lock = app, times, threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        drops = False
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/fine_tuning/jobs"):
            with self.lock:
                drops, self.left = self.left > 0, self.left - 1

        async def silent(_: Any) -> None:
            """Send nothing."""

        await self.app(scope, receive, silent if drops else send)
        if drops:
            raise ConnectionAbortedError


def test_a_client_that_lost_the_answer_gets_the_job_that_it_made(
    tmp_path: Path, place: StatedJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.server import application

    made = application.create_app
    monkeypatch.setattr(
        "tests.support.running_api.create_app",
        lambda *given: DroppedAnswers(made(*given), 2),
    )
    with running_api(tmp_path, jobs=place) as api:
        client = api.client().with_options(max_retries=3)
        training = upload(client)
        job = create(client, training_file=training)
        assert list(place.kept) == [job.id]
        # The same request anew is a new job, and an old one is not the same any more.
        again = create(client, training_file=training)
        assert len(place.kept) == 2
        for one in (job, again):
            place.kept[one.id] = place.kept[one.id].model_copy(
                update={"created_at": int(time.time()) - REPEATED_SECONDS - 5}
            )
        headers = {"x-stainless-retry-count": "1"}
        assert create(client, training_file=training, extra_headers=headers).id not in (job.id, again.id)


def test_a_job_has_the_state_that_its_run_has(api: RunningApi, place: StatedJobs) -> None:
    client = api.client()
    job = create(client)
    place.states[job.id] = replace(place.states[job.id], status="running", started=time.time())
    running = client.fine_tuning.jobs.retrieve(job.id)
    assert running.status == "running"
    assert running.estimated_finish
    assert running.estimated_finish > time.time() + 30
    refused = a_report().model_copy(update={"passed": False, "reasons": ["worse than version 3"]})
    place.say(job.id, "failed", refused=True, report=refused)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.error
    assert failed.error.message == "the gate refused the candidate: worse than version 3"
    assert failed.fine_tuned_model is None
