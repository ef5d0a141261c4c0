"""One node for equal runs: a run that would make the same version waits until the other one no longer needs its node.

What the other run has trained and scored is stored under the address of its inputs, so this run then finds it there.
A Lease for each set of inputs names the run that makes the version. Its Workflow owns the Lease, which goes with it.
"""

import time
from typing import Any

from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import Resolved
from steps.common.kubernetes import client, workflow_objects
from steps.common.kubernetes.api_errors import ConflictError, NotFoundError, api_errors, none_if_absent
from steps.common.runtime import cluster_settings
from steps.common.runtime.waiting import WaitingLine

POLL_SECONDS = 10.0
LAST_STEP = "evaluate"  # that needs the node


def wait_for_equal_run(resolved: Resolved, run: str) -> None:
    """Return when no other run of this namespace trains, or scores, a version from the same inputs.

    Raises:
        UserError: the account lacks a permission, or the cluster does not answer.
    """
    space, line = cluster_settings.namespace(), WaitingLine()
    name = f"fineline-tuning-{made_from(resolved)[:16]}"
    while other := _other_run(name, run, space):
        line.report(f"run {other}, which makes the same version")
        time.sleep(POLL_SECONDS)


def _other_run(name: str, run: str, space: str) -> str:
    """Return the run that makes the version; empty if it is this one from now on."""
    lease = none_if_absent(lambda: client.leases().read_namespaced_lease(name, space))
    holder = str(lease.spec.holder_identity or "") if lease else ""
    if holder == run:
        return ""
    if holder and _needs_its_node(holder, space):
        return holder
    body = _body(name, run, space)
    try:
        with api_errors():
            if lease is None:
                client.leases().create_namespaced_lease(space, body)
            else:
                body["metadata"]["resourceVersion"] = lease.metadata.resource_version
                client.leases().replace_namespaced_lease(name, space, body)
    except (ConflictError, NotFoundError):
        return _other_run(name, run, space)  # another run was faster
    return ""


def _needs_its_node(run: str, space: str) -> bool:
    workflow = workflow_objects.find(run, space)
    if workflow is None or workflow_objects.ended_at(workflow) is not None:
        return False
    return not workflow_objects.task_ended(workflow, LAST_STEP)


def _body(name: str, run: str, space: str) -> dict[str, Any]:
    workflow = workflow_objects.find(run, space)
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": "fineline"}}
    if workflow:
        owner = {"name": run, "uid": workflow["metadata"]["uid"], "kind": "Workflow"}
        metadata["ownerReferences"] = [{"apiVersion": "argoproj.io/v1alpha1", **owner}]
    return {"metadata": metadata, "spec": {"holderIdentity": run}}
