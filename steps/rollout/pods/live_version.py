"""The version that serves in a cluster, once whatever an interrupted rollout has left is put right."""

import time

from steps.common.runtime.progress import say
from steps.rollout.pods import version_objects
from steps.rollout.pods.model_objects import ModelObjects
from steps.rollout.pods.served_version import ServedVersion

# kube-proxy takes a moment to follow a Service; the first request after the switch may still reach the other version.
SETTLE_SECONDS = 3.0


def live_version(api: ModelObjects, champion: int) -> ServedVersion | None:
    """Return the version that serves; None if none does. The trial of an interrupted rollout is ended first.

    The champion decides: if the version on trial already is, the rollout was interrupted after its decision, and the version
    keeps the traffic. Otherwise the version before it gets the traffic back.

    Args:
        api: the model's objects.
        champion: the version that is champion; 0: none.
    """
    live = api.live_service()
    if live is None:
        return None
    now, on_trial_after = api.with_traffic(live), (live["metadata"].get("annotations") or {}).get(version_objects.TRIAL)
    if on_trial_after is None:
        return now
    say("an earlier rollout was interrupted after it had switched the traffic")
    before = api.before_trial(live) if on_trial_after else None
    if now is not None and now.version == champion:
        say(f"version {now.version} has become champion and keeps the traffic")
        keep(api, now.name, before.name if before and before.name != now.name else None, stopped=True)
        api.point_traffic(now)
        return now
    if not on_trial_after:
        api.delete_traffic()
        return None
    if before is None:
        say(f"{on_trial_after} is gone: the version that was on trial serves on")
        return now
    point(api, before)
    say(f"the traffic goes back to version {before.version}")
    return before


def point(api: ModelObjects, served: ServedVersion) -> None:
    """Point the live Service at a version, which is not on trial, and wait until the traffic has followed."""
    api.point_traffic(served)
    time.sleep(SETTLE_SECONDS)


def unfinished(api: ModelObjects, but: set[str]) -> list[str]:
    """Return the Deployments that an interrupted rollout has left, except those named: they have no state."""
    names = [(one["metadata"]["name"], one["metadata"]["labels"]) for one in api.deployments()]
    return [name for name, labels in names if version_objects.STATE not in labels and name not in but]


def keep(api: ModelObjects, live: str, before: str | None, *, stopped: bool) -> None:
    """Mark the Deployment of the version that is champion, keep the one before it for a rollback, and delete all others.

    Args:
        api: the model's objects.
        live: name of the champion's Deployment.
        before: name of the Deployment before it; None: there is none.
        stopped: whether the version before is kept without a pod.
    """
    api.mark(live, version_objects.LIVE)
    if before is not None:
        api.mark(before, version_objects.BEFORE, replicas=0 if stopped else None)
        say(f"{before} is kept for a rollback, {'stopped' if stopped else 'running'}")
    for found in api.deployments():
        if (name := found["metadata"]["name"]) not in (live, before):
            api.delete_version(name)
            say(f"{name} has been deleted")
