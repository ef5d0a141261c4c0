"""The container of a vLLM server, and what its pod needs besides: of one merged model, or of a base and its adapters."""

from typing import Any

from presets.memory import GIB
from presets.serving_memory import SHARE
from steps.common.handover.resolved import ServingPlan
from steps.common.nodes.gpu_nodes import GPU, TYPE_LABEL
from steps.rollout.checks import server_needs
from steps.rollout.pods import pod_spec
from steps.rollout.vllm.adapter_folder import ADAPTERS

PORT = 8000
# vLLM's own processes; the weights come through the page cache, which counts for nobody.
HOST_BYTES, SHARED_BYTES = 8 * GIB, 2 * GIB
# The image of vllm/vllm-openai, 10 GB unpacked, comes to a node that has none of it at 50 MB/s; then imports, compiling and
# capturing of graphs: one to three minutes on a GPU, 150 s measured with the CPU build of vLLM 0.32 on two busy cores.
BEGIN_SECONDS = 10e9 / 50e6 + 240.0
END_SECONDS = 15  # to give its GPU back
CPU_CACHE_GIB = 4  # of keys and values, where it runs on processors
# The home of a user that the image does not know is /, which is read-only; torch asks for a name, and its caches for a home.
HOME = {"HOME": "/tmp", "USER": "fineline", "XDG_CACHE_HOME": "/tmp/cache"}
ALONE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
# Without the last one vLLM 0.32 asks no resolver. It opens paths that load any folder, too: only the gateways and the
# rollout reach this port, and gateways pass on no such path.
RESOLVER = {
    "VLLM_PLUGINS": "lora_filesystem_resolver",
    "VLLM_LORA_RESOLVER_CACHE_DIR": ADAPTERS,
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
}


def command(served: ServingPlan, model: str, name: str, host: str, answer_seconds: int) -> list[str]:
    """Return the command that starts vLLM.

    Args:
        served: how it serves.
        model: path of the model, in the pod.
        name: to which it answers; with adapters, the base's own.
        host: that it listens on.
        answer_seconds: that answers under way have when it is told to end.
    """
    arguments = {
        "--served-model-name": name,
        "--host": host,
        "--port": str(PORT),
        "--dtype": "bfloat16",
        "--gpu-memory-utilization": f"{SHARE:g}",
        "--max-model-len": str(served.longest) if served.longest else "auto",
        "--shutdown-timeout": str(answer_seconds),
    }
    if served.gpus > 1:
        arguments["--tensor-parallel-size"] = str(served.gpus)
    flags = []
    if served.form == "adapter":
        flags = ["--enable-lora"]
        # Those that wait in the host's memory come back without being read again: the versions before.
        arguments |= {
            "--max-lora-rank": str(served.rank),
            "--max-loras": str(served.max_adapters),
            "--max-cpu-loras": str(2 * served.max_adapters),
        }
    pairs = [part for pair in arguments.items() for part in pair]
    return ["vllm", "serve", model, *pairs, *flags, *served.arguments]


def container(
    served: ServingPlan, image: str, start: list[str], mounts: list[dict[str, Any]], weight_bytes: int
) -> dict[str, Any]:
    """Return the container of a vLLM server, without probes.

    Args:
        served: how it serves.
        image: vLLM's.
        start: the command.
        mounts: of the volumes that hold the model.
        weight_bytes: of the model.
    """
    environment = ALONE | HOME | (RESOLVER if served.form == "adapter" else {})
    memory = HOST_BYTES + SHARED_BYTES
    if not served.gpus:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(CPU_CACHE_GIB)
        memory += weight_bytes + CPU_CACHE_GIB * GIB
    resources: dict[str, Any] = {"requests": {"cpu": "1", "memory": str(memory)}}
    if served.gpus:
        resources["limits"] = {GPU: str(served.gpus)}
    return {
        **pod_spec.container("server", image, start, [*mounts, {"name": "shm", "mountPath": "/dev/shm"}]),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": resources,
    }


def pod_additions(served: ServingPlan) -> dict[str, Any]:
    """Return what a pod's specification has for vLLM besides its container: where it may be put."""
    found: dict[str, Any] = {}
    if served.gpus:
        found["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    if served.instance_type and served.gpus:
        found["nodeSelector"] = {TYPE_LABEL: served.instance_type}
    return found


def reached(ready: int) -> dict[str, Any]:
    """Return what its container has where the kubelet reaches it: ports, probes, and what comes before it is told to end.

    Args:
        ready: seconds that its start may take.
    """
    probe, period = {"httpGet": {"path": "/health", "port": PORT}, "timeoutSeconds": 5}, server_needs.PROBE_SECONDS
    return {
        "ports": [{"name": "vllm", "containerPort": PORT}],
        "startupProbe": {
            **probe,
            "periodSeconds": period,
            "failureThreshold": server_needs.looks(ready),
            **pod_spec.AT_ONCE,
        },
        "readinessProbe": {**probe, "periodSeconds": period, "failureThreshold": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6, **pod_spec.AT_ONCE},
        # A server that was told to end answers new requests with 500, and its health check goes on saying 200.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(server_needs.LEAVE_SECONDS)]}}},
    }


def shared_memory() -> dict[str, Any]:
    """Return the volume in which vLLM's processes meet."""
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(SHARED_BYTES)}}
