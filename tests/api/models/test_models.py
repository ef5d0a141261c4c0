"""Models by the real client, with a real registry: what is listed, who owns a name, and what deleting does."""

import json
import subprocess
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from api.database.team_lock import team_lock
from api.jobs.job_place import JobState, Status
from api.jobs.job_record import JobRecord
from api.machine.machine_jobs import MachineJobs
from api.models import model_owners
from api.openai_errors import ApiError
from presets.model_preset import model_presets
from steps.common.machine import servers
from steps.common.registry import tracking, versions, withdrawn
from steps.rollout.lease.machine_lease import machine_lease
from steps.rollout.lease.right import Purpose
from tests.support.golden import register_golden
from tests.support.running_api import RunningApi, running_api

NAME = "pets-chat"
BASES = {name for name, preset in model_presets().items() if not preset.cannot_be_tuned}


class OneJob(MachineJobs):
    """This machine's jobs, which are one of a status that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.status: Status = "succeeded"

    def jobs(self, team: str) -> list[JobRecord]:
        job = JobRecord(
            id="ftjob-1",
            run="run-1",
            team="pets",
            created_at=1,
            model="base",
            name=NAME,
            training_file="file-1",
            method={"type": "supervised"},
            seed=1,
        )
        return [job] if team == "pets" else []

    def state(self, job: JobRecord) -> JobState:
        return JobState(self.status)


@pytest.fixture
def job() -> OneJob:
    return OneJob()


@pytest.fixture
def api(tmp_path: Path, job: OneJob) -> Iterator[RunningApi]:
    with running_api(tmp_path, jobs=job) as running:
        running.key("pets")
        running.key("rivals")
        yield running
    for name in servers.names():
        servers.stop(name)


def claim(
    api: RunningApi, name: str = NAME, team: str = "pets", most: int | None = None, unfinished: Collection[str] = ()
) -> None:
    with team_lock(api.services.sessions, team), api.services.sessions() as session:
        model_owners.claim(session, team, name, most, unfinished)


def taken(api: RunningApi, name: str = NAME, team: str = "rivals", most: int | None = None, *others: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        claim(api, name, team, most, others)
    return caught.value


def register(name: str = NAME, sha256: str = "a" * 64) -> int:
    return register_golden(name, tags={versions.ADAPTER_SHA256: sha256})


def served(name: str = NAME, version: int = 1) -> list[psutil.Process]:
    """Let two processes stand for a model's gateway and its server, as the records of this machine have them."""
    found = []
    for kind in ("gateway", "server"):
        process = subprocess.Popen(["sleep", "600"])
        one = psutil.Process(process.pid)
        record = servers.Process(pid=one.pid, started=one.create_time(), port=8361)
        if kind == "gateway":
            servers.remember(
                servers.Gateway(name=name, host="127.0.0.1", folder="/gone", admin="/gone/a", process=record)
            )
        else:
            servers.remember(
                servers.Server(
                    name=name, version=version, run="run", base="b", adapter_sha256="a", folder="f", process=record
                )
            )
        found.append(one)
    return found


def store() -> Any:
    return tracking.client(tracking.default_uri())


def tuned(api: RunningApi, team: str = "pets") -> list[Any]:
    return [one for one in api.client(team).models.list() if one.id not in BASES]


def test_bases_that_can_be_tuned_are_listed(api: RunningApi) -> None:
    found = api.client().models.list().data
    assert {one.id for one in found} == BASES
    assert {(one.object, one.owned_by) for one in found} == {("model", "system")}
    base = next(iter(BASES))
    assert api.client().models.retrieve(base).id == base


def test_a_tuned_model_is_listed_for_its_team_once_it_has_a_version(api: RunningApi) -> None:
    claim(api)
    assert tuned(api) == []
    with pytest.raises(openai.NotFoundError):
        api.client().models.retrieve(NAME)
    assert register() == 1
    found = api.client().models.retrieve(NAME)
    assert (found.id, found.owned_by, found.object) == (NAME, "pets", "model")
    assert found.created > 1_600_000_000
    assert (found.version, found.served) == (1, False)  # type: ignore[attr-defined]
    assert tuned(api) == [found]
    store().set_registered_model_alias(NAME, versions.CHAMPION, 1)
    register(sha256="b" * 64)
    assert api.client().models.retrieve(NAME).version == 1  # type: ignore[attr-defined]  # the champion, not the latest
    served(version=2)
    now: Any = api.client().models.retrieve(NAME)
    assert (now.version, now.served) == (2, True)


def test_another_team_neither_sees_nor_deletes_a_model(api: RunningApi) -> None:
    claim(api)
    register()
    client = api.client("rivals")
    assert tuned(api, "rivals") == []
    for call in (client.models.retrieve, client.models.delete):
        told = set()
        for name in (NAME, "nobodys-model"):
            with pytest.raises(openai.NotFoundError) as caught:
                call(name)
            told.add(json.dumps(caught.value.body).replace(name, "NAME"))
        assert len(told) == 1
    assert api.client().models.retrieve(NAME).id == NAME


def test_a_deleted_model_is_withdrawn_and_stopped_and_its_name_stays_the_teams(api: RunningApi) -> None:
    claim(api)
    register()
    register(sha256="b" * 64)
    store().set_registered_model_alias(NAME, versions.CHAMPION, 2)
    store().set_registered_model_alias(NAME, versions.CANDIDATE, 2)
    processes = served(version=2)
    gone = api.client().models.delete(NAME)
    assert (gone.id, gone.deleted, gone.object) == (NAME, True, "model")
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert api.services.addresses.url(NAME) is None
    for version in store().search_model_versions(f"name = '{NAME}'"):
        found = withdrawn.withdrawal(version)
        assert found is not None
        assert found.by == "team pets"
        assert "the model was deleted" in found.why
    assert versions.version_at(store(), NAME, versions.CHAMPION) is None
    assert versions.version_at(store(), NAME, versions.CANDIDATE) is None
    assert versions.champion_before(store(), NAME) is None
    assert tuned(api) == []
    for call in (api.client().models.retrieve, api.client().models.delete):
        with pytest.raises(openai.NotFoundError):
            call(NAME)
    assert taken(api).status == 409
    claim(api)
    assert register(sha256="c" * 64) == 3
    assert [one.version for one in tuned(api)] == [3]


def test_a_model_without_a_version_is_deleted_too(api: RunningApi) -> None:
    claim(api)
    assert api.client().models.delete(NAME).deleted
    assert not (Path(tracking.default_uri().removeprefix("sqlite:///"))).exists()


@pytest.mark.parametrize("status", ["validating_files", "queued", "running", "paused"])
def test_a_model_that_a_job_is_tuning_is_not_deleted(api: RunningApi, job: OneJob, status: Status) -> None:
    claim(api)
    register()
    job.status = status
    with pytest.raises(openai.ConflictError, match="ftjob-1 is tuning pets-chat"):
        api.client().models.delete(NAME)
    assert [one.id for one in tuned(api)] == [NAME]
    for ended in ("cancelled", "failed", "succeeded"):
        job.status = ended
    assert api.client().models.delete(NAME).deleted


def test_a_model_that_is_being_rolled_out_is_deleted_after_that(api: RunningApi) -> None:
    claim(api)
    register()
    with machine_lease(NAME, Purpose.ROLLOUT, 1), pytest.raises(openai.ConflictError, match="is being rolled out"):
        api.client().models.delete(NAME)
    assert api.client().models.delete(NAME).deleted


def test_a_base_is_not_deleted(api: RunningApi) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="base model"):
        api.client().models.delete(next(iter(BASES)))


def test_a_name_belongs_to_the_team_that_had_it_first(api: RunningApi) -> None:
    claim(api)
    claim(api)
    error = taken(api)
    assert (error.status, error.param, error.code) == (409, "suffix", "name_taken")


def test_names_of_bases_and_of_models_that_others_have_made_here_are_taken(api: RunningApi) -> None:
    base = next(name for name in BASES if "." not in name)
    assert taken(api, base).status == 409
    register("store")
    assert taken(api, "store").status == 409
    with pytest.raises(openai.NotFoundError):
        api.client("rivals").models.retrieve("store")


def test_a_team_owns_as_many_models_as_it_may(api: RunningApi) -> None:
    claim(api, "pets-a", most=2)
    register("pets-a")
    claim(api, "pets-b", most=2)
    claim(api, "pets-b", most=2, unfinished=["pets-b"])
    assert taken(api, "pets-c", "pets", 2, "pets-b").status == 429
    assert api.client().models.delete("pets-a").deleted
    claim(api, "pets-c", most=2, unfinished=["pets-b"])
    assert taken(api, "pets-a", "pets", 2, "pets-b", "pets-c").status == 429
    with api.services.sessions() as session:
        assert {one.name for one in model_owners.owned(session, "pets")} == {"pets-b", "pets-c"}


def test_a_name_without_a_version_counts_only_as_long_as_a_job_may_make_one(api: RunningApi) -> None:
    for name in ("pets-a", "pets-b"):
        claim(api, name, most=1)  # both jobs have failed
    claim(api, "pets-c", most=1)
    register("pets-c")
    claim(api, "pets-c", most=1)  # its next version
    for name in ("pets-a", "pets-d"):
        error = taken(api, name, "pets", 1)
        assert (error.status, error.code) == (429, "model_limit_exceeded")
    assert "owns 1 models, and its limit is 1" in str(error)


def test_claims_at_the_same_time_share_no_name(api: RunningApi) -> None:
    def attempt(number: int) -> str:
        team = ("pets", "rivals")[number % 2]
        name = f"shared-{number // 2}"
        try:
            claim(api, name, team)
        except ApiError as error:
            return str(error.status)
        return name

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(attempt, range(40)))
    won = [one for one in told if one != "409"]
    assert sorted(won) == sorted({f"shared-{number}" for number in range(20)})
    with api.services.sessions() as session:
        assert sum(len(model_owners.owned(session, team)) for team in ("pets", "rivals")) == 20


def test_a_deleted_model_that_is_still_served_is_deleted_again(api: RunningApi) -> None:
    claim(api)
    register()
    api.client().models.delete(NAME)
    processes = served()  # as if a cluster's run had not stopped it
    with pytest.raises(openai.NotFoundError):
        api.client("rivals").models.delete(NAME)
    assert api.client().models.delete(NAME).deleted
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    with pytest.raises(openai.NotFoundError):
        api.client().models.delete(NAME)
