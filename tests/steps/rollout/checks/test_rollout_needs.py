"""What a server needs, and the limits in its Deployment that follow from it."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.version_objects import VersionSpec, deployment
from steps.rollout.server import serve_model

GIB = 1 << 30


def test_a_server_needs_its_weights_and_a_gibibyte() -> None:
    assert server_needs.memory_bytes(135_000_000, "float32") == 540_000_000 + GIB
    assert server_needs.memory_bytes(8_000_000_000, "bfloat16") == 16_000_000_000 + GIB


def test_a_large_model_may_take_twice_as_long_as_reading_it_takes() -> None:
    assert server_needs.ready_seconds(0, 300e6) == 2 * server_needs.BEGIN_SECONDS
    assert server_needs.ready_seconds(60e9, 100e6) == 2 * (server_needs.BEGIN_SECONDS + 600)
    assert server_needs.ready_seconds(60e9, 900e6) == 2 * (
        server_needs.BEGIN_SECONDS + 300
    )  # nor for faster than 200 MB/s
    assert server_needs.ready_seconds(60e9, 1e6) == 2 * (server_needs.BEGIN_SECONDS + 1200)  # nor slower than 50 MB/s


def test_the_recipes_limit_takes_precedence() -> None:
    assert server_needs.ready_seconds(200e9, 300e6, wanted=60) == 60


def test_the_read_speed_is_measured_on_the_largest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(8 << 20))
    read: list[int] = []
    plain = os.read

    def slowly(descriptor: int, count: int) -> bytes:
        time.sleep(0.02)
        block = plain(descriptor, count)
        read.append(len(block))
        return block

    assert read_speed(tmp_path) > 0
    monkeypatch.setattr(os, "read", slowly)
    assert read_speed(tmp_path) < (8 << 20) / (8 * 0.02)
    assert sum(read) == 8 << 20


def served(ready_seconds: int, answer_seconds: int) -> dict[str, Any]:
    serving = VersionSpec(
        name="store",
        digest="0123456789abcdef",
        image="serve",
        sub_path="merged/x",
        memory_bytes=GIB,
        ready_seconds=ready_seconds,
        rules=version_objects.rules("store", answer_seconds, 4 << 20, 0),
        compute_type="float32",
        api_key_secret="fineline-api-key",
        one_node=False,
        upstream=Upstream(port=version_objects.SERVER_PORT, version=1, run="r", base="b", adapter_sha256="a"),
    )
    return deployment(serving)


@pytest.mark.parametrize("ready_seconds", [1, 123, 6264])
def test_no_probe_and_no_deadline_ends_a_server_before_its_time_limit(ready_seconds: int) -> None:
    spec = served(ready_seconds, 600)["spec"]
    (server,) = spec["template"]["spec"]["initContainers"]
    probe = server["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= ready_seconds
    assert spec["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("answer_seconds", [1, 600, 7200])
def test_a_pod_may_take_as_long_to_end_as_the_longest_answer(answer_seconds: int) -> None:
    pod = served(60, answer_seconds)["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    leave, answer = (int(part) for part in gateway["lifecycle"]["preStop"]["exec"]["command"][-2:])
    assert answer == answer_seconds
    assert pod["terminationGracePeriodSeconds"] > leave + answer


def test_the_api_keys_are_in_no_command_and_the_server_does_not_get_them() -> None:
    pod = served(60, 600)["spec"]["template"]["spec"]
    (server,), (gateway,) = pod["initContainers"], pod["containers"]
    assert {setting["name"]: setting["valueFrom"]["secretKeyRef"] for setting in gateway["env"]} == {
        "FINELINE_API_KEY": {"name": "fineline-api-key", "key": "key", "optional": False},
        "FINELINE_API_KEY_PREVIOUS": {"name": "fineline-api-key", "key": "previous", "optional": True},
    }
    assert not any("KEY" in setting["name"] for setting in server["env"])


def test_the_model_server_listens_only_inside_its_pod() -> None:
    pod = served(60, 600)["spec"]["template"]["spec"]
    (server,) = pod["initContainers"]
    assert serve_model.MODULE in server["command"]
    assert "--host" not in server["command"]
    assert serve_model.HOST == "127.0.0.1"
    assert "ports" not in server


def test_another_model_server_has_the_same_gateway() -> None:
    serving = VersionSpec(
        name="store",
        digest="0123456789abcdef",
        image="serve",
        sub_path="",
        memory_bytes=GIB,
        ready_seconds=60,
        rules=version_objects.rules("store", 600, 4 << 20, 0),
        compute_type="float32",
        api_key_secret="",
        one_node=True,
        upstream=Upstream(port=version_objects.SERVER_PORT, version=1, run="r", base="b", adapter_sha256="a"),
    )
    serving.server = {"name": "server", "image": "other"}
    pod = deployment(serving)["spec"]["template"]["spec"]
    assert [(one["name"], one["image"]) for one in pod["initContainers"]] == [("server", "other")]
    assert [one["name"] for one in pod["containers"]] == ["gateway"]
