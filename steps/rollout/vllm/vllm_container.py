"""The container of a vLLM server, of one merged model or of a base with adapters, and what its pod needs for it."""

from typing import Any

from presets.memory import GIB
from presets.serving_memory import SHARE
from steps.common.handover.resolved import ServingPlan
from steps.common.nodes.gpu_nodes import GPU, TYPE_LABEL
from steps.rollout.checks import server_needs
from steps.rollout.pods import pod_spec
from steps.rollout.vllm.adapter_folder import ADAPTERS

PORT = 8000
# Memory of vLLM's own processes with one GPU, and of the worker of each further GPU; estimated, not measured. The weights
# pass through the page cache, which the kernel frees when it is needed.
HOST_BYTES, SHARED_BYTES, WORKER_BYTES = 8 * GIB, 2 * GIB, 4 * GIB
# Pulling vllm/vllm-openai, 10 GB unpacked, at 50 MB/s; then imports, compilation and graph capture: one to three minutes
# on a GPU, 150 s measured with the CPU build of vLLM 0.32 on two busy cores.
BEGIN_SECONDS = 10e9 / 50e6 + 240.0
END_SECONDS = 15  # to release its GPU
CPU_CACHE_GIB = 4  # of the KV cache, without a GPU
# For a user that the image does not know, HOME is /, which is read-only; torch needs a user name, and caches need a home.
HOME = {"HOME": "/tmp", "USER": "fineline", "XDG_CACHE_HOME": "/tmp/cache"}
ALONE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
# Without the last one, vLLM 0.32 uses no resolver. It also opens paths that load any folder. Only the gateways and the
# rollout can reach this port, and gateways do not forward those paths.
RESOLVER = {
    "VLLM_PLUGINS": "lora_filesystem_resolver",
    "VLLM_LORA_RESOLVER_CACHE_DIR": ADAPTERS,
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
}


def command(served: ServingPlan, model: str, name: str, host: str, answer_seconds: int) -> list[str]:
    """Return the command that starts vLLM.

    Args:
        served: how to serve the model.
        model: path of the model in the pod.
        name: vLLM's name of the model; with adapters, of the base.
        host: address to listen on.
        answer_seconds: time to finish answers after SIGTERM.
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
        # Adapters in the host's memory, such as those of earlier versions, need not be read again.
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
        served: how to serve the model.
        image: vLLM's image.
        start: the command.
        mounts: mounts of the volumes that hold the model.
        weight_bytes: size of the model's weights.
    """
    environment = ALONE | HOME | (RESOLVER if served.form == "adapter" else {})
    memory = HOST_BYTES + SHARED_BYTES + max(0, served.gpus - 1) * WORKER_BYTES
    if not served.gpus:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(CPU_CACHE_GIB)
        memory += weight_bytes + CPU_CACHE_GIB * GIB
    gpus = {GPU: str(served.gpus)} if served.gpus else {}
    # With GPUs, each worker may keep adapters in the host's memory (--max-cpu-loras): together less than a base.
    return {
        **pod_spec.container("server", image, start, [*mounts, {"name": "shm", "mountPath": "/dev/shm"}]),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": pod_spec.resources("1", memory, gpus, weight_bytes if gpus else 0),
    }


def pod_additions(served: ServingPlan) -> dict[str, Any]:
    """Return the fields of a pod's specification that place it on a node with a GPU for vLLM."""
    found: dict[str, Any] = {}
    if served.gpus:
        found["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    if served.instance_type and served.gpus:
        found["nodeSelector"] = {TYPE_LABEL: served.instance_type}
    return found


def ports_and_probes(ready: int) -> dict[str, Any]:
    """Return the ports, the probes and the preStop hook of a vLLM container that the kubelet can reach.

    Args:
        ready: time limit of its start, in seconds.
    """
    probe, period = {"httpGet": {"path": "/health", "port": PORT}, "timeoutSeconds": 5}, server_needs.PROBE_SECONDS
    return {
        "ports": [{"name": "vllm", "containerPort": PORT}],
        "startupProbe": {
            **probe,
            "periodSeconds": period,
            "failureThreshold": server_needs.failure_threshold(ready),
            **pod_spec.PROBE_GRACE,
        },
        "readinessProbe": {**probe, "periodSeconds": period, "failureThreshold": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6, **pod_spec.PROBE_GRACE},
        # After SIGTERM vLLM answers new requests with 500, while its health check still returns 200.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(server_needs.LEAVE_SECONDS)]}}},
    }


def shared_memory() -> dict[str, Any]:
    """Return the volume for the shared memory of vLLM's processes."""
    return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(SHARED_BYTES)}}
