"""The version that serves in a cluster, once whatever an interrupted rollout has left is put right."""

import time
from dataclasses import dataclass
from typing import Any

from steps.common.runtime.progress import say
from steps.rollout.pods import version_objects
from steps.rollout.pods.model_objects import ModelObjects

# kube-proxy takes a moment to follow a Service; the first request after the switch may still reach the other version.
SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class LiveVersion:
    """A version that has the traffic."""

    version: int
    annotations: dict[str, str]  # the hash of its adapter, and its base


def live_version(api: ModelObjects, model: str, champion: int) -> LiveVersion | None:
    """Return the version that serves; None if none does. The trial of an interrupted rollout is ended first.

    The champion decides: if the version on trial already is, the rollout was interrupted after its decision, and the version
    keeps the traffic. Otherwise the version before it gets the traffic back.

    Args:
        api: the model's objects.
        model: name of the model.
        champion: the version that is champion; 0: none.
    """
    live = api.service(model)
    if live is None:
        return None
    number, given = int(live.spec.selector[version_objects.VERSION_LABEL]), live.metadata.annotations or {}
    before = given.get(version_objects.TRIAL)
    if before is None:
        return LiveVersion(number, _identity(given))
    say("an earlier rollout was interrupted after it had switched the traffic")
    if number == champion:
        say(f"version {number} has become champion and keeps the traffic")
        keep(api, model, number, int(before) if before and int(before) != number else None, stopped=True)
        found = LiveVersion(number, _identity(given))
        api.apply(version_objects.service(model, model, number, found.annotations))
        return found
    if not before:
        api.delete_service(model)
        return None
    deployed = api.deployment(version_objects.full_name(model, int(before)))
    found = LiveVersion(int(before), _identity((deployed.metadata.annotations if deployed else None) or {}))
    point(api, model, found)
    say(f"the traffic goes back to version {found.version}")
    return found


def point(api: ModelObjects, model: str, live: LiveVersion) -> None:
    """Point the live Service at a version, which is not on trial, and wait until the traffic has followed."""
    api.apply(version_objects.service(model, model, live.version, live.annotations))
    time.sleep(SETTLE_SECONDS)


def unfinished(api: ModelObjects, but: set[str]) -> list[str]:
    """Return the Deployments that an interrupted rollout has left, except those named: they have no state."""
    names = [(one.metadata.name, one.metadata.labels or {}) for one in api.deployments()]
    return [name for name, labels in names if version_objects.STATE not in labels and name not in but]


def keep(api: ModelObjects, model: str, version: int, before: int | None, *, stopped: bool) -> None:
    """Mark the Deployment of the version that is champion, keep the one before it for a rollback, and delete all others.

    Args:
        api: the model's objects.
        model: name of the model.
        version: the version that is champion.
        before: the version before it; None: there is none.
        stopped: whether the version before is kept without a pod.
    """
    kept = {version_objects.full_name(model, version)}
    api.mark(version_objects.full_name(model, version), version_objects.LIVE)
    if before is not None:
        name = version_objects.full_name(model, before)
        kept.add(name)
        api.mark(name, version_objects.BEFORE, replicas=0 if stopped else None)
        say(f"{name} is kept for a rollback, {'stopped' if stopped else 'running'}")
    for found in api.deployments():
        if found.metadata.name not in kept:
            api.delete_version(found.metadata.name)
            say(f"{found.metadata.name} has been deleted")


def _identity(annotations: dict[str, Any]) -> dict[str, str]:
    return {key: annotations[key] for key in (version_objects.ADAPTER, version_objects.BASE) if key in annotations}
