"""The recover step: gives the traffic of a rollout that died back to the champion.

A rollout that is killed, and not started again by its workflow, leaves its version on trial, or the old one stopped. Nobody
else would notice until the next rollout.
"""

from typing import Any

from hera.workflows.io import Input, Output

from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.kubernetes.resource import DEPLOYMENTS
from steps.common.registry import tracking, versions, withdrawn
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError, UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.rollout.lease.right import BusyError, Purpose, TakenOverError
from steps.rollout.lease.serving_lease import serving_lease
from steps.rollout.pods import version_objects
from steps.rollout.pods.live_version import live_version, unfinished
from steps.rollout.pods.model_objects import ModelObjects, deployments, highest_fence, is_selected, live_service
from steps.rollout.pods.object_names import MODEL_LABEL, VERSION_LABEL
from steps.rollout.pods.served_version import REGISTRY, ServedVersion
from steps.rollout.vllm import base_server

SERVED = "app.kubernetes.io/part-of=fineline,app.kubernetes.io/component=server"


class RecoverInput(Input):
    """Nothing."""


class RecoverOutput(Output):
    """What was done."""

    recovered: str


@step
def recover(input: RecoverInput) -> RecoverOutput:
    """Look at every model that this namespace serves, and put right what a rollout that died has left.

    Raises:
        RefusedError: a model's champion does not become ready; all other models have been looked at.
        UserError: an object of a needed name belongs to somebody else; all other models have been looked at.
        UnreachableError: MLflow does not answer.
    """
    actions, problems, mistakes = [], [], []
    for model, registry in _models().items():
        try:
            actions += _recover(model, registry)
        except RefusedError as error:
            problems.append(f"{model}: {error}")
        except UserError as error:
            mistakes.append(f"{model}: {error}")
    if mistakes:
        raise UserError("; ".join([*mistakes, *problems]))
    if problems:
        raise RefusedError("; ".join(problems))
    return RecoverOutput(recovered="; ".join(actions) or "nothing")


def _models() -> dict[str, str]:
    """Return the models that this namespace serves, each with its registry's address, the installation's own registry first.

    Whoever asks another registry gives up the password of the own one, see `allowed_registries`.
    """
    found = DEPLOYMENTS.list(SERVED, cluster_settings.namespace())
    registries = {
        one["metadata"]["labels"][MODEL_LABEL]: (one["metadata"].get("annotations") or {}).get(REGISTRY, "")
        for one in sorted(found, key=_decides)
    }
    own = tracking.default_uri()
    return {name: uri or own for name, uri in sorted(registries.items(), key=lambda one: (one[1], one[0]))}


def _decides(deployment: dict[str, Any]) -> int:
    """Sort a model's Deployments: last the one whose rollout is under way or died, before it the live one."""
    state = deployment["metadata"]["labels"].get(version_objects.STATE, "")
    return {"": 2, version_objects.LIVE: 1}.get(state, 0)


def _recover(model: str, registry: str) -> list[str]:
    store = tracking.client(registry)
    if not _needs(store, model):
        return []
    try:
        with serving_lease(model, Purpose.RECOVERY, 0, lambda: highest_fence(model)) as lease:
            api = ModelObjects(model, lease)
            api.claim()
            return _put_right(store, api, model)
    except (BusyError, TakenOverError):
        say(f"{model}: a rollout is under way")
        return []


def _needs(store: Any, model: str) -> bool:
    """Return whether something was left behind, or is being changed by a rollout that is under way."""
    live, number = live_service(model), 0
    if live and version_objects.TRIAL in (live["metadata"].get("annotations") or {}):
        return True
    for found in deployments(model):
        metadata = found["metadata"]
        is_live = live is not None and is_selected(found, live)
        number = int(metadata["labels"][VERSION_LABEL]) if is_live else number
        stopped = version_objects.REPLICAS in (metadata.get("annotations") or {}) and not found["spec"].get("replicas")
        if (is_live and stopped) or (not is_live and version_objects.STATE not in metadata["labels"]):
            return True
    return bool(versions.rolled_out_now(store, model)) or _alias_is_late(store, model, number)


def _alias_is_late(store: Any, model: str, live: int) -> bool:
    """Return whether the alias names a withdrawn version that does not serve.

    A rollout wrote it that stood still between its last look at the lease and the write.
    """
    champion = versions.version_at(store, model, versions.CHAMPION)
    if champion is None or not live or int(champion.version) == live:
        return False
    return withdrawn.withdrawal(champion) is not None


def _put_right(store: Any, api: ModelObjects, model: str) -> list[str]:
    champion = versions.version_at(store, model, versions.CHAMPION)
    live = live_version(api, int(champion.version) if champion else 0)
    actions = []
    kept = live.name if live else ""
    for name in unfinished(api, but={kept}):
        api.delete_version(name)
        actions.append(f"{name} has been deleted: its rollout was interrupted")
    if live and api.restart(kept):
        _wait(api, live)
        actions.append(f"{kept} has been started again")
    if live and _alias_is_late(store, model, live.version):
        versions.make_champion(store, model, live.version)
        actions.append(f"{model} version {live.version} is the champion again")
    versions.end_rollouts(store, model)
    if live:
        actions.append(f"{model} version {live.version} has the traffic")
    if cluster_settings.vllm_image():
        base_server.stop_unused()
    for line in actions:
        say(line)
    return actions


def _wait(api: ModelObjects, live: ServedVersion) -> None:
    found = api.deployment(live.name)
    seconds = found.spec.progress_deadline_seconds if found else 0
    wait_until_available(live.name, cluster_settings.namespace(), live.selects, seconds)
