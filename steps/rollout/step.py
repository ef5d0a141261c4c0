"""The rollout step: start the new version beside the old one, test it, switch the traffic, then make it champion."""

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256
from steps.common.adapter.merge import merge_into_base
from steps.common.handover.report import read_report
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking, versions, withdrawn
from steps.common.registry.verdict import check_verdict
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import InterruptedStepError, RefusedError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.rollout.checks.before_start import check_adapter, check_model
from steps.rollout.lease.right import Purpose, ServingLease
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.order import RolloutRecord, ServingPlace, UndecidedError, roll_out
from steps.rollout.trial.live_gate import questions

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
    by: Annotated[str, Parameter(description="Who rolls back")] = ""
    why: Annotated[str, Parameter(description="Why, for the version that is withdrawn")] = ""
    run: Annotated[str, Parameter(description="Name of this run; empty: the run that made the version")] = ""
    secrets: Annotated[str, Parameter(description="Prefix of the Secret with the API key, as the recipe names it")] = ""


class RolloutOutput(Output):
    """Where the version is served."""

    url: str
    model: str


@step
def rollout(input: RolloutInput) -> RolloutOutput:
    """Serve the version, as Deployments in a cluster or as processes on one machine, and make it champion.

    A rollback withdraws the version that it takes the traffic from: no retraining serves that again by itself.

    Raises:
        RefusedError: the new server failed, the champion has changed since the evaluation, or a rollback took over. The
            previous version still has the traffic and the champion alias.
        InterruptedStepError: this process stood still until another one took over.
        UndecidedError: MLflow did not say whether the version has become champion.
    """
    resolved, name = input.resolved, input.resolved.recipe.name
    record = RolloutRecord(version=input.version, old_version=None)
    store = tracking.client(resolved.tracking.uri)
    try:
        url = _serve(input, record, store)
    except RefusedError as error:
        record.refused = str(error)
        if record.failed_in_watch:
            withdrawn.withdraw(store, name, input.version, "the watch window of its rollout", record.refused)
        _save(input, record)
        raise
    except InterruptedStepError:
        raise  # another process holds the right, perhaps to roll out the same version
    except BaseException:
        with contextlib.suppress(Exception):  # otherwise `recover` does
            store.set_model_version_tag(name, str(input.version), versions.ROLLOUT, versions.INTERRUPTED)
        raise
    _save(input, record, url)
    return RolloutOutput(url=url, model=name)


def _serve(input: RolloutInput, record: RolloutRecord, store: Any) -> str:
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    check_adapter(input.resolved, adapter, base)
    # An adapter beside its base: the server reads the base's weights.
    model = base if input.resolved.serving_plan.form == "adapter" else merge_into_base(base, adapter)
    # Refuse here, before anything is started, what cannot be served.
    model_bytes = check_model(model)
    name, purpose = input.resolved.recipe.name, Purpose.ROLLBACK if input.back else Purpose.ROLLOUT
    with serving_lease(name, purpose, input.version, lambda: _highest_fence(name)) as lease:
        champion = versions.version_at(store, name, versions.CHAMPION)
        if not input.back:
            withdrawn.check_not_withdrawn(store.get_model_version(name, str(input.version)))
            check_verdict(champion, input.version, read_report(Path(input.report)))
        versions.end_rollouts(store, name)
        place = _place(input, model, model_bytes, int(champion.version) if champion else 0, lease)
        make_champion = partial(_make_champion, store, input, champion, lease)
        if place.serves_already():
            say(f"{name}: version {place.old_version} is already being served")
            make_champion()
        else:
            asked = questions(Path(input.report))
            store.set_model_version_tag(name, str(input.version), versions.ROLLOUT, versions.UNDER_WAY)
            roll_out(place, input.resolved, record, asked, back=input.back, make_champion=make_champion)
        return place.url


def _highest_fence(name: str) -> int:
    from steps.rollout.pods.model_objects import highest_fence

    return highest_fence(name)


def _make_champion(store: Any, input: RolloutInput, champion: Any | None, lease: ServingLease) -> None:
    """Make the version the champion; a rollback first withdraws the versions whose place it takes.

    Raises:
        UndecidedError: MLflow did not answer, and cannot be asked what it has done.
    """
    name, version = input.resolved.recipe.name, input.version
    lease.check()
    if input.back:
        for other in {int(champion.version) if champion else 0, lease.taken_from} - {0, version}:
            withdrawn.withdraw(store, name, other, input.by, input.why or f"rolled back to version {version}")
        withdrawn.readmit(store, name, version)
        lease.check()
    try:
        versions.make_champion(store, name, version)
    except Exception as error:
        try:
            now = versions.version_at(store, name, versions.CHAMPION)
        except Exception:
            raise UndecidedError(
                f"MLflow did not say whether {name} version {version} has become the champion; it stays on trial"
            ) from error
        if now is None or int(now.version) != version:
            raise


def _place(input: RolloutInput, model: Path, model_bytes: int, champion: int, lease: ServingLease) -> ServingPlace:
    resolved, version, adapter = input.resolved, input.version, Path(input.adapter_folder)
    digest = adapter_sha256(adapter)
    if cluster_settings.in_cluster():
        from steps.rollout.places.cluster_place import ClusterPlace

        base = Path(input.base_folder)
        return ClusterPlace(resolved, version, model, model_bytes, digest, base, adapter, champion, lease)
    from steps.rollout.places.machine_place import MachinePlace

    return MachinePlace(resolved, version, model, model_bytes, digest, champion, lease)


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
        store.set_model_version_tag(
            input.resolved.recipe.name, str(input.version), versions.ROLLOUT, ending[:LONGEST_TAG]
        )
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
