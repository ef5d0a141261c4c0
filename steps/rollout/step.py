"""The rollout step: a new server beside the old one, asked before it gets the traffic; champion once it has proved itself."""

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
from steps.common.storage import volumes
from steps.common.storage.files import exclusive_lock, write_text
from steps.rollout.checks.before_start import check_adapter, check_model
from steps.rollout.order import ServingPlace, Told, roll_out
from steps.rollout.trial.live_gate import questions

ROLLOUT_TAG = "fineline.rollout"  # of a version: how its last rollout ended
LONGEST_TAG = 1000


class RolloutInput(Input):
    """The version to serve."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the version's adapter")]
    version: Annotated[int, Parameter(description="The registered version")]
    report: Annotated[str, Parameter(description="File of the evaluation's report")]
    back: Annotated[bool, Parameter(description="A person goes back to it: no comparison with what serves now")] = False
    run: Annotated[str, Parameter(description="Name of this run; empty: that which made the version")] = ""


class RolloutOutput(Output):
    """Where it is served."""

    url: str
    model: str


@step
def rollout(input: RolloutInput) -> RolloutOutput:
    """Serve the version, by Deployments in a cluster and by processes elsewhere, and make it champion.

    Raises:
        RefusedError: the new server failed. What served before serves on, and the alias stays.
    """
    resolved, name = input.resolved, input.resolved.recipe.name
    told = Told(version=input.version, old_version=None)
    store = tracking.client(resolved.tracking.uri)
    try:
        url = _serve(input, told)
    except RefusedError as error:
        told.refused = str(error)
        _record(store, input, told)
        raise
    versions.make_champion(store, name, input.version)
    if resolved.tracking.run_id:
        store.set_tag(resolved.tracking.run_id, "fineline.url", url)
    _record(store, input, told)
    return RolloutOutput(url=url, model=name)


def _serve(input: RolloutInput, told: Told) -> str:
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    check_adapter(input.resolved, adapter, base)
    # An adapter that is served beside its base: the base is what is read.
    model = base if input.resolved.serving_plan.form == "adapter" else merge_into_base(base, adapter)
    # Here what could not be served is refused before anything is started.
    model_bytes = check_model(model)
    with _one_at_a_time(input.resolved.recipe.name):
        return _roll_out(input, told, model, model_bytes)


def _one_at_a_time(name: str) -> AbstractContextManager[None]:
    """On one machine a lock; in a cluster it is the workflow that holds one."""
    if cluster_settings.serve_image():
        return nullcontext()
    waiting = f"progress: waiting for another rollout of {name}"
    return exclusive_lock(volumes.serving(name) / "rollout", on_wait=lambda: say(waiting))


def _roll_out(input: RolloutInput, told: Told, model: Path, model_bytes: int) -> str:
    adapter = Path(input.adapter_folder)
    place = _place(input, model, model_bytes, adapter_sha256(adapter))
    if place.serves_already():
        say(f"{input.resolved.recipe.name} version {place.old_version} is served already")
    else:
        roll_out(place, input.resolved, told, questions(Path(input.report)), back=input.back)
    return place.url


def _place(input: RolloutInput, model: Path, model_bytes: int, digest: str) -> ServingPlace:
    resolved, version, adapter = input.resolved, input.version, Path(input.adapter_folder)
    if cluster_settings.serve_image():
        from steps.rollout.places.cluster_place import ClusterPlace

        return ClusterPlace(resolved, version, model, model_bytes, digest, Path(input.base_folder), adapter)
    from steps.rollout.places.machine_place import MachinePlace

    return MachinePlace(resolved, version, model, model_bytes, digest)


def _record(store: Any, input: RolloutInput, told: Told) -> None:
    """Write down how it ended: in the run's folder, and in MLflow at the run and at the version."""
    run = input.run or input.resolved.run or "unnamed"
    file = volumes.run_folder(run) / "rollout.json"
    write_text(file, told.model_dump_json(indent=2) + "\n")
    ending = (
        f"refused: {told.refused}"
        if told.refused
        else f"served since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
    )
    store.set_model_version_tag(input.resolved.recipe.name, str(input.version), ROLLOUT_TAG, ending[:LONGEST_TAG])
    run_id = input.resolved.tracking.run_id
    if not run_id:
        return
    store.log_artifact(run_id, str(file))
    if told.gate:
        store.log_metric(run_id, "rollout/answers_alike", told.gate.alike)
    if told.watched and told.watched.probe_p95_seconds is not None:
        store.log_metric(run_id, "rollout/p95_seconds", told.watched.probe_p95_seconds)
