"""What changes the number of a base server's replicas with the requests that wait: a HorizontalPodAutoscaler, or KEDA's."""

from typing import Any

from steps.common.runtime.errors import UserError
from steps.rollout.vllm.base_objects import SERVER_LABEL, BaseServer, owner

HPA, KEDA = "hpa", "keda"
METRIC = "vllm:num_requests_waiting"  # of vLLM, a gauge
# As Prometheus' adapter for Kubernetes may call it: a colon is no part of a metric's name there.
METRIC_OF_ADAPTER = "vllm_num_requests_waiting"
WAITING = 4  # requests that wait for each replica before there is one more
STEADY_SECONDS = 600  # a replica takes minutes to start: it is not given up for a short lull


def autoscaler(kind: str, server: BaseServer, uid: str, most: int, prometheus: str) -> dict[str, Any]:
    """Return the object that scales a base server.

    Args:
        kind: "hpa" or "keda".
        server: the base server.
        uid: of its Deployment, with which the object goes.
        most: replicas that it may come to.
        prometheus: address of the Prometheus that KEDA asks.

    Raises:
        UserError: there is no such kind, or KEDA is not told whom to ask.
    """
    least = server.served.replicas
    metadata = {
        "name": server.name,
        "labels": {"app.kubernetes.io/part-of": "fineline", SERVER_LABEL: server.name},
        "ownerReferences": [owner(server, uid)],
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.name}
    behaviour = {"scaleDown": {"stabilizationWindowSeconds": STEADY_SECONDS}}
    if kind == HPA:
        waiting = {
            "metric": {"name": METRIC_OF_ADAPTER},
            "target": {"type": "AverageValue", "averageValue": str(WAITING)},
        }
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": least,
                "maxReplicas": max(least, most),
                "metrics": [{"type": "Pods", "pods": waiting}],
                "behavior": behaviour,
            },
        }
    if kind != KEDA:
        raise UserError(f"the setting FINELINE_AUTOSCALE is {kind!r}; known are {HPA} and {KEDA}")
    if not prometheus:
        raise UserError("the setting FINELINE_PROMETHEUS is empty; KEDA has to know whom to ask for vLLM's metrics")
    # vLLM's own label: the name to which the base answers.
    query = f'sum({METRIC}{{model_name="{server.name}"}})'
    trigger = {"serverAddress": prometheus, "query": query, "threshold": str(WAITING)}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": least,
            "maxReplicaCount": max(least, most),
            "cooldownPeriod": STEADY_SECONDS,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
            "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": trigger}],
        },
    }
