"""The jobs of a cluster: each is a Workflow of the installed template, or a chain of them if it was paused."""

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from api.cluster.cluster_quote import cluster_quote
from api.cluster.job_archive import JobArchive
from api.cluster.job_ledger import bought, continued, dollars, is_final, with_present
from api.cluster.job_workflow import (
    JOB_LABEL,
    OF_THE_API,
    RECORD,
    TUNING,
    attempt_of,
    check_is_of,
    name_of,
    new_workflow,
    parameters_of,
    record_of,
    selector,
)
from api.cluster.workflow_state import (
    SUCCEEDED,
    has_ended,
    job_state,
    main_phase,
    tuning_folder,
    with_nodes,
)
from api.jobs.job_place import ENDED, JobState, Spent
from api.jobs.job_record import JobRecord, Wanted, run_of
from pipelines.workflows.parameters import as_text
from recipes.recipe import Recipe
from steps.common.handover import installation
from steps.common.handover.resolved import Quote
from steps.common.kubernetes.api_errors import ConflictError
from steps.common.kubernetes.workflow_objects import WORKFLOWS
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError, first_line
from steps.common.storage import volumes

LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
# Argo writes a Workflow several times a second while its steps start.
TRIES, PAUSE_SECONDS = 20, 0.2
MOST_REMEMBERED = 128  # Workflows that have been read
REFUSED_KEYS = {
    "evaluate.lm_eval": "a run in a cluster cannot fetch the tasks; use 'fineline submit', which packs and sends them"
}
GONE = "its Workflow was deleted before it ended; create the job again"

LOG = logging.getLogger("fineline.api")


class ClusterJobs:
    """A `JobPlace`: a namespace of the cluster."""

    refused_keys: Mapping[str, str] = REFUSED_KEYS

    def __init__(self, namespace: str = "", clock: Callable[[], float] = time.time) -> None:
        """Create the place.

        Args:
            namespace: where Fineline is installed; empty: this pod's.
            clock: returns Unix time.
        """
        self._namespace, self._clock = namespace or cluster_settings.namespace(), clock
        self._archive = JobArchive()
        # The keys change with the values, so these are never out of date.
        self._final_state = functools.lru_cache(MOST_REMEMBERED)(self._state_of_kept)
        self._read = functools.lru_cache(MOST_REMEMBERED)(self._read_version)
        # An end is final, and small to remember: the states of a team's jobs, which are not, are asked for with each new job.
        self._over: set[tuple[str, int]] = set()
        self._settled: dict[tuple[str, int], Spent] = {}
        self._ended_state = functools.lru_cache(MOST_REMEMBERED)(self._state_of_ended)

    def quote(self, recipe: Recipe) -> Quote | None:
        """Check a recipe, and return its quote; None if no node is bought for it.

        Raises:
            UserError: a run of it would fail.
            UnreachableError: something that the check needs did not answer.
        """
        return cluster_quote(_with_own_secrets(recipe))

    def create(self, job: JobRecord, recipe: Recipe) -> None:
        """Create the job's first Workflow; a job that exists stays as it is.

        Raises:
            UserError: the cluster refuses it, or another run has its name.
        """
        if self._archive.record(job.team, job.run) is None:
            own = _with_own_secrets(recipe)
            self._create(job, {"recipe": as_text(own), "name": own.name, "secrets": own.secrets}, 1)

    def jobs(self, team: str) -> list[JobRecord]:
        """Return a team's jobs, the newest first."""
        found = {record.run: record for record in self._archive.records(team)}
        if LABEL.fullmatch(team):
            latest = self._latest_of_each(selector(team))
            found |= {run: record for run, one in latest.items() if (record := _readable(one))}
        return sorted(found.values(), key=lambda record: (record.created_at, record.id), reverse=True)

    def keep_ended(self) -> None:
        """Keep every job that has ended, also if nobody has read it since: Argo deletes its Workflow some days later.

        A job that cannot be kept is logged, and the others are kept.

        Raises:
            UserError: the cluster does not answer.
        """
        for run, one in self._latest_of_each(f"{OF_THE_API},{JOB_LABEL}").items():
            try:
                kept = self._archive.workflow(run)
                if kept is None or attempt_of(kept) < attempt_of(one):
                    self.state(record_of(one))
            except Exception:
                LOG.exception("the job of Workflow %s could not be kept", one["metadata"]["name"])

    def job(self, team: str, job_id: str) -> JobRecord | None:
        """Return a job of a team, or None."""
        run = run_of(job_id)
        if not LABEL.fullmatch(run) or not LABEL.fullmatch(team):
            return None
        latest = self._latest_metadata(team, run)
        return (latest and _readable(latest)) or self._archive.record(team, run)

    def state(self, job: JobRecord) -> JobState:
        """Return the state of a job."""
        state = self._present_state(job)
        if state.status in ENDED:
            self._over.add(_lifetime(job))
        return state

    def _present_state(self, job: JobRecord) -> JobState:
        if final := self._final_state(job.team, job.run, self._archive.changed(job.run)):
            return final
        workflow = self._latest(job)
        if workflow is None:
            kept = self._archive.workflow(job.run)
            if kept is None:
                return JobState(status="failed", message=GONE, finished=float(job.wanted_at or job.created_at))
            return job_state(self._archive.record(job.team, job.run) or job, kept)
        if _readable(workflow) is None or not has_ended(workflow):
            return job_state(_readable(workflow) or job, workflow)
        return self._ended_state(*_version(workflow)) or job_state(record_of(workflow), workflow)

    def _state_of_kept(self, team: str, run: str, _changed: int) -> JobState | None:
        """Return the final state of a job that is kept; None if it is not kept or may still change."""
        record, workflow = self._archive.record(team, run), self._archive.workflow(run)
        if record is None or workflow is None:
            return None
        state = job_state(record, workflow)
        return state if state.status in ENDED else None

    def _read_version(self, name: str, _resource_version: str) -> dict[str, Any] | None:
        return WORKFLOWS.read(name, self._namespace)

    def _state_of_ended(self, name: str, resource_version: str) -> JobState | None:
        """Return the state of a job whose Workflow has ended, and keep it; None if the Workflow is gone."""
        workflow = self._read(name, resource_version)
        if workflow is None:
            return None
        record = record_of(workflow)
        self._archive.save(record, with_nodes(workflow))
        return job_state(record, workflow)

    def known_to_have_ended(self, job: JobRecord) -> bool:
        """Return whether a job has ended, without reading its Workflow; False: its state tells.

        Args:
            job: its present record.
        """
        return _lifetime(job) in self._over

    def spent(self, job: JobRecord) -> Spent:
        """Return what the nodes of a job have cost so far, over all of its pauses.

        Args:
            job: its present record, which tells how often it was resumed.
        """
        if known := self._settled.get(_lifetime(job)):
            return known
        ended, now = self.state(job).status in ENDED, self._clock()
        workflow = self._latest(job) or self._archive.workflow(job.run)
        machines = bought(job.run, 1 + sum(wanted == "run" for _, wanted in job.wishes))
        if workflow is None:
            return Spent(dollars(machines, now), final=False)
        found = Spent(dollars(with_present(machines, workflow, now), now), ended and is_final(workflow))
        if found.final and has_ended(workflow):
            self._settled[_lifetime(job)] = found
        return found

    def cancel(self, job: JobRecord) -> None:
        """Stop the job's run for good; its exit handler gives the node back.

        Raises:
            UserError: the cluster does not answer.
        """
        self._stop(job, "cancel")

    def pause(self, job: JobRecord) -> None:
        """Stop the job's run with its training's checkpoint saved; its exit handler gives the node back.

        Raises:
            UserError: the cluster does not answer.
        """
        self._stop(job, "pause")

    def resume(self, job: JobRecord, budget: float | None = None) -> None:
        """Create the next Workflow of a paused job. Its tuning continues from the checkpoint, which has the same digest.

        Args:
            job: the job.
            budget: dollars that all of its nodes may cost, those before the pause included; None: no more than its recipe says.

        Raises:
            ApiError: the job has reached its budget.
            UserError: the cluster does not answer.
        """
        latest = self._latest(job)
        found = latest or self._archive.workflow(job.run)
        record = record_of(latest) if latest else self._archive.record(job.team, job.run)
        if found is None or record is None:
            raise UserError(f"{job.id}: {GONE}")
        if record.wanted != "pause" or main_phase(with_nodes(found)) == SUCCEEDED:
            return
        attempt = attempt_of(found) + 1
        parameters = continued(job, found, parameters_of(found), budget, self._clock())
        self._create(record.wanting("run", self._clock()), parameters, attempt)
        # A cancellation looks for a later Workflow after it has stopped this one, and misses one that is created after that.
        before = WORKFLOWS.read(name_of(job.run, attempt - 1), self._namespace)
        if before is not None and record_of(before).wanted == "cancel":
            self.cancel(job)

    def _create(self, job: JobRecord, parameters: dict[str, str], attempt: int) -> None:
        body = new_workflow(job, parameters, attempt)
        body["metadata"]["namespace"] = self._namespace
        try:
            WORKFLOWS.create(body, self._namespace)
        except ConflictError:
            check_is_of(WORKFLOWS.read(body["metadata"]["name"], self._namespace), job)

    def _stop(self, job: JobRecord, wanted: Wanted) -> None:
        """Write what is wanted to the latest Workflow, and stop it, in one request."""
        tries = TRIES
        while True:
            found = self._latest(job)
            if found is None:
                self._stop_kept(job, wanted)
                return
            record = record_of(found)
            if main_phase(with_nodes(found)) == SUCCEEDED:
                return
            if record.wanted == "cancel":
                wanted = "cancel"
            metadata, tries, record = found["metadata"], tries - 1, record.wanting(wanted, self._clock())
            notes = {RECORD: record.model_dump_json()}
            if folder := tuning_folder(with_nodes(found)):
                notes[TUNING] = str(folder.relative_to(volumes.runs()))
            body: dict[str, Any] = {
                "metadata": {"annotations": notes, "resourceVersion": metadata["resourceVersion"]},
            }
            if not has_ended(found):
                body["spec"] = {"shutdown": "Stop"}
            try:
                WORKFLOWS.patch(metadata["name"], body, self._namespace)
            except ConflictError:
                if not tries:
                    raise
                time.sleep(PAUSE_SECONDS)
                continue
            if has_ended(found):
                self._archive.save(record, with_nodes(found))
            latest = self._latest_metadata(job.team, job.run)
            if latest is None or latest["metadata"]["name"] == metadata["name"]:
                return

    def _stop_kept(self, job: JobRecord, wanted: Wanted) -> None:
        """Write what is wanted of a job whose Workflows are gone."""
        record = self._archive.record(job.team, job.run)
        if record and record.wanted != "cancel":
            self._archive.save_record(record.wanting(wanted, self._clock()))

    def _latest_of_each(self, selected: str) -> dict[str, dict[str, Any]]:
        """Return the metadata of the latest Workflow of each job, by its run."""
        found = sorted(WORKFLOWS.list_metadata(selected, self._namespace), key=attempt_of)
        return {one["metadata"]["labels"][JOB_LABEL]: one for one in found}

    def _latest_metadata(self, team: str, run: str) -> dict[str, Any] | None:
        return max(WORKFLOWS.list_metadata(selector(team, run), self._namespace), key=attempt_of, default=None)

    def _latest(self, job: JobRecord) -> dict[str, Any] | None:
        """Return the latest Workflow of a job; None if it is gone."""
        while found := self._latest_metadata(job.team, job.run):
            if workflow := self._read(*_version(found)):
                return workflow
        return None


def _version(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"]["name"], item["metadata"]["resourceVersion"]


def _readable(workflow: dict[str, Any]) -> JobRecord | None:
    """Return the record that a Workflow carries; None, with a line in the log, if it cannot be read."""
    try:
        return record_of(workflow)
    except (ValueError, UserError) as error:  # the others must not be hidden by it
        LOG.warning("Workflow %s: its job cannot be read: %s", workflow["metadata"]["name"], first_line(error))
        return None


def _lifetime(job: JobRecord) -> tuple[str, int]:
    """Return what identifies a job until it is paused, resumed, or cancelled the next time."""
    return job.run, len(job.wishes)


def _with_own_secrets(recipe: Recipe) -> Recipe:
    """Return a recipe with the Secrets that the API's own pod has; a caller of the API cannot name any."""
    return recipe.model_copy(update={"secrets": installation.allowed_prefixes()[0]})
