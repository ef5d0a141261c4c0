"""What Argo's controller does, in its name: creates the pods of a run's steps, with what its executor does around them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from hera.workflows import WorkflowTemplate

from pipelines.cluster.follow import RUN_LABEL
from tests.support.commands import happens
from tests.support.kubectl import get, kubectl

USER = "system:serviceaccount:argo:argo"
AS_ARGO = f"--as={USER}"
CONTROLLER_SECONDS = 7.0  # in which a controller would have taken a run up
PROBE = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"generateName": "probe-"},
    # Suspended: the controller takes it up, and starts nothing.
    "spec": {"workflowTemplateRef": {"name": "receive"}, "suspend": True},
}
STAGING = "/argo/staging"
SECRETS = "{{workflow.parameters.secrets}}"
OF_THE_RECIPE = "{{inputs.parameters.secrets}}"


def admit(namespace: str) -> None:
    """Let the controller work in a namespace."""
    resources = "pods,configmaps,workflows.argoproj.io"
    kubectl("create", "role", "argo", "-n", namespace, "--verb=*", f"--resource={resources}")
    kubectl("create", "rolebinding", "argo", "-n", namespace, "--role=argo", "--serviceaccount=argo:argo")


def takes_up_runs(namespace: str) -> bool:
    """Return whether a controller takes up the namespace's runs."""
    name = kubectl("create", "-n", namespace, "-f", "-", "-o", "name", document=PROBE).stdout.strip()
    phase = ["get", name, "-n", namespace, "-o", "jsonpath={.status.phase}"]
    try:
        return happens(lambda: kubectl(*phase).stdout)
    finally:
        kubectl("delete", name, "-n", namespace)


def in_every_namespace() -> bool:
    """Return whether a controller takes up the runs of any namespace: one that works in a single namespace does not."""
    run = {**PROBE, "spec": {"entrypoint": "none", "suspend": True, "templates": [{"name": "none", "suspend": {}}]}}
    name = kubectl("create", "-n", "default", "-f", "-", "-o", "name", document=run).stdout.strip()
    try:
        return happens(lambda: kubectl("get", name, "-n", "default", "-o", "jsonpath={.status.phase}").stdout)
    finally:
        kubectl("delete", name, "-n", "default")


def create_run(name: str, namespace: str, template: str) -> None:
    """Create the Workflow that owns the pods of a run; a controller that is there must not start pods of its own."""
    labels = {"workflows.argoproj.io/controller-instanceid": "nobody"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"workflowTemplateRef": {"name": template}}
    kubectl(
        "apply", "-f", "-",
        document={"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec},
    )  # fmt: skip


def start_step(
    name: str,
    namespace: str,
    run: str,
    workflow: dict[str, Any],
    step: str,
    inputs: dict[str, str],
    *beside: dict[str, Any],
) -> None:
    """Start a step's pod.

    Args:
        name: of the pod.
        namespace: of the run.
        run: its name.
        workflow: the spec of its template.
        step: the template's name in that spec.
        inputs: the step's parameters.
        beside: further containers.
    """
    template = next(one for one in workflow["templates"] if one["name"] == step)
    metadata = {"name": name, "namespace": namespace}
    data = {"script": json.dumps([{"name": key, "value": value} for key, value in inputs.items()])}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    kubectl("apply", "-f", "-", AS_ARGO, document=config)
    main = json.loads(json.dumps(template["script"]).replace(SECRETS, "fineline").replace(OF_THE_RECIPE, "fineline"))
    source = main.pop("source")
    assert source == "{{inputs.parameters}}"
    main |= {"name": "main", "args": [*main["args"], f"{STAGING}/script"]}
    main["volumeMounts"] = [*main["volumeMounts"], {"name": "inputs", "mountPath": STAGING}]
    uid = get("workflow", run, namespace)["metadata"]["uid"]
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": run, "uid": uid, "controller": True}
    labels = {**template["metadata"]["labels"], RUN_LABEL: run}
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": template["serviceAccountName"],
        **{key: template[key] for key in ("automountServiceAccountToken",) if key in template},
        "securityContext": workflow["securityContext"],
        "containers": [main, *beside],
        "volumes": [*template["volumes"], {"name": "inputs", "configMap": {"name": name}}],
        "terminationGracePeriodSeconds": 1,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": labels, "ownerReferences": [owner]}}
    kubectl("apply", "-f", "-", AS_ARGO, document={**pod, "spec": spec})


@contextmanager
def taking_up(namespace: str, template: WorkflowTemplate) -> Iterator[list[str]]:
    """Start the pod of each run of a template with one step, and yield the names of those runs.

    Where a controller takes them up, this leaves them to it.

    Args:
        namespace: of the runs.
        template: as it is rendered; its step has the template's name, and each input that of a parameter.
    """
    rendered: dict[str, Any] = template.to_dict()
    defaults = {one["name"]: one["value"] for one in rendered["spec"]["arguments"]["parameters"]}
    step = next(one for one in rendered["spec"]["templates"] if one["name"] == template.name)
    wanted = [one["name"] for one in step["inputs"]["parameters"]]

    def of_template() -> list[dict[str, Any]]:
        listed = json.loads(kubectl("get", "workflows", "-n", namespace, "-o", "json").stdout)["items"]
        return [run for run in listed if run["spec"].get("workflowTemplateRef", {}).get("name") == template.name]

    before = {run["metadata"]["name"] for run in of_template()}
    stop, seen, started = threading.Event(), list[str](), set[str]()

    def end(run: str) -> None:
        """Give a run the phase in which its pod has ended."""
        phase = get("pod", run, namespace)["status"]["phase"]
        if phase in ("Succeeded", "Failed"):
            status = json.dumps({"status": {"phase": phase}})
            kubectl("patch", "workflow", run, "-n", namespace, AS_ARGO, "--type=merge", "-p", status)
            started.discard(run)

    def work() -> None:
        while not stop.wait(0.5):
            for run in of_template():
                name, spec = run["metadata"]["name"], run["spec"]
                if name in before:
                    continue
                if name in started:
                    end(name)
                if name in seen:
                    continue
                age = datetime.now(UTC) - datetime.fromisoformat(run["metadata"]["creationTimestamp"])
                if run.get("status", {}).get("phase"):
                    seen.append(name)
                if name in seen or age.total_seconds() < CONTROLLER_SECONDS:
                    continue
                seen.append(name)
                started.add(name)
                given = defaults | {one["name"]: one["value"] for one in spec["arguments"]["parameters"]}
                inputs = {key: given[key] for key in wanted}
                start_step(name, namespace, name, rendered["spec"], str(template.name), inputs)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
