"""A vLLM pod: its exact command, its GPUs, probes and deadlines; and which base server takes an adapter."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from presets.memory import GIB
from presets.model_preset import find
from steps.common.handover.resolved import Resolved, ResolvedModel, ServingPlan
from steps.rollout.checks.server_needs import failure_threshold, grace_seconds
from steps.rollout.gateway.envoy import clusters, routes
from steps.rollout.gateway.rewrite import of_route
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.version_objects import VersionSpec, rules
from steps.rollout.pods.version_objects import deployment as version_deployment
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.autoscale import autoscaler
from steps.rollout.vllm.base_objects import BaseServer, deployment, differs, disruption_budget, service
from steps.rollout.vllm.base_server import chosen
from steps.rollout.vllm.with_vllm import with_vllm

DIGEST = "0123456789abcdef" * 4
ADAPTERS = ServingPlan(
    runtime="vllm",
    form="adapter",
    gpus=2,
    replicas=3,
    instance_type="g6.12xlarge",
    longest=8192,
    rank=16,
    max_adapters=4,
    arguments=["--tokenizer-mode=mistral"],
)


def base_server(*, one_node: bool = False, autoscaled: bool = False, image: str = "vllm", **changes: Any) -> BaseServer:
    return BaseServer(
        digest=DIGEST,
        image=image,
        served=ADAPTERS.model_copy(update=changes),
        weight_bytes=16 * GIB,
        read_bytes_a_second=300e6,
        answer_seconds=600,
        one_node=one_node,
        autoscaled=autoscaled,
    )


def test_the_command_of_a_base_server_is_this() -> None:
    assert vllm_container.command(ADAPTERS, "/models/0123456789abcdef", "base-01234567-x", "0.0.0.0", 600) == [
        "vllm",
        "serve",
        "/models/0123456789abcdef",
        *("--served-model-name", "base-01234567-x"),
        *("--host", "0.0.0.0"),
        *("--port", "8000"),
        *("--dtype", "bfloat16"),
        *("--gpu-memory-utilization", "0.9"),
        *("--max-model-len", "8192"),
        *("--shutdown-timeout", "600"),
        *("--tensor-parallel-size", "2"),
        *("--max-lora-rank", "16"),
        *("--max-loras", "4"),
        *("--max-cpu-loras", "8"),
        "--enable-lora",
        "--tokenizer-mode=mistral",
    ]


def test_a_merged_model_is_served_without_adapters_and_vllm_finds_out_what_fits_an_unknown_gpu() -> None:
    command = vllm_container.command(ServingPlan(runtime="vllm", gpus=1), "/models/store", "store", "127.0.0.1", 600)
    assert command[command.index("--max-model-len") + 1] == "auto"
    assert not [part for part in command if "lora" in part or "parallel" in part]


def test_a_base_servers_pod_is_placed_on_its_gpus_and_mounts_read_only() -> None:
    spec = deployment(base_server())["spec"]
    pod, (container,) = spec["template"]["spec"], spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 3
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "g6.12xlarge"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    mounts = {
        one["mountPath"]: (one["name"], one.get("subPath"), one.get("readOnly")) for one in container["volumeMounts"]
    }
    assert mounts == {
        "/models/0123456789abcdef": ("weights", "models/0123456789abcdef", True),
        "/adapters": ("runs", "adapters", True),
        "/tmp": ("tmp", None, None),
        "/dev/shm": ("shm", None, None),
    }
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(2 * GIB)}
    assert volumes["weights"]["persistentVolumeClaim"] == {"claimName": "fineline-weights", "readOnly": True}
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["VLLM_LORA_RESOLVER_CACHE_DIR"] == "/adapters"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_each_worker_of_vllm_and_its_adapters_have_room_in_the_hosts_memory() -> None:
    def memory(gpus: int) -> dict[str, int]:
        (container,) = deployment(base_server(gpus=gpus))["spec"]["template"]["spec"]["containers"]
        return {kind: int(given["memory"]) for kind, given in container["resources"].items()}

    assert memory(1) == {"requests": 10 * GIB, "limits": (2 * 10 + 16) * GIB}
    assert memory(8) == {"requests": 38 * GIB, "limits": (2 * 38 + 16) * GIB}


def test_replicas_prefer_different_nodes_unless_one_node_has_the_volumes() -> None:
    apart = deployment(base_server())["spec"]["template"]["spec"]["affinity"]
    assert list(apart) == ["podAntiAffinity"]
    together = deployment(base_server(one_node=True))["spec"]["template"]["spec"]["affinity"]
    assert set(together) == {"podAntiAffinity", "podAffinity"}


def test_probes_and_deadlines_follow_from_bytes_and_speed() -> None:
    reads = base_server().model_copy(update={"weight_bytes": 60_000_000_000, "read_bytes_a_second": 150e6})
    assert reads.ready_seconds == 2 * (200 + 240 + 400)
    assert failure_threshold(601) == 121
    assert grace_seconds(600, vllm_container.END_SECONDS) == 620
    spec = deployment(base_server())["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= spec["progressDeadlineSeconds"]
    # What a pod's end consists of: the wait for the endpoints, then vLLM's own time for answers in progress.
    stopped = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > stopped + 600


def test_gateways_find_every_replica_and_are_not_base_servers_themselves() -> None:
    server = base_server()
    found = service(server)["spec"]
    assert found["clusterIP"] == "None"
    labels = deployment(server)["spec"]["template"]["metadata"]["labels"]
    assert found["selector"].items() <= labels.items()
    gateway = version_deployment(version_at(server))["spec"]["template"]
    assert not found["selector"].items() <= gateway["metadata"]["labels"].items()
    assert [one["name"] for one in gateway["spec"]["containers"]] == ["gateway"]
    assert gateway["metadata"]["labels"]["fineline.dev/upstream"] == server.name
    # It mounts no volumes, so nothing ties it to their node.
    assert "fineline.dev/mounts" not in gateway["metadata"]["labels"]
    assert list(gateway["spec"]["affinity"]) == ["podAntiAffinity"]
    assert "initContainers" not in gateway["spec"]
    assert [one["name"] for one in gateway["spec"]["volumes"]] == ["tmp"]


def test_a_gateway_asks_the_base_server_for_vllms_name_of_the_version() -> None:
    serving = version_at(base_server())
    (cluster, _) = clusters([serving.upstream], Path("/tmp/admin"))
    assert (cluster["type"], cluster["lb_policy"]) == ("STRICT_DNS", "LEAST_REQUEST")
    found = json.dumps(routes(serving.rules, serving.upstream))
    assert json.dumps(of_route("store-v1-0", "store")) in found
    own = serving.upstream.model_copy(update={"host": "127.0.0.1", "model": ""})
    assert clusters([own], Path("/tmp/admin"))[0]["type"] == "STATIC"
    assert "transform" not in json.dumps(routes(serving.rules, own))


def test_a_merged_model_has_vllm_in_its_own_pod_behind_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_VLLM_IMAGE", "vllm")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    served = ServingPlan(runtime="vllm", gpus=1, replicas=2, instance_type="g6.xlarge", longest=4096)
    plain = version_at(base_server()).model_copy(update={"base_server": "", "sub_path": "merged/x"})
    plain = plain.model_copy(
        update={"replicas": 2, "upstream": Upstream(port=8000, version=1, run="r", base="b", adapter_sha256="a")}
    )
    shape = find("llama-3.2-1b-instruct")[0].architecture
    model = ResolvedModel(name="m", uri="u", digest="d", bytes=1, licence="l", architecture=shape)
    given: dict[str, Any] = {"serving_plan": served, "model": model}
    resolved = Resolved.model_construct(**given)
    spec = version_deployment(with_vllm(plain, resolved, tmp_path, tmp_path, 100e6))["spec"]
    pod = spec["template"]["spec"]
    (server,) = pod["initContainers"]
    assert spec["replicas"] == 2
    assert server["command"][:9] == [
        *("vllm", "serve", "/models/store", "--served-model-name", "store"),
        *("--host", "127.0.0.1", "--port", "8000"),
    ]
    assert server["restartPolicy"] == "Always"
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"node.kubernetes.io/instance-type": "g6.xlarge"}
    assert {one["name"] for one in pod["volumes"]} == {"runs", "tmp", "shm"}


def version_at(server: BaseServer) -> VersionSpec:
    upstream = Upstream(
        host=server.name, port=8000, model="store-v1-0", version=1, run="r", base="b", adapter_sha256="a"
    )
    return VersionSpec(
        name="store",
        digest="0123456789abcdef",
        image="fineline-serve:0.1.0",
        sub_path="",
        memory_bytes=1 << 30,
        ready_seconds=60,
        compute_type="float32",
        rules=rules("store", 600, 1 << 22, 0),
        api_key_secret="",
        one_node=True,
        upstream=upstream,
        base_server=server.name,
    )


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_drained_node_takes_one_replica_at_a_time_and_is_never_held_up_by_the_only_one(replicas: int) -> None:
    server = base_server(replicas=replicas)
    version = version_at(server).model_copy(update={"replicas": replicas})
    pairs = [
        (disruption_budget(server, "uid"), deployment(server)),
        (version_objects.disruption_budget(version, "uid"), version_deployment(version)),
    ]
    for budget, served in pairs:
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == served["spec"]["selector"]
        (owner,) = budget["metadata"]["ownerReferences"]
        assert (owner["name"], owner["uid"]) == (served["metadata"]["name"], "uid")
        assert served["spec"]["replicas"] == replicas


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"rank": 8}, ""),
        ({"max_adapters": 2}, ""),
        ({"replicas": 9}, ""),
        ({"rank": 32}, "up to rank 16, and this one has rank 32"),
        ({"max_adapters": 8}, "room for 4 adapters, not 8"),
        ({"gpus": 4}, "other GPUs"),
        ({"arguments": []}, "other arguments"),
        ({"image": "vllm:2"}, "its image is vllm, not vllm:2"),
    ],
)
def test_a_running_base_server_is_used_again_unless_it_would_have_to_restart(changes: dict[str, Any], why: str) -> None:
    there, wanted = base_server(), base_server(**changes)
    assert why in differs(there, wanted)
    assert bool(differs(there, wanted)) == bool(why)
    used = chosen([there], wanted)
    assert (used.name == there.name) == (not why)
    if not why:
        assert used.served.replicas == max(3, wanted.served.replicas)


KWARGS = "--default-chat-template-kwargs="
PARSER = ["--enable-auto-tool-choice", "--tool-call-parser=hermes"]


@pytest.mark.parametrize(
    ("has", "needs", "told"),
    [
        ([], PARSER, "leaves calls of tools in the answer's text; to restart it with " + " ".join(PARSER)),
        (PARSER, [], "with the parser hermes; to restart it without a parser, .*: kubectl edit deployment base--"),
        (["--enforce-eager", *PARSER], ["--enforce-eager", *PARSER[:1], "--tool-call-parser=xlam"], "parser=xlam"),
        (PARSER, PARSER, None),
        (PARSER, [KWARGS + "{}", *PARSER], ""),
        ([KWARGS + '{"a": true}'], [KWARGS + '{"a": false}'], ""),
    ],
)
def test_a_running_base_server_is_used_again_whatever_its_parser_of_calls_and_says_so(
    has: list[str], needs: list[str], told: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    there, wanted = base_server(arguments=has), base_server(arguments=needs)
    used = chosen([there], wanted)
    assert (used.name == there.name) == (told != "")
    said = capsys.readouterr().err
    assert re.search(told, said) if told else "calls of tools" not in said


def test_a_base_server_has_another_name_only_if_it_would_have_to_restart() -> None:
    assert base_server().name == base_server(replicas=1, gpu="L4").name
    assert base_server().name != base_server(rank=32).name
    assert base_server().name.startswith("base--01234567-")


def test_a_base_server_that_another_release_has_named_keeps_its_name() -> None:
    there = base_server().model_copy(update={"found_as": "base-01234567-a1b2c3"})
    assert chosen([there], base_server()).name == "base-01234567-a1b2c3"
    labels = deployment(there)["metadata"]["labels"]
    assert labels["fineline.dev/base-server"] == "base-01234567-a1b2c3"
    assert "found_as" not in deployment(there)["metadata"]["annotations"]["fineline.dev/served"]


def test_the_deployment_leaves_the_number_of_replicas_to_its_autoscaler() -> None:
    assert "replicas" not in deployment(base_server(autoscaled=True))["spec"]
    by_kubernetes = autoscaler("hpa", base_server(), "uid", 8, "")["spec"]
    assert (by_kubernetes["minReplicas"], by_kubernetes["maxReplicas"]) == (3, 8)
    by_keda = autoscaler("keda", base_server(), "uid", 2, "http://prometheus")["spec"]
    assert (by_keda["minReplicaCount"], by_keda["maxReplicaCount"]) == (3, 3)
    (trigger,) = by_keda["triggers"]
    assert trigger["metadata"]["query"] == f'sum(vllm:num_requests_waiting{{model_name="{base_server().name}"}})'
