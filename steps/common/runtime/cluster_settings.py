"""Whether the steps run in a Kubernetes cluster, and what they are told of it."""

import os
from pathlib import Path

# Set in the namespace's ConfigMap; a run on one machine, even in a pod, has it not.
SERVE_IMAGE_SETTING = "FINELINE_SERVE_IMAGE"
VLLM_IMAGE_SETTING = "FINELINE_VLLM_IMAGE"  # likewise of vLLM; unset: the namespace has no GPUs to serve on
SERVE_INSTANCE_TYPE_SETTING = "FINELINE_SERVE_INSTANCE_TYPE"  # of the nodes that vLLM is put on; unset: any with GPUs
AUTOSCALE_SETTING = "FINELINE_AUTOSCALE"  # "hpa" or "keda": what changes the number of vLLM's replicas; unset: nothing
MOST_REPLICAS_SETTING = "FINELINE_MOST_REPLICAS"  # that it may come to
PROMETHEUS_SETTING = "FINELINE_PROMETHEUS"  # address of the Prometheus that KEDA asks
API_KEY_SETTING = "FINELINE_API_KEY"  # what a served model's users send as bearer token; unset: nothing
API_KEY_SECRET_SETTING = "FINELINE_API_KEY_SECRET"  # the Secret that holds it under "key"
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
    """Return vLLM's image; empty where there is none."""
    return os.environ.get(VLLM_IMAGE_SETTING, "")


def serve_instance_type() -> str:
    """Return the instance type of the nodes that vLLM is put on; empty: any with GPUs."""
    return os.environ.get(SERVE_INSTANCE_TYPE_SETTING, "")


def autoscaler() -> tuple[str, int, str]:
    """Return what changes the number of replicas ("hpa", "keda", or nothing), to how many, and Prometheus' address."""
    most = int(os.environ.get(MOST_REPLICAS_SETTING) or 4)
    return os.environ.get(AUTOSCALE_SETTING, ""), most, os.environ.get(PROMETHEUS_SETTING, "")


def api_key() -> str:
    """Return what a served model's users have to send; empty where nothing is asked of them."""
    return os.environ.get(API_KEY_SETTING, "")


def api_key_header() -> dict[str, str]:
    """Return the header in which they send it; none where nothing is asked of them."""
    return {"Authorization": f"Bearer {api_key()}"} if api_key() else {}


def api_key_secret() -> str:
    """Return the name of the Secret that may hold the API key."""
    return os.environ.get(API_KEY_SECRET_SETTING, "")


def one_node() -> bool:
    """Tell whether all pods that mount the volumes have to be on one node."""
    return os.environ.get(ONE_NODE_SETTING) == "true"


def namespace() -> str:
    """Return the namespace of this pod; outside of a cluster, that of the kubeconfig's context."""
    if NAMESPACE_FILE.exists():
        return NAMESPACE_FILE.read_text().strip()
    from kubernetes import config

    _, current = config.list_kube_config_contexts()
    return str(current["context"].get("namespace") or "default")
