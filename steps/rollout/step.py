"""The rollout step: start the new version beside the old one, test it, switch the traffic, then make it champion."""

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.adapter.merge import merge_into_base
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import exclusive_lock, write_text
from steps.rollout.checks.before_start import check_adapter, check_model
from steps.rollout.order import RolloutRecord, ServingPlace, roll_out
from steps.rollout.trial.live_gate import questions

ROLLOUT_TAG = "fineline.rollout"  # tag of a version: how its last rollout ended
LONGEST_TAG = 1000


class RolloutInput(Input):
    """The version to serve."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the version's adapter")]
    version: Annotated[int, Parameter(description="The registered version")]
    report: Annotated[str, Parameter(description="File of the evaluation's report")]
    back: Annotated[bool, Parameter(description="Roll back: do not compare it with the version that serves now")] = (
        False
    )
    run: Annotated[str, Parameter(description="Name of this run; empty: the run that made the version")] = ""


class RolloutOutput(Output):
    """Where the version is served."""

    url: str
    model: str


@step
def rollout(input: RolloutInput) -> RolloutOutput:
    """Serve the version, as Deployments in a cluster or as processes on one machine, and make it champion.

    Raises:
        RefusedError: the new server failed. The previous version still has the traffic and the champion alias.
    """
    resolved, name = input.resolved, input.resolved.recipe.name
    record = RolloutRecord(version=input.version, old_version=None)
    store = tracking.client(resolved.tracking.uri)
    try:
        url = _serve(input, record)
    except RefusedError as error:
        record.refused = str(error)
        _save(input, record)
        raise
    versions.make_champion(store, name, input.version)
    _save(input, record, url)
    return RolloutOutput(url=url, model=name)


def _serve(input: RolloutInput, record: RolloutRecord) -> str:
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    check_adapter(input.resolved, adapter, base)
    # An adapter beside its base: the server reads the base's weights.
    model = base if input.resolved.serving_plan.form == "adapter" else merge_into_base(base, adapter)
    # Refuse here, before anything is started, what cannot be served.
    model_bytes = check_model(model)
    with _one_at_a_time(input.resolved.recipe.name):
        return _roll_out(input, record, model, model_bytes)


def _one_at_a_time(name: str) -> AbstractContextManager[None]:
    """Return the lock of a model's rollouts. In a cluster the workflow's mutex does this."""
    if cluster_settings.in_cluster():
        return nullcontext()
    line = WaitingLine()
    return exclusive_lock(
        volumes.serving(name) / "rollout", on_wait=lambda: line.report(f"another rollout of {name} to end")
    )


def _roll_out(input: RolloutInput, record: RolloutRecord, model: Path, model_bytes: int) -> str:
    adapter = Path(input.adapter_folder)
    place = _place(input, model, model_bytes, adapter_sha256(adapter))
    if place.serves_already():
        say(f"{input.resolved.recipe.name}: version {place.old_version} is already being served")
    else:
        roll_out(place, input.resolved, record, questions(Path(input.report)), back=input.back)
    return place.url


def _place(input: RolloutInput, model: Path, model_bytes: int, digest: str) -> ServingPlace:
    resolved, version, adapter = input.resolved, input.version, Path(input.adapter_folder)
    if cluster_settings.in_cluster():
        from steps.rollout.places.cluster_place import ClusterPlace

        return ClusterPlace(resolved, version, model, model_bytes, digest, Path(input.base_folder), adapter)
    from steps.rollout.places.machine_place import MachinePlace

    return MachinePlace(resolved, version, model, model_bytes, digest)


def _save(input: RolloutInput, record: RolloutRecord, url: str = "") -> None:
    """Save the record of the rollout: in the run's folder and, if MLflow answers, there with the run and the version."""
    run = input.run or input.resolved.run or "unnamed"
    file = volumes.run_folder(run) / "rollout.json"
    write_text(file, record.model_dump_json(indent=2) + "\n")
    ending = (
        f"refused: {record.refused}"
        if record.refused
        else f"served since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
    )
    with tracking.telling("the rollout"):
        store = tracking.client(input.resolved.tracking.uri, tracking.BRIEF)
        store.set_model_version_tag(input.resolved.recipe.name, str(input.version), ROLLOUT_TAG, ending[:LONGEST_TAG])
        if run_id := input.resolved.tracking.run_id:
            _log(store, run_id, file, record, url)


def _log(store: Any, run_id: str, file: Path, record: RolloutRecord, url: str) -> None:
    if url:
        store.set_tag(run_id, "fineline.url", url)
    store.log_artifact(run_id, str(file))
    if record.gate:
        store.log_metric(run_id, "rollout/answers_alike", record.gate.alike)
    if record.watched and record.watched.probe_p95_seconds is not None:
        store.log_metric(run_id, "rollout/p95_seconds", record.watched.probe_p95_seconds)
