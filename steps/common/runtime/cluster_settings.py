"""Whether the steps run in a Kubernetes cluster, and that cluster's settings for serving."""

import os
from pathlib import Path
from typing import Any

from steps.common.runtime.secret import read_secret

# Image of the Deployments that serve. Set in the namespace's ConfigMap; a run on one machine, even in a pod, does not have it.
SERVE_IMAGE_SETTING = "FINELINE_SERVE_IMAGE"
# Image of the idle pod that holds a new node for its run. Installations of 0.1.0 do not set it.
PAUSE_IMAGE_SETTING, PAUSE_IMAGE = "FINELINE_PAUSE_IMAGE", "registry.k8s.io/pause:3.10"
VLLM_IMAGE_SETTING = "FINELINE_VLLM_IMAGE"  # vLLM's image; unset: the namespace has no GPUs to serve on
SERVE_INSTANCE_TYPE_SETTING = "FINELINE_SERVE_INSTANCE_TYPE"  # of the nodes that vLLM runs on; unset: any with GPUs
AUTOSCALE_SETTING = "FINELINE_AUTOSCALE"  # what scales vLLM's replicas: "hpa" or "keda"; unset: nothing
MOST_REPLICAS_SETTING = "FINELINE_MOST_REPLICAS"  # the most replicas that it may scale to
PROMETHEUS_SETTING = "FINELINE_PROMETHEUS"  # URL of the Prometheus that KEDA queries
# Names, separated by commas, of the Secrets with which the pods that steps create pull their images.
PULL_SECRETS_SETTING = "FINELINE_IMAGE_PULL_SECRETS"
PRIORITY_CLASS_SETTING = "FINELINE_PRIORITY_CLASS"  # of those pods; unset: the cluster's default
API_KEY_SETTING = "FINELINE_API_KEY"  # bearer token that clients of a served model must send; unset: none
PREVIOUS_API_KEY_SETTING = "FINELINE_API_KEY_PREVIOUS"  # accepted too, while clients change from it; unset: none
ONE_NODE_SETTING = "FINELINE_ONE_NODE"  # "true": the volumes can be mounted on one node only
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def in_cluster() -> bool:
    """Return whether this process is a step of a cluster.

    FINELINE_SERVE_IMAGE decides: the namespace's ConfigMap sets it for every step. Whether the process runs in a pod does not
    decide: a run on one machine may run in one too.
    """
    return bool(serve_image())


def serve_image() -> str:
    """Return the image of the Deployments that serve models; empty outside a cluster."""
    return os.environ.get(SERVE_IMAGE_SETTING, "")


def vllm_image() -> str:
    """Return vLLM's image; an empty string if there is none."""
    return os.environ.get(VLLM_IMAGE_SETTING, "")


def pause_image() -> str:
    """Return the image of the idle pod that holds a new node for its run."""
    return os.environ.get(PAUSE_IMAGE_SETTING) or PAUSE_IMAGE


def serve_instance_type() -> str:
    """Return the instance type of the nodes that vLLM runs on; an empty string: any with GPUs."""
    return os.environ.get(SERVE_INSTANCE_TYPE_SETTING, "")


def autoscaler() -> tuple[str, int, str]:
    """Return what scales the replicas ("hpa", "keda" or ""), the most replicas, and the URL of Prometheus."""
    most = int(os.environ.get(MOST_REPLICAS_SETTING) or 4)
    return os.environ.get(AUTOSCALE_SETTING, ""), most, os.environ.get(PROMETHEUS_SETTING, "")


def api_key() -> str:
    """Return the API key that clients of a served model must send; an empty string if none is set.

    Raises:
        UserError: it has a control character inside.
    """
    return read_secret(API_KEY_SETTING)


def api_keys() -> list[str]:
    """Return the API keys that are accepted, the previous one last; clients must send one of them. None if no key is set.

    Raises:
        UserError: one has a control character inside.
    """
    key, previous = api_key(), read_secret(PREVIOUS_API_KEY_SETTING)
    # Envoy refuses a configuration that has the same key twice.
    return list(dict.fromkeys(one for one in (key, previous) if one)) if key else []


def api_key_header() -> dict[str, str]:
    """Return the header with the API key; an empty dictionary if none is required."""
    return {"Authorization": f"Bearer {api_key()}"} if api_key() else {}


def one_node() -> bool:
    """Return whether all pods that mount the volumes have to run on one node."""
    return os.environ.get(ONE_NODE_SETTING) == "true"


def of_every_pod() -> dict[str, Any]:
    """Return the fields of a pod's specification that the installation sets on every pod that a step creates."""
    names = [name.strip() for name in os.environ.get(PULL_SECRETS_SETTING, "").split(",") if name.strip()]
    found: dict[str, Any] = {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
    if priority := os.environ.get(PRIORITY_CLASS_SETTING):
        found["priorityClassName"] = priority
    return found


def namespace() -> str:
    """Return this pod's namespace; outside a cluster, that of the kubeconfig's current context."""
    if NAMESPACE_FILE.exists():
        return NAMESPACE_FILE.read_text().strip()
    from kubernetes import config

    _, current = config.list_kube_config_contexts()
    return str(current["context"].get("namespace") or "default")
